//! How large an id is that the NIF cannot look into; and whether there is a reference in a term.
//!
//! It says `sealed` then. Elixir, which can, asks `measure` for what it sees, until there is nothing
//! left, and puts the sum before the id: `[measured | id]`. No term of a user's begins like that, as
//! only `measured` makes such a reference.

use rustler::{Encoder, Env, Resource, ResourceArc, Term};

use crate::hot::{self, Failed, LARGEST};
use crate::timeslice::{TERM, charge};
use crate::weigh::{Unfit, weigh};

/// So many words an id has.
pub struct Measured {
    pub words: usize,
}

#[rustler::resource_impl]
impl Resource for Measured {}

#[rustler::nif]
fn measured(words: usize) -> ResourceArc<Measured> {
    ResourceArc::new(Measured { words })
}

fn measure<'a>(
    env: Env<'a>,
    [term, words]: [Term<'a>; 2],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let words = words.decode().map_err(|_| Failed::BadArg)?;
    let most = limit.min(LARGEST).saturating_sub(words);
    let mut sealed = Term::list_new_empty(env);
    let weighed = weigh(term, most, |part| {
        sealed = sealed.list_prepend(part);
        Ok(())
    });
    charge(
        env,
        TERM * weighed.as_ref().map_or(most, |weight| weight.words),
    );
    match weighed {
        Ok(weight) => Ok((words + weight.words, sealed).encode(env)),
        Err(_) if limit < LARGEST => Err(Failed::TooLarge),
        Err(_) => Ok((LARGEST + 1, Term::list_new_empty(env)).encode(env)),
    }
}
hot::nif!(c"measure", 2, measure);

/// So many words of a term are looked at for references.
const FEW: usize = 1024;

fn refers<'a>(env: Env<'a>, [term]: [Term<'a>; 1], _limit: usize) -> Result<Term<'a>, Failed> {
    let weighed = weigh(term, FEW, |_| Err(Unfit::Sealed));
    charge(
        env,
        TERM * weighed.as_ref().map_or(FEW, |weight| weight.words),
    );
    Ok(weighed.map_or(true, |weight| weight.refers).encode(env))
}
hot::nif!(c"refers?", 1, refers);
