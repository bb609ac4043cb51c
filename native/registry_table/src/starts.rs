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
    /// Which registry it is of. None has the number of another one.
    pub registry: u64,
    /// The name of that registry.
    pub name: u64,
    /// What it does.
    pub does: Does,
    /// A hash of the id.
    pub hash: u64,
    /// Whether other ids have other hashes, but by chance. If not, only the caller can compare the id.
    pub exact: bool,
    /// Whether it is a start that has left a process, which is busy with its end.
    pub leaves: bool,
}

/// What a process does that is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// It starts a worker.
    Start,
    /// It has died in a start, and what it had begun is not ended yet.
    DiedInStart,
    /// It is being stopped itself.
    End,
}

impl Busy {
    /// What is under way. `None` if only the caller can compare the id.
    pub fn flight(&self) -> Option<Flight> {
        let Self { name, hash, .. } = *self;
        self.exact.then_some(Flight { name, hash })
    }
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
        let hash = self.hash(id);
        is_exact(id).then_some(Flight { name, hash })
    }

    /// The hash of an id, of whichever registry.
    pub fn hash<P>(&self, id: &Id<'_, P>) -> u64 {
        self.seed.hash(id)
    }

    /// A process of a registry begins something for an id.
    pub fn begin<P>(&self, pid: Pid, registry: u64, name: u64, does: Does, id: &Id<'_, P>) {
        let new = Busy {
            registry,
            name,
            does,
            hash: self.hash(id),
            exact: is_exact(id),
            leaves: false,
        };
        self.put(pid, |_| Some(new));
    }

    /// A process begins its own end, for the id for which another one is busy with a start, or died in
    /// one. `None` if that is not so; else whether it is the first that the start leaves.
    pub fn end_of_start(&self, pid: Pid, starter: Pid) -> Option<bool> {
        let mut start = None;
        self.busy.change(starter, |busy| {
            start = Some(*busy);
            busy.leaves = true;
        });
        let start = start?;
        let does = Does::End;
        let leaves = false;
        self.put(pid, |_| {
            Some(Busy {
                does,
                leaves,
                ..start
            })
        });
        Some(!start.leaves)
    }

    fn put(&self, pid: Pid, new: impl FnOnce(Option<&Busy>) -> Option<Busy>) -> bool {
        self.busy.put(pid, |busy| {
            let new = new(busy);
            if busy.is_none() && new.is_some() {
                // Relaxed: who asks for a start in this one was spawned or told by it after this.
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            new
        })
    }

    /// A process of a registry is not busy any more. Returns what it was busy with.
    pub fn end(&self, pid: Pid, registry: u64) -> Option<Busy> {
        let ended = self.busy.remove_if(pid, |busy| busy.registry == registry);
        if ended.is_some() {
            // Relaxed: as above.
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        ended
    }

    /// A process of a registry has died: it is not busy any more with its end, but a start of it is not
    /// over. Returns what it was busy with.
    pub fn died(&self, pid: Pid, registry: u64) -> Option<Busy> {
        let was = self.busy(pid).filter(|busy| busy.registry == registry)?;
        if was.does == Does::End {
            return self.end(pid, registry);
        }
        self.busy.change(pid, |busy| busy.does = Does::DiedInStart);
        Some(was)
    }

    /// What a process is busy with.
    pub fn busy(&self, pid: Pid) -> Option<Busy> {
        self.busy.read(pid, |&busy| busy)
    }

    /// The processes of a registry that are busy. All of the VM's are looked at.
    pub fn of(&self, registry: u64) -> Vec<(Pid, Busy)> {
        let mut all = Vec::new();
        self.busy.each(|pid, &busy| {
            if busy.registry == registry {
                all.push((pid, busy));
            }
        });
        all
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

fn is_exact<P>(id: &Id<'_, P>) -> bool {
    !matches!(id, Id::Opaque { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(word: u64) -> Pid {
        Pid::new(word).expect("not zero")
    }

    fn id(word: u64) -> Id<'static, ()> {
        Id::Word(word.try_into().expect("not zero"))
    }

    #[test]
    fn a_process_is_busy_from_the_begin_to_the_end_of_its_start() {
        let starts = Starts::new();
        let [one, other] = [1, 2].map(pid);
        let name = |pid| starts.busy(pid).map(|busy: Busy| busy.name);
        assert!(starts.is_empty());
        starts.begin(one, 7, 10, Does::Start, &id(1));
        starts.begin(other, 8, 20, Does::Start, &id(1));
        starts.begin(one, 7, 11, Does::Start, &id(1));
        assert_eq!([one, other].map(name), [Some(11), Some(20)]);
        assert_eq!(starts.end(one, 8), None, "of another registry");
        assert_eq!(starts.end(one, 7).map(|busy| busy.name), Some(11));
        assert_eq!(starts.end(one, 7), None);
        assert_eq!([one, other].map(name), [None, Some(20)]);
        assert!(!starts.is_empty());
        starts.end(other, 8);
        assert!(starts.is_empty());
    }

    #[test]
    fn a_start_is_not_over_when_its_starter_dies_but_an_end_is() {
        let starts = Starts::new();
        let [starter, worker, refused] = [1, 2, 3].map(pid);
        let does = |pid| starts.busy(pid).map(|busy: Busy| busy.does);
        starts.begin(starter, 7, 10, Does::Start, &id(1));
        starts.begin(worker, 7, 10, Does::End, &id(2));
        assert_eq!(starts.end_of_start(refused, starter), Some(true));
        assert_eq!(
            starts.end_of_start(refused, starter),
            Some(false),
            "not first"
        );
        assert_eq!(does(refused), Some(Does::End));
        let hash = |pid| starts.busy(pid).map(|busy: Busy| busy.hash);
        assert_eq!(hash(refused), hash(starter));
        assert_eq!(starts.died(starter, 8), None, "of another registry");
        assert_eq!(does(starter), Some(Does::Start));
        for pid in [starter, worker, refused] {
            assert!(starts.died(pid, 7).is_some());
        }
        assert_eq!(
            [starter, worker, refused].map(does),
            [Some(Does::DiedInStart), None, None]
        );
        let of = |registry| starts.of(registry).into_iter().map(|(pid, _)| pid);
        assert!(of(7).eq([starter]) && of(8).eq([]));
        assert!(starts.end(starter, 7).is_some() && starts.is_empty());
        assert_eq!(
            starts.end_of_start(refused, starter),
            None,
            "there is no start"
        );
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
        starts.begin(pid(1), 7, 1, Does::Start, &opaque);
        assert_eq!(starts.busy(pid(1)).and_then(|busy| busy.flight()), None);
        starts.begin(pid(1), 7, 1, Does::Start, &id(7));
        let busy = starts.busy(pid(1)).and_then(|busy| busy.flight());
        assert_eq!(busy, starts.flight(1, &id(7)));
    }
}
