//! What there is under the name of a registry: the one that runs, and those before that are not gone yet.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use registry_table::{Id, Names, Pid, Published, Stored, Table, pin};
use rustler::{ResourceArc, Term};

use crate::copied::Copied;
use crate::registry::Registry;

/// The registries of this VM by their names' atoms.
pub static NAMES: Names<Slot> = Names::new();

/// What there is under one name.
#[derive(Default)]
pub struct Slot {
    /// The table that reads go to, while a registry runs.
    pub table: Published<Table<Copied>>,
    /// The registries of this name, in the order in which they were opened: each for as long as it
    /// runs, a process of it is alive, or a start of it is not over.
    pub registries: Mutex<Vec<ResourceArc<Registry>>>,
    /// Whether the last registry of this name ended in order, or is about to.
    pub ended: AtomicBool,
}

impl Slot {
    /// The process of the last registry of this name, while that or a process of it is alive.
    pub fn owner(&self) -> Option<Pid> {
        self.registries.lock().last().map(|last| last.owner)
    }

    /// Whether a process is one of a registry of this name, and no guest.
    pub fn knows(&self, pid: Pid) -> bool {
        self.all().iter().any(|registry| registry.knows(pid))
    }

    /// Frees the id of a guest, whether a registry runs or not. `None` if there is none of this name.
    pub fn release(&self, id: &Id<'_, Term<'_>>) -> Option<bool> {
        let all = self.all();
        // The oldest first: a guest is entered in a later one before it leaves an earlier one.
        let released = all.iter().any(|registry| registry.table().release(id));
        (!all.is_empty()).then_some(released)
    }

    /// Takes the id of a process that an earlier registry has left.
    pub fn left_id_of<R>(&self, pid: Pid, take: impl FnOnce(Stored<'_, Copied>) -> R) -> Option<R> {
        let all = self.all();
        let left = all.iter().rev().skip(1);
        let knows = |registry: &&ResourceArc<Registry>| registry.knows(pid);
        left.into_iter()
            .find(knows)
            .and_then(|registry| registry.table().id_of(pid, take))
    }

    pub fn all(&self) -> Vec<ResourceArc<Registry>> {
        self.registries.lock().clone()
    }

    /// The name of the registry that runs, if one does.
    pub fn running(&self) -> Option<u64> {
        self.table.get(&pin())?;
        self.registries.lock().last().map(|last| last.name)
    }

    /// Whether a registry of this name runs, or was killed, so that another one will come.
    pub fn is_expected(&self) -> bool {
        // Relaxed: whoever sees it late asks again.
        !self.ended.load(Ordering::Relaxed)
    }
}
