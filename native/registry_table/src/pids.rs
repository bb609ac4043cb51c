//! What is known of each process, for writers: readers would pay for the locks.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::id::Pid;
use crate::sync::{Mutex, MutexGuard, sized};

/// So many that at ten million processes neither growing nor shrinking the map of one shard takes
/// more than some hundred microseconds.
const SHARDS: usize = sized(2048, 1);

/// A map from processes to what is known of them. One that has been large and is not any more gives
/// back the room, shard by shard.
pub(crate) struct Pids<V> {
    shards: Box<[Shard<V>]>,
}

type Shard<V> = Mutex<HashMap<u64, V, FixedState>>;

impl<V: Copy> Pids<V> {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::iter::repeat_with(|| Mutex::new(HashMap::default()))
                .take(SHARDS)
                .collect(),
        }
    }

    pub(crate) fn get(&self, pid: Pid) -> Option<V> {
        self.shard(pid).get(&pid.word()).copied()
    }

    /// Puts in what `value` makes of what is known of the process. Answers whether it made
    /// anything.
    pub(crate) fn put(&self, pid: Pid, value: impl FnOnce(Option<V>) -> Option<V>) -> bool {
        let mut shard = self.shard(pid);
        let new = value(shard.get(&pid.word()).copied());
        if let Some(new) = new {
            shard.insert(pid.word(), new);
        }
        new.is_some()
    }

    pub(crate) fn change(&self, pid: Pid, change: impl FnOnce(&mut V)) {
        if let Some(value) = self.shard(pid).get_mut(&pid.word()) {
            change(value);
        }
    }

    /// Removes what is known of a process, if it is what is wanted. Answers whether it was.
    pub(crate) fn remove_if(&self, pid: Pid, wanted: impl FnOnce(&V) -> bool) -> bool {
        let mut shard = self.shard(pid);
        if !shard.get(&pid.word()).is_some_and(wanted) {
            return false;
        }
        shard.remove(&pid.word());
        let live = shard.len();
        if live < shard.capacity() / 8 {
            shard.shrink_to(live * 2);
        }
        true
    }

    /// Visits all, in no order. Those that come or go meanwhile may be visited or not.
    pub(crate) fn each(&self, mut visit: impl FnMut(Pid, V)) {
        for shard in &self.shards {
            for (&word, &value) in shard.lock().iter() {
                if let Some(pid) = Pid::new(word) {
                    visit(pid, value);
                }
            }
        }
    }

    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let places = self.shards.iter().map(|shard| shard.lock().capacity());
        // One place in eight stays free, and each has a byte beside it.
        let each = size_of::<(u64, V)>() + 1;
        size_of_val(&*self.shards) + places.sum::<usize>() * 8 / 7 * each
    }

    fn shard(&self, pid: Pid) -> MutexGuard<'_, HashMap<u64, V, FixedState>> {
        // By bits of the hash by which the maps themselves do not go. A hash that spread pids evenly, as
        // they count up, would have all maps grow at the same time.
        let hash = FixedState::default().hash_one(pid.word());
        self.shards[(hash >> 32) as usize % SHARDS].lock()
    }
}

#[cfg(all(test, not(registry_table_loom)))]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_and_what_is_left_stays() {
        const MANY: u64 = 200_000;
        let pid = |n: u64| Pid::new(n).expect("not zero");
        let stays = |n: u64| n.is_multiple_of(100);
        let pids = Pids::new();
        let room = || {
            let shards = pids.shards.iter();
            shards.map(|shard| shard.lock().capacity()).sum::<usize>()
        };
        for n in 1..=MANY {
            assert!(pids.put(pid(n), |known| known.is_none().then_some(n)));
        }
        assert!(room() >= MANY as usize);
        for n in (1..=MANY).filter(|&n| !stays(n)) {
            assert!(pids.remove_if(pid(n), |&known| known == n));
        }
        assert!(room() < MANY as usize / 10, "room for {}", room());
        for n in 1..=MANY {
            assert_eq!(pids.get(pid(n)), stays(n).then_some(n));
        }
    }
}
