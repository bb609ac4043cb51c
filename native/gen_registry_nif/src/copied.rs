//! Terms that are kept as the VM's own copies, because no run of words holds them exactly.

use registry_table::Opaque;
use rustler::Term;
use rustler::sys::{
    ErlNifEnv, ErlNifTerm, enif_alloc_env, enif_free_env, enif_is_identical, enif_make_copy,
};

/// A term in an environment of its own.
pub struct Copied {
    env: *mut ErlNifEnv,
    term: ErlNifTerm,
}

// SAFETY: the environment belongs to no process, is written only while `keep` makes it, and holds
// nothing but the term, which is immutable. Any thread may read it, and free it when nobody does.
unsafe impl Send for Copied {}
// SAFETY: as above.
unsafe impl Sync for Copied {}

impl Copied {
    /// A copy of the term in `env`.
    pub fn term<'a>(&self, env: rustler::Env<'a>) -> Term<'a> {
        // SAFETY: the source is alive as long as `self`, and the copy is made in `env`.
        unsafe { Term::new(env, enif_make_copy(env.as_c_arg(), self.term)) }
    }
}

impl Opaque for Copied {
    type Probe<'a> = Term<'a>;

    fn keep(probe: Term<'_>) -> Self {
        point!(c"keep");
        // SAFETY: `probe` is alive for this call, and the environment is this copy's alone.
        unsafe {
            let env = enif_alloc_env();
            let term = enif_make_copy(env, probe.as_c_arg());
            Self { env, term }
        }
    }

    fn is(&self, probe: Term<'_>) -> bool {
        point!(c"is");
        // SAFETY: both terms are alive for this call, which only reads them.
        unsafe { enif_is_identical(self.term, probe.as_c_arg()) != 0 }
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        point!(c"free");
        // SAFETY: `keep` allocated it, and nobody reads it any more.
        unsafe { enif_free_env(self.env) };
    }
}
