//! Which registries run, and which will again.

use rustler::{Env, ResourceArc, Term};

use crate::atoms;
use crate::registry::Registry;
use crate::slot::{NAMES, Slot};
use crate::words::{from_word, term_word};

// On a dirty scheduler: there may be many names.
#[rustler::nif(schedule = "DirtyCpu")]
fn registries<'a>(env: Env<'a>) -> Vec<Term<'a>> {
    let names = NAMES.slots().filter_map(Slot::running);
    names.map(|name| from_word(env, name)).collect()
}

#[rustler::nif(name = "expected?")]
fn is_expected(name: Term<'_>) -> bool {
    NAMES.get(term_word(name)).is_some_and(Slot::is_expected)
}

#[rustler::nif]
fn end_in_order(registry: ResourceArc<Registry>) -> rustler::Atom {
    registry.end_in_order();
    atoms::ok()
}
