//! Who is busy with a start or with its own end, and who waits for that: what callers look at before
//! they ask for one.

use std::sync::Arc;

use registry_table::{Busy, Does, Flight, Pid, Starts, Wait, Waits};
use rustler::{Encoder, Env, Error, NifResult, ResourceArc, Term};

use crate::atoms;
use crate::copied::Copied;
use crate::hot::{Failed, with_id};
use crate::registry::{Registry, is_alive};
use crate::slot::NAMES;
use crate::words::{from_word, pid_from_local, pid_from_term, pid_to_term, term_word};

/// Which processes of this VM are busy.
pub static STARTS: Starts = Starts::new();

/// Who waits for what on behalf of these.
static WAITS: Waits<Arc<Wanted>> = Waits::new();

/// What a process waits for.
struct Wanted {
    name: u64,
    id: Copied,
}

/// A process has died in a start, which is not over: itself it waits no more.
pub fn died(pid: Pid) {
    WAITS.forget(pid);
}

/// Nobody waits any more on behalf of a process, which is not busy with this any more.
pub fn void(busy: &Busy, pid: Pid) {
    if let Some(flight) = busy.flight() {
        WAITS.void(flight, pid);
    }
}

fn own_pid(env: Env<'_>) -> Result<Pid, Error> {
    pid_from_local(env.pid()).ok_or(Error::BadArg)
}

/// What is under way for an id. `None` if only the VM can compare it.
fn flight(name: u64, id: Term<'_>, limit: usize) -> Result<Option<Flight>, Failed> {
    match with_id(id, limit, |id| STARTS.flight(name, id)) {
        Err(Failed::TooLarge) => Err(Failed::TooLarge),
        flight => Ok(flight.ok().flatten()),
    }
}

fn begin_start<'a>(
    env: Env<'a>,
    [registry, id]: [Term<'a>; 2],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let registry: ResourceArc<Registry> = registry.decode()?;
    let pid = own_pid(env)?;
    match with_id(id, limit, |id| registry.begins(pid, id))? {
        true => Ok(atoms::ok().to_term(env)),
        false => Ok(atoms::closed().to_term(env)),
    }
}
crate::hot::nif!(c"begin_start", 2, begin_start);

#[rustler::nif]
fn busy_among<'a>(env: Env<'a>, way: Term<'a>) -> Term<'a> {
    if STARTS.is_empty() {
        return atoms::idle().to_term(env);
    }
    let way = pids(way);
    let busy = |(nth, &pid): (usize, &Pid)| Some((nth, pid, STARTS.busy(pid)?));
    let Some((nth, pid, busy)) = way.iter().enumerate().find_map(busy) else {
        return atoms::nil().to_term(env);
    };
    if busy.does == Does::End {
        return (atoms::ending(), pid_to_term(env, pid)).encode(env);
    }
    let slot = NAMES.get(busy.name);
    let worker = |&pid: &Pid| slot.is_some_and(|slot| slot.knows(pid));
    if way[..nth].iter().any(worker) {
        return atoms::nil().to_term(env);
    }
    match is_alive(env, pid) {
        true => pid_to_term(env, pid),
        false => (atoms::died(), pid_to_term(env, pid)).encode(env),
    }
}

fn begin_wait<'a>(
    env: Env<'a>,
    [by, name, id]: [Term<'a>; 3],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let (Some(by), true, Ok(pid)) = (pid_from_term(by), name.is_atom(), own_pid(env)) else {
        return Err(Failed::BadArg);
    };
    let name = term_word(name);
    let wanted = flight(name, id, limit)?;
    let own = || STARTS.busy(by).and_then(|busy| busy.flight());
    let mut number = None;
    if let (Some(own_now), Some(wanted)) = (own(), wanted) {
        let id = Copied::of(id);
        let wait = Wait {
            by,
            own: own_now,
            wanted,
            heard: false,
            what: Arc::new(Wanted { name, id }),
        };
        number = WAITS.begin(pid, wait, || own() == Some(own_now));
    }
    Ok((number, circle(env, pid, &[])).encode(env))
}
crate::hot::nif!(c"begin_wait", 3, begin_wait);

#[rustler::nif(name = "circle")]
fn own_circle<'a>(env: Env<'a>, others: Term<'a>) -> NifResult<Term<'a>> {
    Ok(circle(env, own_pid(env)?, &pids(others)))
}

fn circle<'a>(env: Env<'a>, pid: Pid, others: &[Pid]) -> Term<'a> {
    let circle = WAITS.circle(pid, others);
    let links = circle
        .iter()
        .map(|(pid, wait)| (pid_to_term(env, *pid), pid_to_term(env, wait.by)));
    links.collect::<Vec<_>>().encode(env)
}

// On a dirty scheduler, these two: what is waited for may be large.

#[rustler::nif(schedule = "DirtyCpu")]
fn circle_ids<'a>(env: Env<'a>, circle: Term<'a>) -> Term<'a> {
    let waits = WAITS.closed(&pids(circle));
    let heard = waits.iter().map(|wait| wait.heard);
    let both = ids(env, &waits).into_iter().zip(heard);
    both.collect::<Vec<_>>().encode(env)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn break_circle<'a>(env: Env<'a>, circle: Term<'a>) -> Term<'a> {
    ids(env, &WAITS.break_circle(&pids(circle))).encode(env)
}

fn ids<'a>(env: Env<'a>, circle: &[Wait<Arc<Wanted>>]) -> Vec<(Term<'a>, Term<'a>)> {
    let ids = circle.iter().map(|wait| {
        let Wanted { name, id } = &*wait.what;
        (from_word(env, *name), id.term(env))
    });
    ids.collect()
}

#[rustler::nif]
fn hear_wait(pid: Term<'_>, number: Term<'_>) -> rustler::Atom {
    if let (Some(pid), Ok(number)) = (pid_from_term(pid), number.decode()) {
        WAITS.hear(pid, number);
    }
    atoms::ok()
}

#[rustler::nif]
fn end_wait(pid: Term<'_>, number: Term<'_>) -> rustler::Atom {
    if let (Some(pid), Ok(number)) = (pid_from_term(pid), number.decode()) {
        WAITS.end(pid, number);
    }
    atoms::ok()
}

/// The pids of this node that a list begins with. A decoder of rustler's would panic at a list that is
/// improper.
fn pids(list: Term<'_>) -> Vec<Pid> {
    let mut rest = list;
    let next = || {
        let (pid, others) = rest.list_get_cell().ok()?;
        rest = others;
        pid_from_term(pid)
    };
    std::iter::from_fn(next).collect()
}
