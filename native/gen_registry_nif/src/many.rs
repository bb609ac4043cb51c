//! Many ids in one call.

use std::num::NonZeroU64;

use registry_table::{Id, Table};
use rustler::sys::{ErlNifEnv, ErlNifTerm, enif_make_list_from_array, enif_make_tuple_from_array};
use rustler::{Env, Term};

use crate::asked::cell;
use crate::flatten::{Form, Words, compound, immediate};
use crate::hot::{Failed, NORMAL, compound_of_any_size};
use crate::timeslice::{TERM, charge};
use crate::words::{pid_to_term, to_raw};
use crate::{atoms, with_table};

/// How many ids one call looks up at the most.
const CHUNK: usize = 128;

/// How many words each of them may have, so that together they have no more than a single id may.
const SHARE: usize = NORMAL / CHUNK;

/// About how many nanoseconds an id takes besides its words.
const EACH: usize = 100;

/// Answers the pairs of the first ids that are there, and the rest of the ids. A large id has a call
/// of its own.
pub fn lookup_many<'a>(
    env: Env<'a>,
    [name, ids]: [Term<'a>; 2],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let mut rooms = [const { None }; CHUNK];
    let mut large = Words::new();
    // Arrays, and bare terms: what is moved about right after it was written makes a processor wait.
    let mut probes = [Id::Word(NonZeroU64::MIN); CHUNK];
    let mut terms = [to_raw(0); CHUNK];
    let mut many = 0;
    let mut rest = ids;
    for room in &mut rooms {
        let Some((term, after)) = cell(rest) else {
            break;
        };
        if let Some(id) = immediate(term) {
            probes[many] = id;
        } else if let Ok(id) = compound(term, room.insert(Words::new()), SHARE) {
            probes[many] = id;
        } else {
            break;
        }
        terms[many] = term.as_c_arg();
        many += 1;
        rest = after;
    }
    if many == 0 && !rest.is_empty_list() {
        let (term, after) = cell(rest).ok_or(Failed::BadArg)?;
        match compound_of_any_size(Form::Other, term, &mut large, limit) {
            Ok(id) => {
                probes[0] = id;
                terms[0] = term.as_c_arg();
                many = 1;
            }
            // It is no id, so there is no process.
            Err(Failed::NoId) => {}
            Err(failed) => return Err(failed),
        }
        rest = after;
    }

    let mut pids = [None; CHUNK];
    let look = |table: &Table<_>, pinned: &_| table.get_many(&probes[..many], &mut pids, pinned);
    if with_table(name, look).is_none() {
        return Ok(atoms::not_running().to_term(env));
    }
    let mut found = 0;
    for nth in 0..many {
        if let Some(pid) = pids[nth] {
            // SAFETY: the term came with the call, and a pid is of every environment.
            terms[found] = unsafe {
                let pid = pid_to_term(env, pid).as_c_arg();
                make_tuple(env.as_c_arg(), &[terms[nth], pid])
            };
            found += 1;
        }
    }
    // Each may take less than is counted, and all of them much more.
    let words = probes[..many].iter().map(|probe| match *probe {
        Id::Word(_) => 0,
        Id::Words { words, .. } => words.len(),
        Id::Opaque { words, .. } => words as usize,
    });
    charge(env, EACH * many + 2 * TERM * words.sum::<usize>());
    // SAFETY: the pairs were just made in this environment, and the rest came with the call.
    unsafe {
        let found = enif_make_list_from_array(env.as_c_arg(), terms.as_ptr(), found as u32);
        let answer = make_tuple(env.as_c_arg(), &[found, rest.as_c_arg()]);
        Ok(Term::new(env, answer))
    }
}

/// # Safety
///
/// The terms are of this environment.
unsafe fn make_tuple(env: *mut ErlNifEnv, terms: &[ErlNifTerm; 2]) -> ErlNifTerm {
    // SAFETY: there are two, and the rest is the caller's promise.
    unsafe { enif_make_tuple_from_array(env, terms.as_ptr(), 2) }
}
