//! The tables of the running registries, and the monitors that keep them true.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use registry_table::{Busy, Conflict, Id, Names, Pid, Published, Table, Worker, drop_later, pin};
use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc, Term};

use crate::copied::Copied;
use crate::starts::{self, STARTS};
use crate::words::{pid_from_local, pid_to_local};

/// The registries of this VM by their names' atoms.
pub static NAMES: Names<Slot> = Names::new();

/// What there is under one name.
#[derive(Default)]
pub struct Slot {
    /// The table that reads go to, while a registry runs.
    pub table: Published<Table<Copied>>,
    /// The last registry of this name, for as long as it runs or a process of it is alive.
    last: Mutex<Option<ResourceArc<Registry>>>,
}

/// One registry, from its start until its last process is gone; one that comes while there are
/// guests goes on with it. As a resource it is what the VM tells of the deaths of its processes.
pub struct Registry {
    name: u64,
    slot: &'static Slot,
    /// Invariant: there until it is dropped.
    table: Option<Arc<Table<Copied>>>,
    /// Who opened it last. Whoever writes by a [`Handle`] holds this for reading meanwhile: once it
    /// has changed, no write of the last owner is under way, and none is to come.
    owner: RwLock<Pid>,
    /// The owner's word while it is open, else one of the two that follow.
    state: AtomicU64,
}

/// No pid has this word, as none has zero.
const CLOSED: u64 = 1;

/// The table is still being taken from readers.
const CLOSING: u64 = 0;

/// What a registry is to the process that opened it.
pub struct Handle {
    pub registry: ResourceArc<Registry>,
    owner: Pid,
}

/// What became of an opening.
pub enum Opened {
    /// It is open.
    Done(ResourceArc<Handle>),
    /// Something of the last owner is under way: in a moment it is over.
    Busy,
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

#[rustler::resource_impl]
impl Resource for Handle {}

impl Drop for Registry {
    fn drop(&mut self) {
        point!(c"drop");
        // It takes too long for a scheduler.
        drop_later(self.table.take());
    }
}

impl Slot {
    /// The process of the last registry of this name, while that or a process of it is alive.
    pub fn owner(&self) -> Option<Pid> {
        self.last().map(|last| last.owner())
    }

    /// The processes of the last registry of this name that are still known, but for guests.
    pub fn processes(&self) -> Vec<Worker> {
        self.last()
            .map_or_else(Vec::new, |last| last.table().processes())
    }

    /// Forgets a process of the last registry of this name, if it is dead.
    pub fn forget(&self, env: Env<'_>, pid: Pid) {
        if let Some(last) = self.last().filter(|_| !is_alive(env, pid)) {
            last.forget(pid);
        }
    }

    /// Whether a process is one of the last registry of this name, and no guest.
    pub fn knows(&self, pid: Pid) -> bool {
        self.last().is_some_and(|last| last.knows(pid))
    }

    /// Frees the id of a guest of the last registry of this name, which need not run. `None` if
    /// there is no such registry.
    pub fn release(&self, id: &Id<'_, Term<'_>>) -> Option<bool> {
        self.last().map(|last| last.table().release(id))
    }

    fn last(&self) -> Option<ResourceArc<Registry>> {
        self.last.lock().clone()
    }
}

impl Registry {
    /// Opens the registry of this name for its owner, whose death closes it.
    ///
    /// The last registry of this name has no live process but guests. If there are any, they keep
    /// their ids: its table is opened again. Else it is let go of.
    pub fn open(env: Env<'_>, name: u64, owner: Pid, max_children: Option<usize>) -> Opened {
        point!(c"open");
        let slot = NAMES.claim(name);
        let before = slot.last();
        if let Some(before) = &before {
            // Its owner is dead: the VM may just not have said so yet.
            before.close(before.owner());
        }
        let registry = match before.filter(|before| before.table().guests() > 0) {
            Some(before) => {
                if !before.reopen(owner, max_children) {
                    return Opened::Busy;
                }
                before
            }
            None => {
                let new = ResourceArc::new(Self::new(name, slot, owner, max_children));
                let before = slot.last.lock().replace(new.clone());
                // Dropped here, without the lock: it may be the last reference, and run a
                // destructor.
                drop(before);
                new
            }
        };
        slot.table.set(Arc::clone(registry.table()));
        if registry.watch(env, owner) {
            return Opened::Done(ResourceArc::new(Handle { registry, owner }));
        }
        registry.close(owner);
        Opened::Dead
    }

    fn new(name: u64, slot: &'static Slot, owner: Pid, max_children: Option<usize>) -> Self {
        let table = max_children.map_or_else(Table::new, Table::bounded);
        table.track(server(owner));
        Self {
            name,
            slot,
            table: Some(Arc::new(table)),
            owner: RwLock::new(owner),
            state: AtomicU64::new(owner.word()),
        }
    }

    pub fn table(&self) -> &Arc<Table<Copied>> {
        let table = self.table.as_ref();
        table.unwrap_or_else(|| unreachable!("by the invariant"))
    }

    /// Opens it for another owner, unless something of the last one is under way, or the slot has
    /// let go of it.
    fn reopen(&self, owner: Pid, max_children: Option<usize>) -> bool {
        let last = self.slot.last.lock();
        let Some(mut current) = self.owner.try_write() else {
            return false;
        };
        // Acquire: its closing is over, and takes nothing from readers that they are given now.
        let closed = self.state.load(Ordering::Acquire) == CLOSED;
        if !closed || !last.as_ref().is_some_and(|last| self.is(last)) {
            return false;
        }
        // First, so that whoever sees the new owner among the processes knows whose they are.
        *current = owner;
        self.table().track(server(owner));
        self.table().reopen(max_children);
        // Relaxed: only the owner's own death, and the next opening, are interested in it.
        self.state.store(owner.word(), Ordering::Relaxed);
        true
    }

    /// Ends reads and refuses insertions, if it is open for this owner.
    pub fn close(&self, owner: Pid) {
        let own = owner.word();
        // Relaxed: it was the owner's before anyone could close it for the owner. Most who come here
        // are other processes at their end, which write nothing to find that out.
        if self.state.load(Ordering::Relaxed) != own {
            return;
        }
        point!(c"close");
        let exchange =
            self.state
                .compare_exchange(own, CLOSING, Ordering::Relaxed, Ordering::Relaxed);
        if exchange.is_ok() {
            self.table().close();
            self.slot.table.retract(self.table());
            // Release: see `reopen`.
            self.state.store(CLOSED, Ordering::Release);
        }
    }

    /// Has the slot let go of this registry once it is closed and all its processes are gone: what
    /// it held is freed.
    fn let_go_if_drained(&self) {
        let drained = || self.table().is_closed() && self.table().is_drained();
        if !drained() {
            return;
        }
        point!(c"let go");
        // It may have been opened again meanwhile.
        let last = self
            .slot
            .last
            .lock()
            .take_if(|last| self.is(last) && drained());
        // Dropped here, without the lock: it may be the last reference, and run a destructor.
        drop(last);
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.table(), other.table())
    }

    fn owner(&self) -> Pid {
        *self.owner.read()
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
    fn knows(&self, pid: Pid) -> bool {
        let known = self.table().known(pid);
        known.is_some_and(|known| !known.is_guest())
    }

    /// Forgets a process that is dead.
    pub fn forget(&self, pid: Pid) {
        point!(c"down");
        starts::end(pid);
        self.close(pid);
        self.table().remove(pid);
        self.let_go_if_drained();
    }
}

/// A registry's own process.
fn server(pid: Pid) -> Worker {
    Worker { pid, parent: None }
}

/// What became of a registration.
pub enum Registered {
    /// The id is the worker's.
    Done,
    /// The worker is dead.
    Dead,
    /// It was refused.
    Refused(Conflict),
}

impl Handle {
    /// Enters a live worker for an id that has no live one.
    pub fn register(&self, env: Env<'_>, id: &Id<'_, Term<'_>>, worker: Worker) -> Registered {
        let pid = worker.pid;
        let table = self.registry.table();
        // A guest, whose end is watched for since it was entered first.
        let watched = table.known(pid).is_some();
        let refused = loop {
            match self.write(|table| table.insert(id, worker)) {
                Some(Ok(())) => break None,
                // A dead one whose last news is late: it is as good as come.
                Some(Err(Conflict::IdTaken(pid))) if !is_alive(env, pid) => {
                    table.remove(pid);
                }
                // A closed table tracks the process: whoever opens the name next must wait for it.
                Some(Err(Conflict::Closed)) if !worker.is_guest() => break Some(Conflict::Closed),
                Some(Err(conflict)) => return Registered::Refused(conflict),
                None => return Registered::Refused(Conflict::Closed),
            }
        };
        let alive = if watched {
            self.registry.is_alive_still(env, pid)
        } else {
            self.registry.watch(env, pid)
        };
        match refused {
            Some(conflict) => Registered::Refused(conflict),
            None if alive => Registered::Done,
            None => Registered::Dead,
        }
    }

    /// Makes a process known that has no id, or is a guest.
    pub fn track(&self, env: Env<'_>, worker: Worker) -> bool {
        self.write(|table| table.track(worker)) == Some(true)
            && self.registry.watch(env, worker.pid)
    }

    /// Makes a worker known whose id another process has. Answers whether it has to go: not if it
    /// belongs to the registry already.
    pub fn refuse(&self, env: Env<'_>, worker: Worker) -> bool {
        let refused = self.write(|table| table.refuse(worker));
        if refused == Some(true) {
            self.registry.watch(env, worker.pid);
        }
        refused != Some(false)
    }

    /// Takes an id out of sight, unless it is a guest's. Its worker is busy with its end then.
    pub fn retire(&self, env: Env<'_>, id: &Id<'_, Term<'_>>) -> Option<Worker> {
        let worker = self.write(|table| table.retire(id)).flatten()?;
        if !worker.is_guest() {
            let name = self.registry.name;
            let flight = STARTS.flight(name, id);
            let ends = true;
            STARTS.begin(worker.pid, Busy { name, ends, flight });
            // Of one that has died before, there will be no other news.
            if !is_alive(env, worker.pid) {
                starts::end(worker.pid);
            }
        }
        Some(worker)
    }

    /// Whether a process belongs to this registry, and is no guest.
    pub fn knows(&self, pid: Pid) -> bool {
        self.registry.knows(pid)
    }

    /// About how many bytes its table takes.
    pub fn memory(&self) -> usize {
        self.registry.table().memory()
    }

    /// Whether there is room for a child with this id; a parent is promised it.
    pub fn promise(&self, env: Env<'_>, id: &Id<'_, Term<'_>>, parent: Option<Pid>) -> bool {
        let promise = |table: &Table<Copied>| match parent {
            Some(parent) => table.promise(parent),
            None => table.has_room(),
        };
        let promised = self.write(|table| {
            promise(table) || {
                // The id's last process, if it is dead: it is not in the way, however late the news.
                let last = table.get(id, &pin());
                let dead = last.filter(|&pid| !is_alive(env, pid));
                dead.is_some_and(|pid| table.remove(pid)) && promise(table)
            }
        });
        promised == Some(true)
    }

    /// Gives back the room that a parent was promised and has not used.
    pub fn give_back(&self, parent: Pid) {
        self.write(|table| table.give_back(parent));
    }

    /// Refuses insertions, while reads go on.
    pub fn seal(&self) {
        self.write(|table| table.close());
    }

    /// Ends reads and refuses insertions.
    pub fn close(&self) {
        self.registry.close(self.owner);
    }

    /// Writes, unless the registry is another's by now.
    fn write<R>(&self, write: impl FnOnce(&Table<Copied>) -> R) -> Option<R> {
        let owner = self.registry.owner.read();
        (*owner == self.owner).then(|| write(self.registry.table()))
    }
}

/// Whether a process is alive: it has not begun to exit.
#[inline]
pub fn is_alive(env: Env<'_>, pid: Pid) -> bool {
    env.is_process_alive(pid_to_local(pid))
}

trait Watch {
    fn watch(&self, env: Env<'_>, pid: Pid) -> bool;
}

impl Watch for ResourceArc<Registry> {
    /// Has the VM tell of this process's end; if it has come already, does what is to be done.
    fn watch(&self, env: Env<'_>, pid: Pid) -> bool {
        let watched = self.monitor(Some(env), &pid_to_local(pid)).is_some();
        if !watched {
            self.forget(pid);
        }
        watched
    }
}
