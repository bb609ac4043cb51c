//! Random operations on a table and on plain maps: every answer must be the same.

mod common;

use std::collections::HashMap;

use common::{Rng, TestId, Tested, pid, stress};
use registry_table::{Conflict, Pid, Worker};

struct Model {
    /// The size of what the ids and pids are drawn from.
    ids: u64,
    pids: u64,
    by_id: HashMap<TestId, Pid>,
    known: HashMap<Pid, Known>,
}

struct Known {
    parent: Option<Pid>,
    id: Option<TestId>,
}

impl Known {
    fn is_guest(&self, pid: Pid) -> bool {
        self.parent == Some(pid)
    }

    fn is_free(&self, pid: Pid) -> bool {
        self.is_guest(pid) && self.id.is_none()
    }
}

impl Model {
    fn insert(&mut self, id: &TestId, worker: Worker) -> Result<(), Conflict> {
        let Worker { pid, parent } = worker;
        match self.by_id.get(id).copied() {
            Some(taken) if taken == pid && self.adopt(worker) => return Ok(()),
            Some(taken) => return Err(Conflict::IdTaken(taken)),
            None => {}
        }
        if self
            .known
            .get(&pid)
            .is_some_and(|known| !known.is_free(pid))
        {
            return Err(Conflict::PidTaken);
        }
        self.by_id.insert(id.clone(), pid);
        let id = Some(id.clone());
        self.known.insert(pid, Known { parent, id });
        Ok(())
    }

    fn adopt(&mut self, Worker { pid, parent }: Worker) -> bool {
        let guest = self.known.get_mut(&pid).filter(|known| known.is_guest(pid));
        let adopted = guest.filter(|_| parent != Some(pid));
        adopted.map(|guest| guest.parent = parent).is_some()
    }

    fn remove(&mut self, pid: Pid) -> bool {
        let known = self.known.remove(&pid);
        if let Some(Known { id: Some(id), .. }) = &known {
            self.by_id.remove(id);
        }
        known.is_some()
    }

    fn retire(&mut self, id: &TestId) -> Option<Worker> {
        let &pid = self.by_id.get(id)?;
        let known = self.known.get_mut(&pid).expect("it has an id");
        let parent = known.parent;
        if !known.is_guest(pid) {
            known.id = None;
            self.by_id.remove(id);
        }
        Some(Worker { pid, parent })
    }

    fn release(&mut self, id: &TestId) -> bool {
        let Some(&pid) = self.by_id.get(id) else {
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
        let free = self.known.get(&pid).is_none_or(|known| known.is_free(pid));
        if free {
            self.known.insert(pid, Known { parent, id: None });
        }
        free || self.adopt(worker)
    }

    /// Does one thing to both. `growth`, of 100, is how often it is an insertion.
    fn step(&mut self, tested: &Tested, rng: &mut Rng, growth: u64) {
        let id = TestId::nth(rng.below(self.ids));
        let parent = (rng.below(2) == 0).then(|| pid(rng.below(self.pids)));
        let pid = pid(rng.below(self.pids));
        let guest = rng.below(4) == 0;
        let worker = if guest {
            Worker::guest(pid)
        } else {
            Worker { pid, parent }
        };
        match rng.below(100) {
            roll if roll < growth => {
                let inserted = tested.insert_child(&id, worker);
                assert_eq!(inserted, self.insert(&id, worker), "{id:?}");
            }
            85..90 => assert_eq!(tested.retire(&id), self.retire(&id), "{id:?}"),
            90..92 => assert_eq!(tested.track(worker), self.track(worker)),
            92..93 => assert_eq!(tested.release(&id), self.release(&id), "{id:?}"),
            93..95 => match tested.sample() {
                Some((id, pid)) => assert_eq!(self.by_id.get(&id), Some(&pid), "{id:?}"),
                None => assert!(self.by_id.is_empty()),
            },
            95..100 => assert_eq!(tested.get(&id), self.by_id.get(&id).copied(), "{id:?}"),
            _ => assert_eq!(tested.remove(pid), self.remove(pid)),
        }
        assert_eq!(tested.count(), self.by_id.len());
        assert_eq!(tested.is_drained(), self.known.is_empty());
    }

    /// Compares everything.
    fn check(&self, tested: &Tested, limit: usize) {
        for id in (0..self.ids).map(TestId::nth) {
            assert_eq!(tested.get(&id), self.by_id.get(&id).copied(), "{id:?}");
        }
        let met = tested.scan_all(limit);
        assert_eq!(met.len(), self.by_id.len());
        for (id, pid) in met {
            assert_eq!(self.by_id.get(&id), Some(&pid), "{id:?}");
        }
        let known = || self.known.iter();
        let guests = known().filter(|&(&pid, known)| known.is_guest(pid));
        let free = known().filter(|&(&pid, known)| known.is_free(pid));
        let (guests, free) = (guests.count(), free.count());
        assert_eq!(tested.guests(), guests - free);
        let processes = tested.processes();
        assert_eq!(processes.len(), self.known.len() - guests);
        for Worker { pid, parent } in processes {
            assert_eq!(self.known.get(&pid).map(|known| known.parent), Some(parent));
        }
    }
}

fn run(ids: u64, pids: u64, steps: u64) {
    let tested = Tested::new();
    let mut rng = Rng::new(ids);
    let (by_id, known) = (HashMap::new(), HashMap::new());
    let mut model = Model {
        ids,
        pids,
        by_id,
        known,
    };
    // It grows, churns and shrinks, several times over.
    for growth in [80, 43, 10, 70, 20].repeat(2) {
        for _ in 0..steps * stress() / 10 {
            model.step(&tested, &mut rng, growth);
        }
        model.check(&tested, 1 + rng.below(50) as usize);
    }
    tested.drop_without_leak();
}

#[test]
fn few_ids() {
    run(40, 20, 40_000);
}

#[test]
fn many_ids() {
    run(3_000, 2_500, 80_000);
}

#[test]
fn enough_ids_to_fill_every_shard() {
    run(50_000, 40_000, 250_000);
}
