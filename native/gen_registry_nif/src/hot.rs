//! Functions without the macro's wrapper, which allocates a vector for the arguments of each call.
//!
//! They take ids. One that is too large for a normal scheduler makes the call run again on a dirty
//! one.

use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use registry_table::Id;
use rustler::sys::{
    ERL_NIF_DIRTY_JOB_CPU_BOUND, ErlNifEnv, ErlNifTerm, enif_make_badarg, enif_raise_exception,
    enif_schedule_nif,
};
use rustler::{Encoder, Env, Error, Term};

use crate::flatten::{Form, Words, compound_like, immediate};
use crate::weigh::Unfit;
use crate::words::FEW;

/// How many words of an id a normal scheduler may handle: some tens of microseconds.
pub const NORMAL: usize = 8 * 1024;

/// How many words an id may have at all: 16 MB. Parts that a term shares count each time, so that
/// one of a few words can be larger than any memory: such a term is no id. `weigh.rs` says what
/// counts how much.
pub const LARGEST: usize = 2 * 1024 * 1024;

/// Why a body has no result.
pub enum Failed {
    /// The id is too large for this scheduler.
    TooLarge,
    /// The term is larger than any id.
    NoId,
    /// Elixir has to measure the id: see `measured.rs`.
    Sealed,
    /// An argument is of the wrong kind.
    BadArg,
}

impl From<Error> for Failed {
    /// A decoder's only error is that the argument is of the wrong kind.
    fn from(_: Error) -> Self {
        Self::BadArg
    }
}

impl Failed {
    /// Has a sealed id go back to the caller, who then need not keep it meanwhile.
    #[inline]
    pub fn with_id_back(self, id: Term<'_>) -> Result<Term<'_>, Self> {
        match self {
            Self::Sealed => Ok((crate::atoms::sealed(), id).encode(id.get_env())),
            failed => Err(failed),
        }
    }
}

/// A function as the VM calls it.
pub type Entry = unsafe extern "C" fn(*mut ErlNifEnv, c_int, *const ErlNifTerm) -> ErlNifTerm;

/// Declares a function of the NIF library.
macro_rules! nif {
    ($name:literal, $arity:literal, $body:path) => {
        rustler::codegen_runtime::inventory::submit!(rustler::Nif {
            name: $name.as_ptr(),
            arity: $arity,
            flags: 0,
            raw_func: {
                unsafe extern "C" fn entry<const LIMIT: usize>(
                    env: *mut rustler::sys::ErlNifEnv,
                    _argc: std::ffi::c_int,
                    argv: *const rustler::sys::ErlNifTerm,
                ) -> rustler::sys::ErlNifTerm {
                    let dirty = ($name, entry::<{ usize::MAX }> as $crate::hot::Entry);
                    // SAFETY: the VM passes as many arguments as are declared above.
                    unsafe { $crate::hot::run(env, argv, $body, LIMIT, dirty) }
                }
                entry::<{ $crate::hot::NORMAL }>
            },
        });
    };
}
pub(crate) use nif;

/// Runs a NIF's body for the VM; no panic gets past here. The body takes the arguments, and how many
/// words an id may have.
///
/// # Safety
///
/// `env` is the environment of a call of the VM, and `argv` has `ARITY` terms of it.
#[inline]
pub unsafe fn run<const ARITY: usize>(
    env: *mut ErlNifEnv,
    argv: *const ErlNifTerm,
    body: impl for<'a> Fn(Env<'a>, [Term<'a>; ARITY], usize) -> Result<Term<'a>, Failed>,
    limit: usize,
    dirty: (&'static CStr, Entry),
) -> ErlNifTerm {
    // All of it in here: what this closure takes or answers may go by way of memory, and so would the
    // terms, if they were made outside.
    let answer = catch_unwind(AssertUnwindSafe(|| {
        point!(dirty.0);
        let lifetime = ();
        // SAFETY: by the contract above. The lifetime is of this call, as is the environment.
        let call = unsafe { Env::new(&lifetime, env) };
        let terms = std::array::from_fn(|index| {
            // SAFETY: `index` is below `ARITY`.
            unsafe { Term::new(call, *argv.add(index)) }
        });
        match body(call, terms, limit) {
            Ok(term) => term.as_c_arg(),
            Err(Failed::NoId) => crate::atoms::not_found().as_c_arg(),
            Err(Failed::Sealed) => crate::atoms::sealed().as_c_arg(),
            // SAFETY: it is the call's own environment.
            Err(Failed::BadArg) => unsafe { enif_make_badarg(env) },
            Err(Failed::TooLarge) => {
                let (name, entry) = dirty;
                let flags = ERL_NIF_DIRTY_JOB_CPU_BOUND as c_int;
                // SAFETY: as above, and `argv` is what came with it.
                unsafe { enif_schedule_nif(env, name.as_ptr(), flags, entry, ARITY as c_int, argv) }
            }
        }
    }));
    // SAFETY: it is the call's own environment.
    answer.unwrap_or_else(|_| unsafe {
        enif_raise_exception(env, crate::atoms::nif_panicked().as_c_arg())
    })
}

/// Runs `f` with the id that `term` is.
#[inline(always)]
pub fn with_id<'a, R>(
    term: Term<'a>,
    limit: usize,
    f: impl FnOnce(&Id<'_, Term<'a>>) -> R,
) -> Result<R, Failed> {
    // Only made for those who need the room.
    let mut few;
    let mut words;
    let id = match immediate(term) {
        Some(id) => id,
        None => {
            few = [0; FEW];
            let form = Form::of(term, &mut few);
            match form.id(&few) {
                Some(id) => id,
                None => {
                    words = Words::new();
                    compound_of_any_size(form, term, &mut words, limit)?
                }
            }
        }
    };
    Ok(f(&id))
}

/// The id that a compound term is, if this scheduler may handle it and it is an id at all. Out of line:
/// what a call returns goes by way of memory, and so would the ids of few words.
#[inline(never)]
pub fn compound_of_any_size<'w, 'a: 'w>(
    form: Form<'a>,
    term: Term<'a>,
    words: &'w mut Words,
    limit: usize,
) -> Result<Id<'w, Term<'a>>, Failed> {
    compound_like(form, term, words, limit.min(LARGEST)).map_err(|unfit| match unfit {
        Unfit::Sealed => Failed::Sealed,
        Unfit::TooLarge if limit < LARGEST => Failed::TooLarge,
        Unfit::TooLarge => Failed::NoId,
    })
}
