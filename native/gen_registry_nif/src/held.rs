//! Terms that pass through a process without staying in its heap.

use std::panic::RefUnwindSafe;

use parking_lot::Mutex;
use rustler::{Encoder, Env, Resource, ResourceArc, Term};

use crate::atoms;
use crate::copied::Copied;

/// A term that the first to take it gets, and nobody after that.
pub struct Held(Mutex<Option<Copied>>);

// A panic leaves it as it was, or taken.
impl RefUnwindSafe for Held {}

#[rustler::resource_impl]
impl Resource for Held {}

fn hold(term: Term<'_>) -> ResourceArc<Held> {
    ResourceArc::new(Held(Mutex::new(Some(Copied::of(term)))))
}

fn take<'a>(env: Env<'a>, held: &Held) -> Term<'a> {
    // The copy is made and freed without the lock.
    let taken = held.0.lock().take();
    match taken {
        Some(copied) => (atoms::ok(), copied.term(env)).encode(env),
        None => atoms::gone().to_term(env),
    }
}

#[rustler::nif(name = "hold")]
fn hold_small(term: Term<'_>) -> ResourceArc<Held> {
    hold(term)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn hold_large(term: Term<'_>) -> ResourceArc<Held> {
    hold(term)
}

#[rustler::nif(name = "take")]
fn take_small<'a>(env: Env<'a>, held: ResourceArc<Held>) -> Term<'a> {
    take(env, &held)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn take_large<'a>(env: Env<'a>, held: ResourceArc<Held>) -> Term<'a> {
    take(env, &held)
}

#[rustler::nif]
fn let_go(held: ResourceArc<Held>) -> rustler::Atom {
    // Taken in one statement, freed in the next: without the lock.
    let taken = held.0.lock().take();
    drop(taken);
    atoms::ok()
}
