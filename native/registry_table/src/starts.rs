//! Which processes are busy with the start of a worker, or are being stopped, in a whole VM.

use std::sync::atomic::{AtomicUsize, Ordering};

use once_cell::sync::Lazy;

use crate::id::{Id, Pid, Seed};
use crate::pids::Pids;

/// About how many starts run at a time where there are many.
const MANY: usize = 64 * 1024;

/// What is under way for an id of a registry: its start, or the end of its worker. Two of them are
/// equal by chance only, which depends on this VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    name: u64,
    hash: u64,
}

/// What a process is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// The name of the registry.
    pub name: u64,
    /// Whether it is being stopped itself. If not, it starts a worker.
    pub ends: bool,
    /// `None` if only the caller can compare the id.
    pub flight: Option<Flight>,
}

/// The processes that are busy with a start, or with their own end.
pub struct Starts {
    busy: Lazy<Pids<Busy>>,
    count: AtomicUsize,
    seed: Lazy<Seed>,
}

impl Starts {
    /// None is busy.
    pub const fn new() -> Self {
        Self {
            busy: Lazy::new(|| Pids::new(Some(MANY))),
            count: AtomicUsize::new(0),
            seed: Lazy::new(Seed::random),
        }
    }

    /// What is under way for this id of the registry of this name. `None` for an opaque one.
    pub fn flight<P>(&self, name: u64, id: &Id<'_, P>) -> Option<Flight> {
        let hash = match id {
            Id::Opaque { .. } => return None,
            id => self.seed.hash(id),
        };
        Some(Flight { name, hash })
    }

    /// A process begins a start, or to end.
    pub fn begin(&self, pid: Pid, new: Busy) {
        self.busy.put(pid, |busy| {
            if busy.is_none() {
                // Relaxed: who asks for a start in this one was spawned or told by it after this.
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            Some(new)
        });
    }

    /// A process is not busy any more. Returns what it was busy with.
    pub fn end(&self, pid: Pid) -> Option<Busy> {
        let ended = self.busy.remove_if(pid, |_| true);
        if ended.is_some() {
            // Relaxed: as above.
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        ended
    }

    /// What a process is busy with.
    pub fn busy(&self, pid: Pid) -> Option<Busy> {
        self.busy.read(pid, |&busy| busy)
    }

    /// Whether no process is busy. Costs less than asking for one.
    pub fn is_empty(&self) -> bool {
        // Relaxed: as above.
        self.count.load(Ordering::Relaxed) == 0
    }
}

impl Default for Starts {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(word: u64) -> Pid {
        Pid::new(word).expect("not zero")
    }

    #[test]
    fn a_process_is_busy_from_the_begin_to_the_end_of_its_start() {
        let starts = Starts::new();
        let [one, other] = [1, 2].map(pid);
        let busy = |name| Busy {
            name,
            ends: false,
            flight: None,
        };
        assert!(starts.is_empty());
        starts.begin(one, busy(10));
        starts.begin(other, busy(20));
        starts.begin(one, busy(11));
        assert_eq!(
            [one, other].map(|pid| starts.busy(pid)),
            [Some(busy(11)), Some(busy(20))]
        );
        assert_eq!(starts.end(one), Some(busy(11)));
        assert_eq!(starts.end(one), None);
        assert_eq!(
            [one, other].map(|pid| starts.busy(pid)),
            [None, Some(busy(20))]
        );
        assert!(!starts.is_empty());
        starts.end(other);
        assert!(starts.is_empty());
    }

    #[test]
    fn a_flight_is_that_of_one_id_of_one_registry() {
        let starts = Starts::new();
        let flight = |name, shape, word: u64| {
            let words = &[word];
            starts.flight::<()>(name, &Id::Words { shape, words })
        };
        assert!(flight(1, 0, 7).is_some());
        assert_eq!(flight(1, 0, 7), flight(1, 0, 7));
        for other in [flight(2, 0, 7), flight(1, 1, 7), flight(1, 0, 8)] {
            assert_ne!(flight(1, 0, 7), other);
        }
        let opaque = Id::Opaque {
            hash: 7,
            words: 1,
            probe: (),
        };
        assert_eq!(starts.flight(1, &opaque), None);
    }
}
