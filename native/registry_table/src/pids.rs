//! What is known of each process, for writers: readers would pay for the locks.

#[cfg(not(registry_table_loom))]
pub(crate) use usual::Pids;

#[cfg(registry_table_loom)]
pub(crate) use modelled::Pids;

#[cfg(not(registry_table_loom))]
mod usual {
    use dashmap::{DashMap, Entry};
    use foldhash::fast::FixedState;

    use crate::id::Pid;

    /// So many that at ten million processes neither growing nor shrinking the map of one shard
    /// takes more than some hundred microseconds.
    const MOST: usize = 2048;
    const FEWEST: usize = 64;
    /// As many processes are worth a shard.
    const EACH: usize = 256;

    /// A map from processes to what is known of them. One that has been large and is not any more
    /// gives back the room, shard by shard.
    pub(crate) struct Pids<V>(DashMap<u64, V, FixedState>);

    impl<V> Pids<V> {
        /// For about so many processes, or for any number.
        pub(crate) fn new(count: Option<usize>) -> Self {
            let shards = count.map_or(MOST, |count| (count / EACH).clamp(FEWEST, MOST));
            // FixedState: pids are the VM's to choose, and nobody else's.
            let map = DashMap::with_hasher_and_shard_amount(
                FixedState::default(),
                shards.next_power_of_two(),
            );
            Self(map)
        }

        pub(crate) fn read<R>(&self, pid: Pid, read: impl FnOnce(&V) -> R) -> Option<R> {
            self.0.view(&pid.word(), |_, value| read(value))
        }

        /// Puts in what `value` makes of what is known of the process. Returns whether it made
        /// anything.
        pub(crate) fn put(&self, pid: Pid, value: impl FnOnce(Option<&V>) -> Option<V>) -> bool {
            let new = match self.0.entry(pid.word()) {
                Entry::Occupied(mut entry) => value(Some(entry.get())).map(|new| {
                    entry.insert(new);
                }),
                Entry::Vacant(entry) => value(None).map(|new| {
                    entry.insert(new);
                }),
            };
            new.is_some()
        }

        pub(crate) fn change(&self, pid: Pid, change: impl FnOnce(&mut V)) {
            if let Some(mut value) = self.0.get_mut(&pid.word()) {
                change(&mut value);
            }
        }

        /// Removes what is known of a process, if it is what is wanted, and returns it.
        pub(crate) fn remove_if(&self, pid: Pid, wanted: impl FnOnce(&V) -> bool) -> Option<V> {
            let (_, removed) = self.0.remove_if(&pid.word(), |_, value| wanted(value))?;
            let hash = |word: &u64| self.0.hash_usize(word);
            let shard = &self.0.shards()[self.0.determine_shard(hash(&pid.word()))];
            let mut map = shard.write();
            if map.len() < map.capacity() / 8 {
                let room = map.len() * 2;
                map.shrink_to(room, |(word, _)| hash(word) as u64);
            }
            Some(removed)
        }

        /// Visits all, in no order. Those that come or go meanwhile may be visited or not.
        pub(crate) fn each(&self, mut visit: impl FnMut(Pid, &V)) {
            for entry in &self.0 {
                if let Some(pid) = Pid::new(*entry.key()) {
                    visit(pid, entry.value());
                }
            }
        }

        /// How much memory it takes.
        pub(crate) fn bytes(&self) -> usize {
            // One place in eight stays free, and each has a byte beside it.
            let each = size_of::<(u64, V)>() + 1;
            size_of_val(self.0.shards()) + self.0.capacity() * 8 / 7 * each
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn room_is_given_back_and_what_is_left_stays() {
            const MANY: u64 = 200_000;
            let pid = |n: u64| Pid::new(n).expect("not zero");
            let stays = |n: u64| n.is_multiple_of(100);
            let pids = Pids::new(None);
            for n in 1..=MANY {
                assert!(pids.put(pid(n), |known| known.is_none().then_some(n)));
            }
            assert!(pids.0.capacity() >= MANY as usize);
            for n in (1..=MANY).filter(|&n| !stays(n)) {
                assert_eq!(pids.remove_if(pid(n), |&known| known == n), Some(n));
            }
            let room = pids.0.capacity();
            assert!(room < MANY as usize / 10, "room for {room}");
            for n in 1..=MANY {
                assert_eq!(pids.read(pid(n), |&n| n), stays(n).then_some(n));
            }
        }

        #[test]
        fn there_are_fewer_shards_for_fewer_processes() {
            let shards = |count| Pids::<u64>::new(count).0.shards().len();
            assert_eq!(shards(None), MOST);
            assert_eq!(shards(Some(usize::MAX)), MOST);
            assert_eq!(shards(Some(0)), FEWEST);
            assert_eq!(shards(Some(100_000)), 512);
        }
    }
}

/// One map under one lock, in the place of a crate that loom cannot look into.
#[cfg(registry_table_loom)]
mod modelled {
    use std::collections::HashMap;

    use crate::id::Pid;
    use crate::sync::Mutex;

    pub(crate) struct Pids<V>(Mutex<HashMap<u64, V>>);

    impl<V> Pids<V> {
        pub(crate) fn new(_count: Option<usize>) -> Self {
            Self(Mutex::new(HashMap::new()))
        }

        pub(crate) fn read<R>(&self, pid: Pid, read: impl FnOnce(&V) -> R) -> Option<R> {
            self.0.lock().get(&pid.word()).map(read)
        }

        pub(crate) fn put(&self, pid: Pid, value: impl FnOnce(Option<&V>) -> Option<V>) -> bool {
            let mut map = self.0.lock();
            let new = value(map.get(&pid.word()));
            new.map(|new| map.insert(pid.word(), new)).is_some()
        }

        pub(crate) fn change(&self, pid: Pid, change: impl FnOnce(&mut V)) {
            if let Some(value) = self.0.lock().get_mut(&pid.word()) {
                change(value);
            }
        }

        pub(crate) fn remove_if(&self, pid: Pid, wanted: impl FnOnce(&V) -> bool) -> Option<V> {
            let mut map = self.0.lock();
            map.get(&pid.word())
                .is_some_and(wanted)
                .then(|| map.remove(&pid.word()))?
        }

        pub(crate) fn each(&self, mut visit: impl FnMut(Pid, &V)) {
            for (&word, value) in self.0.lock().iter() {
                if let Some(pid) = Pid::new(word) {
                    visit(pid, value);
                }
            }
        }

        pub(crate) fn bytes(&self) -> usize {
            0
        }
    }
}
