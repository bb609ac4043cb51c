//! The tables of the registries that run, and of those that have ended and are not gone yet; and the
//! monitors that keep them true.
//!
//! A registry that was killed leaves workers, and starts that are under way. The next one of its name
//! does not wait for them: it asks, for each id, what an earlier one has [left](Registry::left).

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use registry_table::{Conflict, Does, Id, Pid, Table, Worker, drop_later, pin};
use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc, Term};

use crate::copied::Copied;
use crate::slot::{NAMES, Slot};
use crate::starts::{STARTS, died, void};
use crate::words::{pid_from_local, pid_to_local};

/// One registry, from its start until its last process is gone. As a resource it is what the VM tells of
/// the deaths of its processes, and by what these write.
pub struct Registry {
    /// No other registry has it.
    pub number: u64,
    pub name: u64,
    pub slot: &'static Slot,
    pub owner: Pid,
    /// Invariant: there until it is dropped.
    table: Option<Arc<Table<Copied>>>,
    /// Whether no more workers start.
    sealed: AtomicBool,
    /// Whether reads are over too.
    closed: AtomicBool,
    /// The word of the pid of its sweeper, or zero.
    pub sweeper: AtomicU64,
    /// How many of its starts, and of its workers' ends, are in [`STARTS`].
    pub starts: AtomicUsize,
    pub ends: AtomicUsize,
    /// How many of these starts have left a process.
    pub leaving: AtomicUsize,
    /// When its server was killed, by a clock of its sweepers, or zero.
    pub killed_at: AtomicI64,
    /// Once a later registry is opened: by the hashes of the ids, who was busy with a start or an end by
    /// then, and who has begun to end since. All others are entries of the table.
    pub busy: Mutex<Option<Noted>>,
}

/// Who was busy, and who has begun to end since.
#[derive(Default)]
pub struct Noted {
    pub by_hash: HashMap<u64, Vec<Pid>>,
    /// Whether all are in it.
    pub complete: bool,
}

/// What became of an opening.
pub enum Opened {
    /// It is open.
    Done(ResourceArc<Registry>),
    /// This process has it open.
    Taken(Pid),
    /// The owner is dead.
    Dead,
}

#[rustler::resource_impl]
impl Resource for Registry {
    /// Runs in the exit of a process, so that its entry goes with it whatever else is busy.
    /// There will be no other news of it: where that fails, it is tried once more. What was done
    /// already is then not done again.
    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if let Some(pid) = pid_from_local(pid)
            && catch_unwind(AssertUnwindSafe(|| self.forget(pid))).is_err()
        {
            self.forget(pid);
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        point!(c"drop");
        // It takes too long for a scheduler.
        drop_later(self.table.take());
    }
}

impl Registry {
    /// Opens the registry of this name for its owner, whose death closes it. Reads begin when it is
    /// [published](Registry::publish).
    ///
    /// Earlier ones of this name whose owners are dead are closed.
    pub fn open(env: Env<'_>, name: u64, owner: Pid, max_children: Option<usize>) -> Opened {
        point!(c"open");
        let slot = NAMES.claim(name);
        for earlier in slot.all() {
            if earlier.owner != owner && is_alive(env, earlier.owner) {
                return Opened::Taken(earlier.owner);
            }
            // The VM may just not have said so yet.
            earlier.close();
        }
        let registry = ResourceArc::new(Self::new(name, slot, owner, max_children));
        slot.registries.lock().push(registry.clone());
        // Relaxed: as in `is_expected`.
        slot.ended.store(false, Ordering::Relaxed);
        match registry.watch(env, owner) {
            true => Opened::Done(registry),
            false => Opened::Dead,
        }
    }

    fn new(name: u64, slot: &'static Slot, owner: Pid, max_children: Option<usize>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let table = max_children.map_or_else(Table::new, Table::bounded);
        let (pid, parent) = (owner, None);
        table.track(Worker { pid, parent });
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            name,
            slot,
            owner,
            table: Some(Arc::new(table)),
            sealed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            sweeper: AtomicU64::new(0),
            starts: AtomicUsize::new(0),
            ends: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            killed_at: AtomicI64::new(0),
            busy: Mutex::new(None),
        }
    }

    /// Has reads go to it. Only its owner calls this.
    pub fn publish(&self) {
        self.slot.table.set(Arc::clone(self.table()));
    }

    pub fn table(&self) -> &Arc<Table<Copied>> {
        let table = self.table.as_ref();
        table.unwrap_or_else(|| unreachable!("by the invariant"))
    }

    /// Has no more workers start, while reads go on.
    pub fn seal(&self) {
        // SeqCst: see `begins`.
        self.sealed.store(true, Ordering::SeqCst);
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::SeqCst)
    }

    /// Notes that it ends in order, unless there is a later one.
    pub fn end_in_order(&self) {
        let registries = self.slot.registries.lock();
        if registries
            .last()
            .is_some_and(|last| last.number == self.number)
        {
            // Relaxed: as in `is_expected`.
            self.slot.ended.store(true, Ordering::Relaxed);
        }
    }

    /// Ends reads too.
    pub fn close(&self) {
        if self.closed.load(Ordering::Relaxed) || self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        point!(c"close");
        self.seal();
        self.slot.table.retract(self.table());
    }

    /// Has the slot let go of this registry once it is closed, all its processes are gone and its
    /// starts are over: what it held is freed.
    fn let_go_if_drained(&self) {
        // Acquire: whoever sees the last start over sees all of it.
        let drained = || {
            self.closed.load(Ordering::Relaxed)
                && self.table().is_drained()
                && self.starts.load(Ordering::Acquire) == 0
        };
        if !drained() {
            return;
        }
        point!(c"let go");
        let gone = {
            let mut all = self.slot.registries.lock();
            let nth = all.iter().position(|other| other.number == self.number);
            nth.map(|nth| all.remove(nth))
        };
        // Dropped here, without the lock: it may be the last reference, and run a destructor.
        drop(gone);
    }

    /// Whether a process whose end is watched for is alive. If the news of its end came before it
    /// was entered, it is forgotten.
    fn is_alive_still(&self, env: Env<'_>, pid: Pid) -> bool {
        let alive = is_alive(env, pid);
        if !alive {
            self.forget(pid);
        }
        alive
    }

    /// Whether a process belongs to it, and is no guest.
    pub fn knows(&self, pid: Pid) -> bool {
        let known = self.table().known(pid);
        known.is_some_and(|known| !known.is_guest())
    }

    /// Forgets a process that is dead. A start that it was in is not over by that.
    pub fn forget(&self, pid: Pid) {
        point!(c"down");
        // Relaxed: what a process is busy with it has begun itself, or its end was begun while it lived.
        let any = |count: &AtomicUsize| count.load(Ordering::Relaxed) > 0;
        if (any(&self.starts) || any(&self.ends))
            && let Some(busy) = STARTS.died(pid, self.number)
        {
            if busy.does == Does::End {
                void(&busy, pid);
                self.ends.fetch_sub(1, Ordering::Relaxed);
            } else {
                died(pid);
            }
        }
        if pid == self.owner {
            self.close();
        }
        self.table().remove(pid);
        self.let_go_if_drained();
    }
}

/// What its processes write.
impl Registry {
    /// Takes an id out of sight, unless it is a guest's. Its worker is busy with its end then. `None`
    /// if there is none, or a later registry is opened: that ends it.
    pub fn retire(&self, env: Env<'_>, id: &Id<'_, Term<'_>>) -> Option<Worker> {
        let found = self.table().get(id, &pin())?;
        let guest = Worker::guest(found);
        if self.table().known(found) == Some(guest) {
            return Some(guest);
        }
        // Before it is out of sight, so that a later registry finds it here or there.
        if !self.ends(env, found, id) {
            return None;
        }
        let retired = self.table().retire(id);
        if retired.is_none_or(|worker| worker.pid != found) {
            self.ended(found);
        }
        retired
    }

    /// Whether a process begins to end, for this id: not if a later registry may be opened.
    fn ends(&self, env: Env<'_>, pid: Pid, id: &Id<'_, Term<'_>>) -> bool {
        self.begin_end(env, pid, id);
        // SeqCst: see `begins`.
        fence(Ordering::SeqCst);
        let ends = !self.closed.load(Ordering::SeqCst);
        if !ends {
            self.ended(pid);
        }
        ends
    }

    /// A process is busy with its end from now on, for this id, if it is alive.
    pub fn begin_end(&self, env: Env<'_>, pid: Pid, id: &Id<'_, Term<'_>>) {
        self.ends.fetch_add(1, Ordering::Relaxed);
        STARTS.begin(pid, self.number, self.name, Does::End, id);
        // Of one that has died before, there will be no other news.
        if !is_alive(env, pid) {
            self.ended(pid);
        }
    }

    fn ended(&self, pid: Pid) {
        if let Some(busy) = STARTS.end(pid, self.number) {
            void(&busy, pid);
            self.ends.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A process begins the start of the worker of an id. Returns whether it may.
    pub fn begins(&self, pid: Pid, id: &Id<'_, Term<'_>>) -> bool {
        self.starts.fetch_add(1, Ordering::Relaxed);
        STARTS.begin(pid, self.number, self.name, Does::Start, id);
        // SeqCst, as in `seal` and `note_busy`: either this sees the seal, or whoever has sealed it and
        // looks for starts finds this one.
        fence(Ordering::SeqCst);
        let begins = !self.is_sealed();
        if !begins {
            self.start_is_over(pid);
        }
        begins
    }

    /// The start in which a process was is over: it has registered a worker, or has told of what it left,
    /// or all of that is ended.
    pub fn start_is_over(&self, pid: Pid) {
        if let Some(busy) = STARTS.end(pid, self.number) {
            void(&busy, pid);
            if busy.leaves {
                self.leaving.fetch_sub(1, Ordering::Relaxed);
            }
            // Release, with the Acquire in `let_go_if_drained`.
            self.starts.fetch_sub(1, Ordering::Release);
            self.let_go_if_drained();
        }
    }

    /// Whether there is room for a child with this id; a parent is promised it.
    pub fn promise(&self, env: Env<'_>, id: &Id<'_, Term<'_>>, parent: Option<Pid>) -> bool {
        let table = self.table();
        let earlier = self.earlier();
        let others = earlier.iter().map(|other| other.table().taken()).sum();
        let promise = || match parent {
            Some(parent) => table.promise(parent, others),
            None => table.has_room(others),
        };
        promise() || {
            // The id's last process, if it is dead: it is not in the way, however late the news.
            let last = table.get(id, &pin());
            if let Some(dead) = last.filter(|&pid| !is_alive(env, pid)) {
                table.remove(dead);
            }
            table.settle(id);
            promise()
        }
    }
}

/// What became of a registration.
pub enum Registered {
    /// The id is the worker's.
    Done,
    /// The worker is dead.
    Dead,
    /// No more workers start. This one is entered all the same, unless it is a guest.
    Sealed,
    /// It was refused.
    Refused(Conflict),
}

/// Whether a process is alive: it has not begun to exit.
#[inline]
pub fn is_alive(env: Env<'_>, pid: Pid) -> bool {
    env.is_process_alive(pid_to_local(pid))
}

/// Who enters a registry, has the VM tell it of its end.
pub trait Enter {
    /// Enters a live worker for an id that has no live one.
    fn register(&self, env: Env<'_>, id: &Id<'_, Term<'_>>, worker: Worker) -> Registered;

    /// Makes a process known that has no id, or is a guest.
    fn track(&self, env: Env<'_>, worker: Worker) -> bool;

    /// Makes a process known that a start has left, with whose id it is busy with its end from now on.
    /// Returns whether it has to go: not if it belongs to the registry already.
    fn refuse(&self, env: Env<'_>, worker: Worker) -> bool;

    /// Has the VM tell of this process's end; if it has come already, does what is to be done.
    fn watch(&self, env: Env<'_>, pid: Pid) -> bool;
}

impl Enter for ResourceArc<Registry> {
    fn register(&self, env: Env<'_>, id: &Id<'_, Term<'_>>, worker: Worker) -> Registered {
        let pid = worker.pid;
        let table = self.table();
        if worker.is_guest() && self.is_sealed() {
            return Registered::Sealed;
        }
        // Who is left of an earlier registry is being ended.
        if self.earlier().iter().any(|earlier| earlier.knows(pid)) {
            return Registered::Refused(Conflict::PidTaken);
        }
        // A guest, whose end is watched for since it was entered first.
        let watched = table.known(pid).is_some();
        while let Err(conflict) = table.insert(id, worker) {
            match conflict {
                // A dead one whose last news is late: it is as good as come.
                Conflict::IdTaken(other) if !is_alive(env, other) => {
                    table.remove(other);
                }
                conflict => return Registered::Refused(conflict),
            }
        }
        let alive = match watched {
            true => self.is_alive_still(env, pid),
            false => self.watch(env, pid),
        };
        match alive {
            // It is entered all the same: a later registry finds it.
            true if self.is_sealed() => Registered::Sealed,
            true => Registered::Done,
            false => Registered::Dead,
        }
    }

    fn track(&self, env: Env<'_>, worker: Worker) -> bool {
        self.table().track(worker) && self.watch(env, worker.pid)
    }

    fn refuse(&self, env: Env<'_>, worker: Worker) -> bool {
        let new = self.table().refuse(worker);
        if new {
            let starter = worker.parent.filter(|_| !worker.is_guest());
            self.ends.fetch_add(1, Ordering::Relaxed);
            match starter.and_then(|starter| STARTS.end_of_start(worker.pid, starter)) {
                Some(true) => {
                    self.leaving.fetch_add(1, Ordering::Relaxed);
                }
                Some(false) => {}
                None => {
                    self.ends.fetch_sub(1, Ordering::Relaxed);
                }
            }
            // After it is in `STARTS`: so it is found there, or noted here.
            if let Some(busy) = STARTS.busy(worker.pid)
                && let Some(noted) = &mut *self.busy.lock()
            {
                noted.by_hash.entry(busy.hash).or_default().push(worker.pid);
            }
            self.watch(env, worker.pid);
        }
        new
    }

    fn watch(&self, env: Env<'_>, pid: Pid) -> bool {
        let watched = self.monitor(Some(env), &pid_to_local(pid)).is_some();
        if !watched {
            self.forget(pid);
        }
        watched
    }
}
