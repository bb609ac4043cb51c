//! Which processes are busy with the start of a worker, in a whole VM.

use std::sync::atomic::{AtomicUsize, Ordering};

use once_cell::sync::Lazy;

use crate::id::Pid;
use crate::pids::Pids;

/// About how many starts run at a time where there are many.
const MANY: usize = 64 * 1024;

/// The processes that are busy with a start, with the names of the registries that they start for.
pub struct Starts {
    busy: Lazy<Pids<u64>>,
    count: AtomicUsize,
}

impl Starts {
    /// None is busy.
    pub const fn new() -> Self {
        Self {
            busy: Lazy::new(|| Pids::new(Some(MANY))),
            count: AtomicUsize::new(0),
        }
    }

    /// A process begins a start.
    pub fn begin(&self, pid: Pid, name: u64) {
        self.busy.put(pid, |busy| {
            if busy.is_none() {
                // Relaxed: who asks for a start in this one was spawned or told by it after this.
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            Some(name)
        });
    }

    /// A process is not busy with a start any more.
    pub fn end(&self, pid: Pid) {
        if self.busy.remove_if(pid, |_| true).is_some() {
            // Relaxed: as above.
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The name of the registry that a process starts a worker for, if it does.
    pub fn busy(&self, pid: Pid) -> Option<u64> {
        self.busy.read(pid, |&name| name)
    }

    /// Whether no process is busy with a start. Costs less than asking for one.
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

    #[test]
    fn a_process_is_busy_from_the_begin_to_the_end_of_its_start() {
        let starts = Starts::new();
        let [one, other] = [1, 2].map(|word| Pid::new(word).expect("not zero"));
        assert!(starts.is_empty());
        starts.begin(one, 10);
        starts.begin(other, 20);
        starts.begin(one, 11);
        assert_eq!(
            [one, other].map(|pid| starts.busy(pid)),
            [Some(11), Some(20)]
        );
        starts.end(one);
        starts.end(one);
        assert_eq!([one, other].map(|pid| starts.busy(pid)), [None, Some(20)]);
        assert!(!starts.is_empty());
        starts.end(other);
        assert!(starts.is_empty());
    }
}
