//! Terms that are kept as the VM's own copies, because no run of words holds them exactly.

use std::sync::Arc;

use registry_table::Opaque;
use rustler::sys::{
    ErlNifEnv, ErlNifTerm, enif_alloc_env, enif_binary_to_term, enif_free_env, enif_is_identical,
    enif_make_copy,
};
use rustler::{Env, Term};

use crate::external::unreadable;
use crate::timeslice::collect;

/// About how many bytes an environment of the VM takes by itself.
const ENVIRONMENT: usize = 1024;

/// How many bytes there may be of the external format of a term that is remembered after its process
/// is gone.
const SMALL: usize = 1024;

/// About how many nanoseconds a comparison takes besides one for each byte of the external format.
const COMPARED: usize = 20;

/// A term in an environment of its own.
pub struct Copied {
    env: *mut ErlNifEnv,
    term: ErlNifTerm,
    /// About how many nanoseconds it takes to compare it.
    work: usize,
    /// Its external format, if that is small. By a thin pointer, as all ids that fit into no slot have
    /// the room of this.
    flat: Option<Arc<Vec<u8>>>,
}

// SAFETY: the environment belongs to no process, is written only while it is made, and holds
// nothing but the term, which is immutable. Any thread may read it, and free it when nobody does.
unsafe impl Send for Copied {}
// SAFETY: as above.
unsafe impl Sync for Copied {}

impl Copied {
    /// The VM's copy: it holds all of a binary that a part of is in the term.
    pub fn of(term: Term<'_>) -> Self {
        // SAFETY: the environment is this copy's alone, and `term` is alive for this call.
        let (env, term) = unsafe {
            let env = enif_alloc_env();
            (env, enif_make_copy(env, term.as_c_arg()))
        };
        Self {
            env,
            term,
            work: 0,
            flat: None,
        }
    }

    /// What the VM reads in the external format of a term.
    fn from_external(external: &[u8]) -> Option<Self> {
        // SAFETY: any thread may allocate one.
        let env = unsafe { enif_alloc_env() };
        let mut copied = Self {
            env,
            term: ErlNifTerm::default(),
            work: 0,
            flat: None,
        };
        let (bytes, size) = (external.as_ptr(), external.len());
        // SAFETY: the bytes are alive for this call, which writes the term if it reads any of them.
        let read = unsafe { enif_binary_to_term(copied.env, bytes, size, &mut copied.term, 0) };
        (read > 0).then_some(copied)
    }

    /// A copy of the term in `env`.
    pub fn term<'a>(&self, env: Env<'a>) -> Term<'a> {
        // SAFETY: the source is alive as long as `self`, and the copy is made in `env`.
        unsafe { Term::new(env, enif_make_copy(env.as_c_arg(), self.term)) }
    }
}

impl Opaque for Copied {
    type Probe<'a> = Term<'a>;

    /// The VM's copy of a part of a binary holds the whole binary in memory. So the term is built anew
    /// from its external format, unless it is a number or a name, which hold nothing.
    fn keep(probe: Term<'_>) -> Self {
        point!(c"keep");
        let external = probe.to_binary();
        let readable = !unreadable(&external);
        let is_leaf = probe.is_number() || probe.is_ref() || probe.is_pid() || probe.is_port();
        let rebuilt = (readable && !is_leaf)
            .then(|| Self::from_external(&external))
            .flatten()
            // The VM promises no more than that most terms come back.
            .filter(|rebuilt| rebuilt.is(probe));
        let comes_back = rebuilt.is_some() || (readable && is_leaf);
        let mut kept = rebuilt.unwrap_or_else(|| Self::of(probe));
        kept.work = COMPARED + external.len();
        kept.flat = (comes_back && external.len() <= SMALL).then(|| Arc::new(external.to_vec()));
        kept
    }

    fn is(&self, probe: Term<'_>) -> bool {
        point!(c"is");
        // Those that a stranger has chosen to collide are compared one after the other.
        collect(probe.get_env(), self.work);
        // SAFETY: both terms are alive for this call, which only reads them.
        unsafe { enif_is_identical(self.term, probe.as_c_arg()) != 0 }
    }

    /// Without the contents, of which the table knows the words.
    fn bytes(&self) -> usize {
        ENVIRONMENT + self.flat.as_ref().map_or(0, |flat| flat.len())
    }

    fn flat(&self) -> Option<Arc<Vec<u8>>> {
        self.flat.clone()
    }
}

impl Drop for Copied {
    /// Run by the thread that frees. That is no scheduler, which the VM has `enif_free_env` allow: what
    /// the term refers to goes back to the allocators of the threads that made it, and a resource's
    /// destructor is run by a scheduler.
    fn drop(&mut self) {
        point!(c"free");
        // SAFETY: it was allocated for this copy, and nobody reads it any more.
        unsafe { enif_free_env(self.env) };
    }
}
