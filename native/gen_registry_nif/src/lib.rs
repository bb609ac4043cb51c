//! The NIF of GenRegistry: decodes terms, calls the table, encodes answers.
//!
//! Each function is described where Elixir sees it, in `lib/gen_registry/native.ex`.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("GenRegistry needs a 64-bit system: it reads terms as words of 64 bits");

/// A place in the code that the checks look at, from here to the end of the block: see `doors.rs`.
macro_rules! point {
    ($name:expr) => {
        #[cfg(feature = "doors")]
        let _point = crate::doors::enter($name);
    };
}

mod asked;
mod copied;
#[cfg(feature = "doors")]
mod doors;
mod earlier;
mod external;
mod flatten;
mod held;
mod hot;
mod many;
mod measured;
mod memory;
mod nested;
mod reclaim;
mod registry;
mod running;
mod slot;
mod starts;
mod tags;
mod timeslice;
mod unflatten;
mod weigh;
mod words;

use registry_table::{
    Conflict, Cursor, Id, Pid, Pinned, Remembered, Stored, Table, Worker, is_stopped, pin,
};
use rustler::{Encoder, Env, Error, LocalPid, NifResult, ResourceArc, Term};

use crate::copied::Copied;
use crate::hot::{Failed, with_id};
use crate::registry::{Enter, Opened, Registered, Registry, is_alive};
use crate::slot::{NAMES, Slot};
use crate::timeslice::{TERM, charge, timed};
use crate::unflatten::{size, to_term};
use crate::words::{pid_from_local, pid_from_term, pid_to_term, term_word};

#[cfg(not(feature = "doors"))]
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

rustler::init!("Elixir.GenRegistry.Native", load = load);

mod atoms {
    rustler::atoms! {
        closed,
        dead,
        done,
        ending,
        died,
        gone,
        guest,
        idle,
        id_taken,
        id_too_large,
        nif_panicked,
        nil,
        none,
        no_node = "no@node",
        not_found,
        not_running,
        ok,
        pid_taken,
        reclaiming_stopped,
        sealed,
        starter,
        stopped,
    }
}

/// How many slots one step of a scan passes: some tens of microseconds.
const STEP: usize = 500;

fn load<'a>(env: Env<'a>, ports: Term<'a>) -> bool {
    tags::are_known(env, ports) && reclaim::start()
}

/// Runs `read` on the table of a running registry.
#[inline]
fn with_table<R>(name: Term<'_>, read: impl FnOnce(&Table<Copied>, &Pinned) -> R) -> Option<R> {
    // Only atoms were ever claimed, so whatever else comes as a name is not found.
    let slot = NAMES.get(term_word(name))?;
    let pinned = pin();
    slot.table.get(&pinned).map(|table| read(table, &pinned))
}

// Always inlined, as the next one: left to the compiler, its arguments may go by way of memory, for a
// tenth more of the time.
#[inline(always)]
fn lookup<'a>(env: Env<'a>, [name, id]: [Term<'a>; 2], limit: usize) -> Result<Term<'a>, Failed> {
    let found = with_id(id, limit, |id| {
        match with_table(name, |table, pinned| table.get(id, pinned)) {
            Some(Some(pid)) => pid_to_term(env, pid),
            Some(None) => atoms::not_found().to_term(env),
            None => atoms::not_running().to_term(env),
        }
    });
    found.or_else(|failed| failed.with_id_back(id))
}
hot::nif!(c"lookup", 2, lookup);

#[inline(always)]
fn lookup_alive<'a>(
    env: Env<'a>,
    [name, id]: [Term<'a>; 2],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let found = with_id(id, limit, |id| {
        match with_table(name, |table, pinned| table.get(id, pinned)) {
            Some(Some(pid)) if is_alive(env, pid) => pid_to_term(env, pid),
            Some(_) => atoms::not_found().to_term(env),
            None => atoms::not_running().to_term(env),
        }
    });
    found.or_else(|failed| failed.with_id_back(id))
}
hot::nif!(c"lookup_alive", 2, lookup_alive);

hot::nif!(c"lookup_many", 2, many::lookup_many);

fn lookup_id<'a>(
    env: Env<'a>,
    [name, pid]: [Term<'a>; 2],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let answer = |id: Stored<'_, Copied>| match size(&id) {
        size if size > limit => Err(Failed::TooLarge),
        _ => {
            let mut nanoseconds = 0;
            let id = to_term(env, id, &mut nanoseconds);
            charge(env, nanoseconds);
            Ok((atoms::ok(), id).encode(env))
        }
    };
    let remembered = |id: Remembered<'_, Copied>| match id {
        Remembered::Whole(id) => answer(id),
        Remembered::Flat(bytes) => Ok(match env.binary_to_term(bytes) {
            Some((id, _)) => (atoms::ok(), id).encode(env),
            None => atoms::not_found().to_term(env),
        }),
    };
    let pid = pid_from_term(pid);
    let found = with_table(name, |table, _| {
        let pid = pid?;
        table
            .id_of(pid, answer)
            .or_else(|| NAMES.get(term_word(name))?.left_id_of(pid, answer))
            .or_else(|| {
                // One that is alive is another one than that of this pid's last id.
                let dead = !is_alive(env, pid);
                dead.then(|| table.last_id_of(pid, remembered)).flatten()
            })
    });
    match found {
        Some(Some(id)) => id,
        Some(None) => Ok(atoms::not_found().to_term(env)),
        None => Ok(atoms::not_running().to_term(env)),
    }
}
hot::nif!(c"lookup_id", 2, lookup_id);

fn register<'a>(
    env: Env<'a>,
    [registry, id, pid, parent]: [Term<'a>; 4],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let registry: ResourceArc<Registry> = registry.decode()?;
    let pid = pid_from_term(pid).ok_or(Failed::BadArg)?;
    let worker = Worker {
        pid,
        parent: pid_from_term(parent),
    };
    let register = |id: &Id<'_, _>| timed(env, || registry.register(env, id, worker));
    let registered = with_id(id, limit, |id| match register(id) {
        Registered::Done => atoms::ok().to_term(env),
        Registered::Dead => atoms::dead().to_term(env),
        Registered::Sealed => atoms::closed().to_term(env),
        Registered::Refused(Conflict::PidTaken) => atoms::pid_taken().to_term(env),
        Registered::Refused(Conflict::IdTaken(pid)) => {
            (atoms::id_taken(), pid_to_term(env, pid)).encode(env)
        }
    });
    match registered {
        Err(Failed::NoId) => Ok(atoms::id_too_large().to_term(env)),
        registered => registered,
    }
}
hot::nif!(c"register", 4, register);

fn retire<'a>(
    env: Env<'a>,
    [registry, id]: [Term<'a>; 2],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let registry: ResourceArc<Registry> = registry.decode()?;
    let retire = |id: &Id<'_, _>| timed(env, || registry.retire(env, id));
    with_id(id, limit, |id| match retire(id) {
        Some(guest) if guest.is_guest() => {
            (atoms::guest(), pid_to_term(env, guest.pid)).encode(env)
        }
        Some(worker) => worker_to_term(env, worker),
        None => atoms::not_found().to_term(env),
    })
}
hot::nif!(c"retire", 2, retire);

fn release<'a>(env: Env<'a>, [name, id]: [Term<'a>; 2], limit: usize) -> Result<Term<'a>, Failed> {
    with_id(id, limit, |id| {
        let slot = NAMES.get(term_word(name));
        match slot.and_then(|slot| timed(env, || slot.release(id))) {
            Some(_) => atoms::ok().to_term(env),
            None => atoms::not_running().to_term(env),
        }
    })
}
hot::nif!(c"release", 2, release);

fn is_id<'a>(env: Env<'a>, [term]: [Term<'a>; 1], limit: usize) -> Result<Term<'a>, Failed> {
    match with_id(term, limit, |_| true) {
        Err(Failed::NoId) => Ok(false.encode(env)),
        is_id => is_id.map(|is_id| is_id.encode(env)),
    }
}
hot::nif!(c"id?", 1, is_id);

fn promise<'a>(
    env: Env<'a>,
    [registry, id, parent]: [Term<'a>; 3],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let registry: ResourceArc<Registry> = registry.decode()?;
    let promised = with_id(id, limit, |id| {
        registry.promise(env, id, pid_from_term(parent)).encode(env)
    });
    match promised {
        Err(Failed::NoId) => Ok(false.encode(env)),
        promised => promised,
    }
}
hot::nif!(c"promise", 3, promise);

fn entry_to_term<'a>(
    env: Env<'a>,
    id: Stored<'_, Copied>,
    pid: Pid,
    nanoseconds: &mut usize,
) -> Term<'a> {
    (to_term(env, id, nanoseconds), pid_to_term(env, pid)).encode(env)
}

fn worker_to_term<'a>(env: Env<'a>, worker: Worker) -> Term<'a> {
    let parent = worker
        .parent
        .map_or(atoms::nil().to_term(env), |parent| pid_to_term(env, parent));
    (pid_to_term(env, worker.pid), parent).encode(env)
}

fn count<'a>(env: Env<'a>, [name]: [Term<'a>; 1], _limit: usize) -> Result<Term<'a>, Failed> {
    Ok(match with_table(name, |table, _| table.count()) {
        Some(count) => count.encode(env),
        None => atoms::not_running().to_term(env),
    })
}
hot::nif!(c"count", 1, count);

fn guests<'a>(env: Env<'a>, [name]: [Term<'a>; 1], _limit: usize) -> Result<Term<'a>, Failed> {
    Ok(match with_table(name, |table, _| table.guests()) {
        Some(guests) => guests.encode(env),
        None => atoms::not_running().to_term(env),
    })
}
hot::nif!(c"guests", 1, guests);

fn sample<'a>(env: Env<'a>, [name]: [Term<'a>; 1], limit: usize) -> Result<Term<'a>, Failed> {
    let sample = with_table(name, |table, _| {
        table.sample(|id, pid| match size(&id) {
            // Not once more on a dirty scheduler: it would draw another one, and such ids too seldom.
            size if size > limit => pid_to_term(env, pid),
            _ => {
                let mut nanoseconds = 0;
                let entry = entry_to_term(env, id, pid, &mut nanoseconds);
                charge(env, nanoseconds);
                entry
            }
        })
    });
    Ok(match sample {
        Some(Some(entry)) => entry,
        Some(None) => atoms::nil().to_term(env),
        None => atoms::not_running().to_term(env),
    })
}
hot::nif!(c"sample", 1, sample);

fn scan<'a>(env: Env<'a>, [name, cursor]: [Term<'a>; 2], limit: usize) -> Result<Term<'a>, Failed> {
    let scan = |table: &Table<Copied>, _: &Pinned| scan_table(env, table, cursor, limit, |_| true);
    with_table(name, scan).unwrap_or(Ok(atoms::not_running().to_term(env)))
}
hot::nif!(c"scan", 2, scan);

fn is_guest(table: &Table<Copied>, pid: Pid) -> bool {
    table.known(pid).is_some_and(Worker::is_guest)
}

fn scan_children<'a>(
    env: Env<'a>,
    [name, cursor]: [Term<'a>; 2],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let scan = |table: &Table<Copied>, _: &Pinned| {
        scan_table(env, table, cursor, limit, |pid| !is_guest(table, pid))
    };
    with_table(name, scan).unwrap_or(Ok(atoms::not_running().to_term(env)))
}
hot::nif!(c"scan_children", 2, scan_children);

fn scan_table<'a>(
    env: Env<'a>,
    table: &Table<Copied>,
    cursor: Term<'a>,
    limit: usize,
    wanted: impl Fn(Pid) -> bool,
) -> Result<Term<'a>, Failed> {
    let cursor = cursor.decode()?;
    let mut entries = Term::list_new_empty(env);
    let mut left = Some(limit);
    let mut nanoseconds = TERM * STEP;
    let next = table.scan(Cursor::from_bits(cursor), STEP, |id, pid| {
        let size = size(&id);
        left = left.and_then(|left| left.checked_sub(size));
        if left.is_some() && wanted(pid) {
            entries = entries.list_prepend(entry_to_term(env, id, pid, &mut nanoseconds));
        }
    });
    charge(env, nanoseconds);
    match (next, left) {
        (_, None) => Err(Failed::TooLarge),
        (Some(next), _) => Ok((entries, next.to_bits()).encode(env)),
        (None, _) => Ok((entries, atoms::done()).encode(env)),
    }
}

#[rustler::nif]
fn open<'a>(env: Env<'a>, name: Term<'a>, max_children: Term<'a>) -> NifResult<Term<'a>> {
    if !name.is_atom() {
        return Err(Error::BadArg);
    }
    let owner = pid_from_local(env.pid()).ok_or(Error::BadArg)?;
    // What is no number that fits is a bound that is never reached.
    let max_children = max_children.decode().ok();
    let opened = Registry::open(env, term_word(name), owner, max_children);
    Ok(match opened {
        Opened::Done(registry) => registry.encode(env),
        Opened::Taken(pid) => pid_to_term(env, pid),
        Opened::Dead => atoms::dead().to_term(env),
    })
}

#[rustler::nif]
fn publish(registry: ResourceArc<Registry>) -> rustler::Atom {
    registry.publish();
    atoms::ok()
}

#[rustler::nif]
fn seal(registry: ResourceArc<Registry>) -> rustler::Atom {
    registry.seal();
    atoms::ok()
}

#[rustler::nif]
fn close(registry: ResourceArc<Registry>) -> rustler::Atom {
    registry.close();
    atoms::ok()
}

#[rustler::nif]
fn ever(registry: ResourceArc<Registry>) -> (u64, u64, u64) {
    let table = registry.table();
    (table.started(), table.ended(), table.ended_idle())
}

#[rustler::nif]
fn ended_idle(registry: ResourceArc<Registry>) -> rustler::Atom {
    registry.table().idle();
    atoms::ok()
}

#[rustler::nif]
fn leave_place(registry: ResourceArc<Registry>, child: LocalPid) -> bool {
    pid_from_local(child).is_some_and(|child| registry.table().leave(child))
}

#[rustler::nif]
fn inherit_place(registry: ResourceArc<Registry>, child: LocalPid, parent: LocalPid) -> bool {
    let (child, parent) = (pid_from_local(child), pid_from_local(parent));
    let both = child.zip(parent);
    both.is_some_and(|(child, parent)| registry.table().inherit(child, parent))
}

#[rustler::nif]
fn forget_dead(env: Env<'_>, registry: ResourceArc<Registry>, pid: LocalPid) -> rustler::Atom {
    if let Some(pid) = pid_from_local(pid)
        && !is_alive(env, pid)
    {
        timed(env, || registry.forget(pid));
    }
    atoms::ok()
}

#[rustler::nif]
fn known(registry: ResourceArc<Registry>, pid: LocalPid) -> bool {
    pid_from_local(pid).is_some_and(|pid| registry.knows(pid))
}

#[rustler::nif]
fn memory(registry: ResourceArc<Registry>) -> usize {
    registry.table().memory()
}

#[rustler::nif]
fn reclaiming() -> rustler::Atom {
    match is_stopped() {
        true => atoms::stopped(),
        false => atoms::ok(),
    }
}

#[rustler::nif]
fn alive(env: Env<'_>, pid: Term<'_>) -> bool {
    pid_from_term(pid).is_some_and(|pid| is_alive(env, pid))
}

#[rustler::nif]
fn local(pid: Term<'_>) -> bool {
    pid_from_term(pid).is_some()
}

#[rustler::nif]
fn owner<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let owner = NAMES.get(term_word(name)).and_then(Slot::owner);
    owner.map_or(atoms::nil().to_term(env), |pid| pid_to_term(env, pid))
}
