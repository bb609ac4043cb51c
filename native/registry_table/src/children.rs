//! How many children a registry has room for.

use std::collections::BTreeSet;

use crate::id::Pid;
use crate::sync::{AtomicBool, Mutex, Ordering};

/// The room for children. Where it is bounded, each takes a place from when it is promised one, to
/// its parent, until it is gone or the promise is given back: so there are never more of them, and
/// never fewer than could be.
pub(crate) struct Children {
    /// Whether there is a bound, so that those without one lock nothing.
    bounded: AtomicBool,
    room: Mutex<Room>,
}

#[derive(Default)]
struct Room {
    most: usize,
    taken: usize,
    /// The parents, as words, whose next child has a place.
    promised: BTreeSet<u64>,
}

impl Children {
    /// For so many children, or for any number.
    pub(crate) fn new(most: Option<usize>) -> Self {
        let children = Self {
            bounded: AtomicBool::new(false),
            room: Mutex::new(Room::default()),
        };
        children.bound(most);
        children
    }

    /// Sets the bound, or that there is none. Promises that were made under the last one are void.
    pub(crate) fn bound(&self, most: Option<usize>) {
        let mut room = self.room.lock();
        room.taken -= room.promised.len();
        room.promised.clear();
        room.most = most.unwrap_or(0);
        // Relaxed: it changes only before there is anyone to ask for a place.
        self.bounded.store(most.is_some(), Ordering::Relaxed);
    }

    fn is_bounded(&self) -> bool {
        self.bounded.load(Ordering::Relaxed)
    }

    pub(crate) fn has_room(&self) -> bool {
        if !self.is_bounded() {
            return true;
        }
        let room = self.room.lock();
        room.taken < room.most
    }

    /// Promises a place to the parent's next child. One that it was promised already is kept for
    /// it. Answers whether there was room.
    pub(crate) fn promise(&self, parent: Pid) -> bool {
        if !self.is_bounded() {
            return true;
        }
        let mut room = self.room.lock();
        if room.promised.contains(&parent.word()) {
            return true;
        }
        let free = room.taken < room.most;
        if free {
            room.taken += 1;
            room.promised.insert(parent.word());
        }
        free
    }

    /// Gives the parent's promise back, if it has one.
    pub(crate) fn give_back(&self, parent: Pid) {
        let mut room = self.room.lock();
        if room.promised.remove(&parent.word()) {
            room.taken -= 1;
        }
    }

    /// A child takes the place that its parent was promised, if it was. Answers whether it did:
    /// then it has to be told when it is [`gone`](Self::gone).
    pub(crate) fn born(&self, parent: Pid) -> bool {
        self.is_bounded() && self.room.lock().promised.remove(&parent.word())
    }

    pub(crate) fn gone(&self) {
        self.room.lock().taken -= 1;
    }
}
