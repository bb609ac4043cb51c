//! The tables of the running registries, and the monitors that keep them true.

use std::sync::Arc;

use parking_lot::Mutex;
use registry_table::{Conflict, Id, Names, Pid, Published, Table, Worker, pin};
use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc, Term};

use crate::copied::Copied;
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

/// One registry, from its start until its last process is gone. As a resource it is what the VM
/// tells of the deaths of its processes.
pub struct Registry {
    slot: &'static Slot,
    pub table: Arc<Table<Copied>>,
    owner: Pid,
}

#[rustler::resource_impl]
impl Resource for Registry {
    /// Runs in the exit of a process, so that its entry goes with it whatever else is busy.
    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if let Some(pid) = pid_from_local(pid) {
            self.forget(pid);
        }
    }
}

impl Slot {
    /// The process of the last registry of this name, while that or a process of it is alive.
    pub fn owner(&self) -> Option<Pid> {
        self.last.lock().as_ref().map(|last| last.owner)
    }

    /// The processes of the last registry of this name that are still known.
    pub fn processes(&self) -> Vec<Worker> {
        let last = self.last.lock().clone();
        last.map_or_else(Vec::new, |last| last.table.processes())
    }
}

impl Registry {
    /// Opens the registry of this name for its owner, whose death closes it. `None` if the owner
    /// is dead already.
    ///
    /// The last registry of this name is let go of: none of its processes is alive.
    pub fn open(
        env: Env<'_>,
        name: u64,
        owner: Pid,
        max_children: Option<usize>,
    ) -> Option<ResourceArc<Self>> {
        point!(c"open");
        let slot = NAMES.claim(name);
        let table = Table::new();
        let table = Arc::new(match max_children {
            Some(most) => table.bounded(most),
            None => table,
        });
        let registry = ResourceArc::new(Self {
            slot,
            table: Arc::clone(&table),
            owner,
        });
        let before = slot.last.lock().replace(registry.clone());
        if let Some(before) = before {
            // Its owner is dead: the VM may just not have said so yet.
            before.close();
        }
        slot.table.set(table);
        let server = Worker {
            pid: owner,
            parent: None,
        };
        if track(env, &registry, server) {
            return Some(registry);
        }
        registry.close();
        None
    }

    /// Forgets a process that is dead.
    pub fn forget(&self, pid: Pid) {
        point!(c"down");
        if pid == self.owner {
            self.close();
        }
        self.table.remove(pid);
        self.let_go_if_drained();
    }

    /// Ends reads and refuses insertions.
    pub fn close(&self) {
        point!(c"close");
        if self.table.close() {
            self.slot.table.retract(&self.table);
        }
    }

    /// Has the slot let go of this registry once it is closed and all its processes are gone: what
    /// it held is freed.
    fn let_go_if_drained(&self) {
        if !self.table.is_closed() || !self.table.is_drained() {
            return;
        }
        point!(c"let go");
        let own = |last: &mut ResourceArc<Self>| Arc::ptr_eq(&last.table, &self.table);
        let last = self.slot.last.lock().take_if(own);
        // Dropped here, without the lock: it may be the last reference, and run a destructor.
        drop(last);
    }

    /// Whether a process belongs to this registry.
    pub fn knows(&self, pid: Pid) -> bool {
        self.table.knows(pid)
    }

    /// About how many bytes its table takes.
    pub fn memory(&self) -> usize {
        self.table.memory()
    }

    /// Whether there is room for a child with this id; a parent is promised it.
    pub fn promise(&self, env: Env<'_>, id: &Id<'_, Term<'_>>, parent: Option<Pid>) -> bool {
        let promise = || match parent {
            Some(parent) => self.table.promise(parent),
            None => self.table.has_room(),
        };
        promise() || {
            // The id's last process, if it is dead: it is not in the way, however late the news.
            let last = self.table.get(id, &pin());
            let dead = last.filter(|&pid| !is_alive(env, pid));
            dead.is_some_and(|pid| self.table.remove(pid)) && promise()
        }
    }

    /// Gives back the room that a parent was promised and has not used.
    pub fn give_back(&self, parent: Pid) {
        self.table.give_back(parent);
    }

    /// Takes an id out of sight.
    pub fn retire(&self, id: &Id<'_, Term<'_>>) -> Option<Worker> {
        self.table.retire(id)
    }
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

/// Enters a live worker for an id that has no live one.
pub fn register(
    env: Env<'_>,
    registry: &ResourceArc<Registry>,
    id: &Id<'_, Term<'_>>,
    worker: Worker,
) -> Registered {
    let refused = loop {
        match registry.table.insert(id, worker) {
            Ok(()) => break None,
            // A dead one whose last news is late: it is as good as come.
            Err(Conflict::IdTaken(pid)) if !is_alive(env, pid) => {
                registry.table.remove(pid);
            }
            // A closed table tracks the process: whoever opens the name next must wait for it.
            Err(Conflict::Closed) => break Some(Conflict::Closed),
            Err(conflict) => return Registered::Refused(conflict),
        }
    };
    let watched = registry.watch(env, worker.pid);
    match refused {
        Some(conflict) => Registered::Refused(conflict),
        None if watched => Registered::Done,
        None => Registered::Dead,
    }
}

/// Makes a process known that has no id.
pub fn track(env: Env<'_>, registry: &ResourceArc<Registry>, worker: Worker) -> bool {
    registry.table.track(worker) && registry.watch(env, worker.pid)
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
            self.table.remove(pid);
            self.let_go_if_drained();
        }
        watched
    }
}
