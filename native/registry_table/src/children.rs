//! How many children a registry has room for.

use std::collections::BTreeSet;

use crate::id::Pid;
use crate::sync::Mutex;

/// The room for children. Where it is bounded, each takes a place from when it is promised one, to
/// its parent, until it is gone or the promise is given back: so there are never more of them, and
/// never fewer than could be.
pub(crate) struct Children {
    /// How many there may be. Without a bound nothing is locked.
    most: Option<usize>,
    room: Mutex<Room>,
}

#[derive(Default)]
struct Room {
    taken: usize,
    /// The parents, as words, whose next child has a place; and children that are gone, and have left
    /// theirs to another.
    promised: BTreeSet<u64>,
    /// Children whose places are to go to others.
    leaving: BTreeSet<u64>,
}

impl Children {
    /// For so many children, or for any number.
    pub(crate) fn new(most: Option<usize>) -> Self {
        let room = Mutex::new(Room::default());
        Self { most, room }
    }

    /// Whether there is room for one more, if so many others have places too.
    pub(crate) fn has_room(&self, others: usize) -> bool {
        self.most
            .is_none_or(|most| self.room.lock().taken.saturating_add(others) < most)
    }

    /// Promises a place to the parent's next child. One that it was promised already is kept for
    /// it. Returns whether there was room, if so many others have places too.
    pub(crate) fn promise(&self, parent: Pid, others: usize) -> bool {
        let Some(most) = self.most else {
            return true;
        };
        let mut room = self.room.lock();
        if room.promised.contains(&parent.word()) {
            return true;
        }
        let free = room.taken.saturating_add(others) < most;
        if free {
            room.taken += 1;
            room.promised.insert(parent.word());
        }
        free
    }

    /// Gives the parent's promise back, if it has one; or the place that a child has left, or was to
    /// leave.
    pub(crate) fn give_back(&self, parent: Pid) {
        let mut room = self.room.lock();
        room.leaving.remove(&parent.word());
        if room.promised.remove(&parent.word()) {
            room.taken -= 1;
        }
    }

    /// A child takes the place that its parent was promised, if it was. Answers whether it did:
    /// then it has to be told when it is [`gone`](Self::gone).
    pub(crate) fn born(&self, parent: Pid) -> bool {
        self.most.is_some() && self.room.lock().promised.remove(&parent.word())
    }

    /// A child is gone: its place is free, or kept for whom it is left to.
    pub(crate) fn gone(&self, child: Pid) {
        let mut room = self.room.lock();
        match room.leaving.remove(&child.word()) {
            true => {
                room.promised.insert(child.word());
            }
            false => room.taken -= 1,
        }
    }

    /// When a child is gone, its place is kept until it is [inherited](Self::inherit), or given back.
    pub(crate) fn leave(&self, child: Pid) {
        self.room.lock().leaving.insert(child.word());
    }

    /// Promises the place that a child has left to a parent's next child. Returns whether there was one.
    pub(crate) fn inherit(&self, child: Pid, parent: Pid) -> bool {
        let mut room = self.room.lock();
        let left = room.promised.remove(&child.word());
        if left && !room.promised.insert(parent.word()) {
            room.taken -= 1;
        }
        left
    }

    /// How many places are taken. `None` without a bound.
    pub(crate) fn taken(&self) -> Option<usize> {
        self.most.map(|_| self.room.lock().taken)
    }
}
