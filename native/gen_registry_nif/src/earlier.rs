//! What earlier registries of a name have left: the next one does not wait for it.

use std::sync::atomic::{Ordering, fence};

use registry_table::{Does, Id, Pid, Worker, pin};
use rustler::{Decoder, Encoder, Env, Error, LocalPid, NifResult, ResourceArc, Term};

use crate::atoms;
use crate::hot::{self, Failed, with_id};
use crate::registry::{Enter, Registry, is_alive};
use crate::slot::{NAMES, Slot};
use crate::starts::STARTS;
use crate::timeslice::timed;
use crate::unflatten::{size, to_term};
use crate::words::{from_word, pid_from_local, pid_from_term, pid_to_term, term_word};
use crate::{is_guest, scan_table, worker_to_term};

/// A registry as its own processes have it, or by its name and number: so it is found by whoever comes
/// after it, also if this library was loaded again meanwhile. `None` if it is gone.
pub struct Which(pub Option<ResourceArc<Registry>>);

impl<'a> Decoder<'a> for Which {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if let Ok(registry) = term.decode() {
            return Ok(Self(Some(registry)));
        }
        let (name, number): (Term<'a>, u64) = term.decode()?;
        if !name.is_atom() {
            return Err(Error::BadArg);
        }
        let all = NAMES.get(term_word(name)).map(Slot::all);
        let mut all = all.into_iter().flatten();
        Ok(Self(all.find(|registry| registry.number == number)))
    }
}

/// What has an id of a registry that has ended.
pub enum Left {
    /// A starter, which may be dead: its start is not over.
    Start(Pid),
    /// A worker that lives.
    Worker(Worker),
}

impl Registry {
    /// Those that are not gone, the oldest first.
    pub fn earlier(&self) -> Vec<ResourceArc<Self>> {
        let all = self.slot.registries.lock();
        let earlier = all.iter().take_while(|other| other.number != self.number);
        earlier.cloned().collect()
    }

    fn key<'a>(&self, env: Env<'a>) -> Term<'a> {
        (from_word(env, self.name), self.number).encode(env)
    }

    /// Notes who is busy, of the earlier ones. None of them begins anything any more.
    fn note_busy(&self) {
        // SeqCst: see `begins`.
        fence(Ordering::SeqCst);
        for earlier in self.earlier() {
            // Another one may be about it, for a registry that was killed meanwhile.
            if earlier.busy.lock().get_or_insert_default().complete {
                continue;
            }
            let found = STARTS.of(earlier.number);
            let mut noted = earlier.busy.lock();
            let noted = noted.get_or_insert_default();
            for (pid, busy) in found {
                noted.by_hash.entry(busy.hash).or_default().push(pid);
            }
            noted.complete = true;
        }
    }

    /// What an id has in this registry, which has ended. A worker is busy with its end from now on: whoever
    /// asks has to end it.
    fn left(&self, env: Env<'_>, id: &Id<'_, Term<'_>>) -> Option<Left> {
        let hash = STARTS.hash(id);
        let noted = {
            let noted = self.busy.lock();
            let noted = noted.as_ref().and_then(|noted| noted.by_hash.get(&hash));
            noted.cloned().unwrap_or_default()
        };
        let does = |pid: Pid| {
            let busy = STARTS.busy(pid)?;
            (busy.registry == self.number && busy.hash == hash).then_some(busy.does)
        };
        // In this order: what a start leaves is an entry before the start is over.
        let starts = |pid: &Pid| does(*pid).is_some_and(|does| does != Does::End);
        if let Some(&starter) = noted.iter().find(|pid| starts(pid)) {
            return Some(Left::Start(starter));
        }
        let ends = |pid: &Pid| does(*pid) == Some(Does::End) && is_alive(env, *pid);
        if let Some(&pid) = noted.iter().find(|pid| ends(pid)) {
            let parent = self.table().known(pid).and_then(|known| known.parent);
            return Some(Left::Worker(Worker { pid, parent }));
        }
        let pid = self.table().get(id, &pin())?;
        let known = self.table().known(pid).filter(|known| !known.is_guest())?;
        if !is_alive(env, pid) {
            return None;
        }
        self.is_told(env, pid, id);
        Some(Left::Worker(known))
    }

    /// A worker of this registry, which has ended, is busy with its end.
    fn is_told(&self, env: Env<'_>, pid: Pid, id: &Id<'_, Term<'_>>) {
        if STARTS.busy(pid).is_none() {
            self.begin_end(env, pid, id);
        }
    }

    /// How many workers and starts are left of it.
    fn count_left(&self) -> usize {
        let starts = self.starts.load(Ordering::Relaxed);
        let leaving = self.leaving.load(Ordering::Relaxed);
        self.table().workers() + starts.saturating_sub(leaving)
    }

    /// Who is in a start of this registry, dead ones too.
    fn starting(&self) -> impl Iterator<Item = Pid> {
        let busy = STARTS.of(self.number).into_iter();
        busy.filter(|(_, busy)| busy.does != Does::End)
            .map(|(pid, _)| pid)
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn note_busy(registry: ResourceArc<Registry>) -> rustler::Atom {
    registry.note_busy();
    atoms::ok()
}

#[rustler::nif]
fn earlier(env: Env<'_>, registry: ResourceArc<Registry>) -> Term<'_> {
    let earlier = registry.earlier();
    let keys = earlier.iter().map(|earlier| earlier.key(env));
    keys.collect::<Vec<_>>().encode(env)
}

#[rustler::nif]
fn key(env: Env<'_>, registry: ResourceArc<Registry>) -> Term<'_> {
    registry.key(env)
}

fn left<'a>(env: Env<'a>, [registry, id]: [Term<'a>; 2], limit: usize) -> Result<Term<'a>, Failed> {
    let registry: ResourceArc<Registry> = registry.decode()?;
    let earlier = registry.earlier();
    if earlier.is_empty() {
        return Ok(atoms::none().to_term(env));
    }
    let left = with_id(id, limit, |id| {
        earlier.iter().find_map(|earlier| earlier.left(env, id))
    })?;
    Ok(match left {
        Some(Left::Start(starter)) => (atoms::starter(), pid_to_term(env, starter)).encode(env),
        Some(Left::Worker(worker)) => worker_to_term(env, worker),
        None => atoms::not_found().to_term(env),
    })
}
hot::nif!(c"left", 2, left);

#[rustler::nif]
fn count_left(registry: ResourceArc<Registry>) -> usize {
    let earlier = registry.earlier();
    earlier.iter().map(|earlier| earlier.count_left()).sum()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn starting<'a>(env: Env<'a>, Which(registry): Which) -> Vec<Term<'a>> {
    let starting = registry.iter().flat_map(|registry| registry.starting());
    starting.map(|pid| pid_to_term(env, pid)).collect()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn processes<'a>(env: Env<'a>, Which(registry): Which) -> Vec<Term<'a>> {
    let all = registry
        .iter()
        .flat_map(|registry| registry.table().processes());
    all.map(|worker| worker_to_term(env, worker)).collect()
}

#[rustler::nif]
fn sweeper<'a>(env: Env<'a>, Which(registry): Which) -> Term<'a> {
    let sweeper = registry.and_then(|registry| Pid::new(registry.sweeper.load(Ordering::SeqCst)));
    sweeper.map_or(atoms::nil().to_term(env), |pid| pid_to_term(env, pid))
}

/// Returns whether the registry is there. While its sweeper is, it stays.
#[rustler::nif]
fn set_sweeper(env: Env<'_>, Which(registry): Which) -> NifResult<bool> {
    let pid = pid_from_local(env.pid()).ok_or(Error::BadArg)?;
    let Some(registry) = registry else {
        return Ok(false);
    };
    registry.track(env, Worker { pid, parent: None });
    registry.sweeper.store(pid.word(), Ordering::SeqCst);
    Ok(true)
}

fn worker(pid: LocalPid, parent: Term<'_>) -> Option<Worker> {
    let parent = pid_from_term(parent);
    pid_from_local(pid).map(|pid| Worker { pid, parent })
}

#[rustler::nif]
fn refuse<'a>(env: Env<'a>, Which(registry): Which, pid: LocalPid, parent: Term<'a>) -> bool {
    let both = registry.zip(worker(pid, parent));
    both.is_some_and(|(registry, worker)| timed(env, || registry.refuse(env, worker)))
}

#[rustler::nif]
fn track<'a>(env: Env<'a>, Which(registry): Which, pid: LocalPid, parent: Term<'a>) -> bool {
    let both = registry.zip(worker(pid, parent));
    both.is_some_and(|(registry, worker)| timed(env, || registry.track(env, worker)))
}

/// Whether a process of the registry's name is busy with its end for this id, or is a starter that is dead:
/// then what its start has left is to end.
fn ends<'a>(
    env: Env<'a>,
    [registry, id, pid]: [Term<'a>; 3],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let registry: ResourceArc<Registry> = registry.decode()?;
    let pid = pid_from_term(pid).ok_or(Failed::BadArg)?;
    let busy = STARTS.busy(pid);
    let ends = with_id(id, limit, |id| {
        busy.is_some_and(|busy| {
            busy.name == registry.name
                && busy.hash == STARTS.hash(id)
                && (busy.does == Does::End || !is_alive(env, pid))
        })
    });
    Ok(ends?.encode(env))
}
hot::nif!(c"ends?", 3, ends);

/// Of a worker with this id that is told to end: its waits count from then on.
fn told<'a>(
    env: Env<'a>,
    [registry, pid]: [Term<'a>; 2],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let Which(registry) = registry.decode()?;
    let pid = pid_from_term(pid).ok_or(Failed::BadArg)?;
    let id = registry.as_ref().and_then(|registry| {
        registry.table().id_of(pid, |id| match size(&id) {
            size if size > limit => Err(Failed::TooLarge),
            _ => Ok(to_term(env, id, &mut 0)),
        })
    });
    if let (Some(registry), Some(id)) = (registry, id) {
        // Of what the VM has to measure nobody tells: its waits do not count.
        let _ = with_id(id?, limit, |id| registry.is_told(env, pid, id));
    }
    Ok(atoms::ok().to_term(env))
}
hot::nif!(c"told", 2, told);

/// When the server was killed, by the caller's clock: at this time, if nobody has said so before.
#[rustler::nif]
fn killed_at(Which(registry): Which, now: i64) -> i64 {
    let Some(registry) = registry else {
        return now;
    };
    // Relaxed: it is one number.
    let (set, not) = (Ordering::Relaxed, Ordering::Relaxed);
    let before = registry.killed_at.compare_exchange(0, now, set, not);
    before.map_or_else(|before| before, |_| now)
}

#[rustler::nif]
fn has_id(Which(registry): Which, pid: LocalPid) -> bool {
    let id = |pid| registry?.table().id_of(pid, |_| ());
    pid_from_local(pid).and_then(id).is_some()
}

#[rustler::nif]
fn end_start(Which(registry): Which, pid: LocalPid) -> rustler::Atom {
    if let (Some(registry), Some(pid)) = (&registry, pid_from_local(pid)) {
        registry.start_is_over(pid);
    }
    match registry.is_none_or(|registry| registry.is_sealed()) {
        true => atoms::closed(),
        false => atoms::ok(),
    }
}

#[rustler::nif]
fn give_back(Which(registry): Which, parent: LocalPid) -> rustler::Atom {
    if let (Some(registry), Some(parent)) = (registry, pid_from_local(parent)) {
        registry.table().give_back(parent);
    }
    atoms::ok()
}

fn scan_guests<'a>(
    env: Env<'a>,
    [registry, cursor]: [Term<'a>; 2],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let Which(registry) = registry.decode()?;
    let table = registry.as_ref().map(|registry| registry.table());
    match table.filter(|table| table.guests() > 0) {
        None => Ok((Term::list_new_empty(env), atoms::done()).encode(env)),
        Some(table) => scan_table(env, table, cursor, limit, |pid| is_guest(table, pid)),
    }
}
hot::nif!(c"scan_guests", 2, scan_guests);

fn release_own<'a>(
    env: Env<'a>,
    [registry, id]: [Term<'a>; 2],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let Which(registry) = registry.decode()?;
    with_id(id, limit, |id| {
        let released = registry.is_some_and(|registry| registry.table().release(id));
        released.encode(env)
    })
}
hot::nif!(c"release_own", 2, release_own);
