//! How many children a registry has room for.

use std::collections::BTreeSet;

use crate::id::Pid;
use crate::sync::Mutex;

/// The room for children. Each takes a place from when it is promised one, to its parent, until it
/// is gone or the promise is given back: so there are never more of them, and never fewer than
/// could be.
pub(crate) struct Children {
    most: usize,
    room: Mutex<Room>,
}

#[derive(Default)]
struct Room {
    taken: usize,
    /// The parents, as words, whose next child has a place.
    promised: BTreeSet<u64>,
}

impl Children {
    pub(crate) fn new(most: usize) -> Self {
        let room = Mutex::new(Room::default());
        Self { most, room }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.room.lock().taken < self.most
    }

    /// Promises a place to the parent's next child. One that it was promised already is kept for
    /// it. Answers whether there was room.
    pub(crate) fn promise(&self, parent: Pid) -> bool {
        let mut room = self.room.lock();
        if room.promised.contains(&parent.word()) {
            return true;
        }
        let free = room.taken < self.most;
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
        self.room.lock().promised.remove(&parent.word())
    }

    pub(crate) fn gone(&self) {
        self.room.lock().taken -= 1;
    }
}
