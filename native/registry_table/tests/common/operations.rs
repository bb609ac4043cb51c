//! Everything that one can do with a table, and plain maps that say what must come of it.

use std::collections::{HashMap, HashSet};

use registry_table::{Conflict, Cursor, Pid, Worker};

use super::{TestId, Tested, pid};

/// One call, by numbers that stand for ids and pids: see [`id`] and [`worker`].
#[derive(Clone, Debug)]
pub enum Operation {
    Insert(u64, u64, Parent),
    Retire(u64),
    Release(u64),
    Track(u64, Parent),
    Refuse(u64, Parent),
    Remove(u64),
    Get(u64),
    GetMany(Vec<u64>),
    /// `id_of`, `last_id_of` and `known`.
    AskPid(u64),
    Sample,
    /// From such bits on, in steps of so many slots.
    Scan(u64, usize),
    /// With so many other places taken.
    Promise(u64, usize),
    GiveBack(u64),
    Collect,
    /// Compares everything.
    Check,
}

/// Who has started a worker.
#[derive(Clone, Debug)]
pub enum Parent {
    Nobody,
    /// It is a guest.
    Itself,
    Process(u64),
}

impl Operation {
    /// One operation, by numbers below a bound from `below`. Of `ids` and `pids` there are so many;
    /// `growth`, of 100, is how often it is an insertion.
    pub fn draw(mut below: impl FnMut(u64) -> u64, ids: u64, pids: u64, growth: u64) -> Self {
        let (id, pid) = (below(ids), below(pids));
        let parent = match below(8) {
            0..2 => Parent::Itself,
            2..5 => Parent::Nobody,
            _ => Parent::Process(below(pids)),
        };
        match below(100) {
            roll if roll < growth => Self::Insert(id, pid, parent),
            84..88 => Self::Retire(id),
            88..89 => Self::Track(pid, parent),
            89..91 => Self::Release(id),
            91..94 => Self::Get(id),
            94..96 => Self::AskPid(pid),
            96..97 => Self::Sample,
            97..98 => Self::GetMany((0..below(70)).map(|_| below(ids)).collect()),
            98..99 => Self::Promise(pid, below(3) as usize),
            99.. => match below(6) {
                0..3 => Self::GiveBack(pid),
                3..5 => Self::Refuse(pid, parent),
                _ => Self::Collect,
            },
            _ => Self::Remove(pid),
        }
    }
}

/// The id of a number. The first dozens are of each form that there is.
pub fn id(n: u64) -> TestId {
    match n {
        0..24 => TestId::nth(n),
        24..36 => TestId::of_crowd(n),
        36..39 => TestId::very_wide(n, 10),
        39..41 => TestId::very_wide(n, 1_000),
        41..43 => TestId::very_wide(n, 3_000),
        _ => TestId::nth(n),
    }
}

fn worker(n: u64, parent: &Parent) -> Worker {
    let parent = match parent {
        Parent::Nobody => None,
        Parent::Itself => Some(pid(n)),
        Parent::Process(parent) => Some(pid(*parent)),
    };
    let pid = pid(n);
    Worker { pid, parent }
}

/// How much is kept at the least of the ids of removed processes, in ids that fit into a slot.
const KEPT: usize = 256;

/// What a table has to know, in plain maps.
#[derive(Default)]
pub struct Model {
    by_id: HashMap<TestId, Pid>,
    known: HashMap<Pid, Known>,
    /// How many children there may be.
    most: Option<usize>,
    promised: HashSet<Pid>,
    /// The last id of each removed process that is small enough to be kept, and the weight of all
    /// that were removed before.
    last: HashMap<Pid, (TestId, usize)>,
    /// The weight of all that were removed.
    removed: usize,
}

struct Known {
    parent: Option<Pid>,
    id: Option<TestId>,
    retired: Option<TestId>,
    child: bool,
}

impl Known {
    fn is_guest(&self, pid: Pid) -> bool {
        self.parent == Some(pid)
    }

    /// Whether it is a guest that may take an id.
    fn is_free(&self, pid: Pid) -> bool {
        self.is_guest(pid) && self.id.is_none()
    }
}

impl Model {
    /// Of a table that has room for so many children.
    pub fn bounded(children: usize) -> Self {
        Self {
            most: Some(children),
            ..Self::default()
        }
    }

    /// Does one thing to both, and compares what they answer.
    pub fn step(&mut self, tested: &Tested, operation: &Operation) {
        match operation {
            Operation::Insert(n, process, parent) => {
                let (id, worker) = (id(*n), worker(*process, parent));
                assert_eq!(tested.insert_child(&id, worker), self.insert(&id, worker));
            }
            Operation::Retire(n) => assert_eq!(tested.retire(&id(*n)), self.retire(&id(*n))),
            Operation::Release(n) => assert_eq!(tested.release(&id(*n)), self.release(&id(*n))),
            Operation::Track(process, parent) => {
                let worker = worker(*process, parent);
                assert_eq!(tested.track(worker), self.track(worker));
            }
            Operation::Refuse(process, parent) => {
                let worker = worker(*process, parent);
                assert_eq!(tested.refuse(worker), self.refuse(worker));
            }
            Operation::Remove(n) => assert_eq!(tested.remove(pid(*n)), self.remove(pid(*n))),
            Operation::Get(n) => assert_eq!(tested.get(&id(*n)), self.get(&id(*n))),
            Operation::GetMany(ids) => {
                let ids: Vec<_> = ids.iter().map(|n| id(*n)).collect();
                let pids: Vec<_> = ids.iter().map(|id| self.get(id)).collect();
                assert_eq!(tested.get_many(&ids), pids);
            }
            Operation::AskPid(n) => self.ask_pid(tested, pid(*n)),
            Operation::Sample => match tested.sample() {
                Some((id, pid)) => assert_eq!(self.get(&id), Some(pid)),
                None => assert!(self.by_id.is_empty()),
            },
            Operation::Scan(from, limit) => {
                self.scan(tested, Cursor::from_bits(*from), *limit);
            }
            Operation::Promise(n, others) => assert_eq!(
                tested.promise(pid(*n), *others),
                self.promise(pid(*n), *others)
            ),
            Operation::GiveBack(n) => {
                tested.give_back(pid(*n));
                self.promised.remove(&pid(*n));
            }
            Operation::Collect => registry_table::collect(),
            Operation::Check => self.check(tested),
        }
        assert_eq!(tested.count(), self.by_id.len());
        let free = self
            .known
            .iter()
            .filter(|(pid, known)| known.is_free(**pid));
        assert_eq!(tested.is_drained(), free.count() == self.known.len());
    }

    /// Compares everything.
    pub fn check(&self, tested: &Tested) {
        for (id, pid) in &self.by_id {
            assert_eq!(tested.get(id), Some(*pid), "{id:?}");
        }
        let met = self.scan(tested, Cursor::START, 1 + self.by_id.len() % 50);
        assert_eq!(met, self.by_id.len());
        for pid in self.known.keys().chain(self.last.keys()) {
            self.ask_pid(tested, *pid);
        }
        let known = || self.known.iter();
        let guests = known().filter(|&(&pid, known)| known.is_guest(pid));
        let free = known().filter(|&(&pid, known)| known.is_free(pid));
        let (guests, free) = (guests.count(), free.count());
        assert_eq!(tested.guests(), guests - free);
        let processes = tested.processes();
        assert_eq!(processes.len(), self.known.len() - guests);
        let workers = processes
            .iter()
            .filter(|known| known.parent.is_some())
            .count();
        for Worker { pid, parent } in processes {
            assert_eq!(self.known.get(&pid).map(|known| known.parent), Some(parent));
        }
        assert_eq!(tested.workers(), workers);
        let children = known().filter(|(_, known)| known.child).count();
        let taken = self.most.map(|_| children + self.promised.len());
        assert_eq!(tested.taken(), taken.unwrap_or(workers));
        for others in 0..3 {
            assert_eq!(tested.has_room(others), self.has_room(others));
        }
    }

    fn get(&self, id: &TestId) -> Option<Pid> {
        self.by_id.get(id).copied()
    }

    /// Scans from there on, and answers how many entries were met: each no more than once.
    fn scan(&self, tested: &Tested, from: Cursor, limit: usize) -> usize {
        let met = tested.scan_from(from, limit, || ());
        for (id, pid) in &met {
            assert_eq!(self.get(id), Some(*pid), "{id:?}");
        }
        let different: HashSet<_> = met.iter().map(|(id, _)| id).collect();
        assert_eq!(different.len(), met.len());
        met.len()
    }

    fn ask_pid(&self, tested: &Tested, pid: Pid) {
        let known = self.known.get(&pid);
        let worker = known.map(|known| Worker {
            pid,
            parent: known.parent,
        });
        assert_eq!(tested.known(pid), worker);
        let id = known.and_then(|known| known.id.as_ref().or(known.retired.as_ref()));
        assert_eq!(tested.id_of(pid).as_ref(), id);
        match (tested.last_id_of(pid), self.last.get(&pid)) {
            (None, None) => {}
            (None, Some((id, before))) => {
                assert!(
                    self.removed - before > KEPT,
                    "{id:?} is forgotten too early"
                );
            }
            (Some(id), last) => assert_eq!(Some(&id), last.map(|(id, _)| id)),
        }
    }

    fn insert(&mut self, id: &TestId, worker: Worker) -> Result<(), Conflict> {
        let Worker { pid, parent } = worker;
        match self.get(id) {
            Some(taken) if taken == pid && self.adopt(worker) => {
                let child = self.is_born(worker);
                self.known
                    .entry(pid)
                    .and_modify(|known| known.child = child);
                return Ok(());
            }
            Some(taken) => return Err(Conflict::IdTaken(taken)),
            None => {}
        }
        if !self.is_free(pid) {
            return Err(Conflict::PidTaken);
        }
        self.by_id.insert(id.clone(), pid);
        let child = self.is_born(worker);
        let new = Known {
            parent,
            id: Some(id.clone()),
            retired: None,
            child,
        };
        self.known.insert(pid, new);
        Ok(())
    }

    /// Whether nothing is known that keeps this process from being entered.
    fn is_free(&self, pid: Pid) -> bool {
        self.known.get(&pid).is_none_or(|known| known.is_free(pid))
    }

    /// Whether the parent was promised a place for this child, which it takes.
    fn is_born(&mut self, worker: Worker) -> bool {
        let parent = worker.parent.filter(|_| !worker.is_guest());
        parent.is_some_and(|parent| self.most.is_some() && self.promised.remove(&parent))
    }

    fn adopt(&mut self, Worker { pid, parent }: Worker) -> bool {
        let guest = self.known.get_mut(&pid).filter(|known| known.is_guest(pid));
        let adopted = guest.filter(|_| parent != Some(pid));
        adopted.map(|guest| guest.parent = parent).is_some()
    }

    fn has_room(&self, others: usize) -> bool {
        let children = self.known.values().filter(|known| known.child).count();
        self.most
            .is_none_or(|most| children + self.promised.len() + others < most)
    }

    fn promise(&mut self, parent: Pid, others: usize) -> bool {
        if self.most.is_none() || self.promised.contains(&parent) {
            return true;
        }
        let room = self.has_room(others);
        if room {
            self.promised.insert(parent);
        }
        room
    }

    fn remove(&mut self, pid: Pid) -> bool {
        let Some(known) = self.known.remove(&pid) else {
            return false;
        };
        if let Some(id) = &known.id {
            self.by_id.remove(id);
        }
        if let Some(id) = known.id.or(known.retired)
            && weight(&id) <= KEPT
        {
            let before = self.removed;
            self.removed += weight(&id);
            self.last.insert(pid, (id, before));
        }
        true
    }

    fn retire(&mut self, id: &TestId) -> Option<Worker> {
        let pid = self.get(id)?;
        let known = self.known.get_mut(&pid).expect("it has an id");
        let parent = known.parent;
        if !known.is_guest(pid) {
            known.retired = known.id.take();
            self.by_id.remove(id);
        }
        Some(Worker { pid, parent })
    }

    fn release(&mut self, id: &TestId) -> bool {
        let Some(pid) = self.get(id) else {
            return false;
        };
        let known = self.known.get_mut(&pid).expect("it has an id");
        let guest = known.is_guest(pid);
        if guest {
            known.id = None;
            self.by_id.remove(id);
        }
        guest
    }

    fn track(&mut self, worker: Worker) -> bool {
        let Worker { pid, parent } = worker;
        let free = self.is_free(pid);
        if free {
            let new = Known {
                parent,
                id: None,
                retired: None,
                child: false,
            };
            self.known.insert(pid, new);
        }
        free || self.adopt(worker)
    }

    fn refuse(&mut self, worker: Worker) -> bool {
        let new = !self.known.contains_key(&worker.pid);
        if new {
            let refused = Known {
                parent: worker.parent,
                id: None,
                retired: None,
                child: self.is_born(worker),
            };
            self.known.insert(worker.pid, refused);
        }
        new
    }
}

/// How much of the room for removed processes' ids this one takes.
fn weight(id: &TestId) -> usize {
    match id {
        TestId::Word(_) => 1,
        TestId::Words(_, words) if words.len() <= 6 => 1,
        // The words, and what they are kept in.
        TestId::Words(_, words) => 1 + (words.len() * 8 + 24) / 64,
        TestId::Opaque(_) if id.is_of_crowd() => usize::MAX,
        TestId::Opaque(_) => 1,
    }
}
