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

impl Model {
    fn insert(&mut self, id: &TestId, worker: Worker) -> Result<(), Conflict> {
        if let Some(&pid) = self.by_id.get(id) {
            return Err(Conflict::IdTaken(pid));
        }
        if self.known.contains_key(&worker.pid) {
            return Err(Conflict::PidTaken);
        }
        self.by_id.insert(id.clone(), worker.pid);
        let (parent, id) = (worker.parent, Some(id.clone()));
        self.known.insert(worker.pid, Known { parent, id });
        Ok(())
    }

    fn remove(&mut self, pid: Pid) -> bool {
        let known = self.known.remove(&pid);
        if let Some(Known { id: Some(id), .. }) = &known {
            self.by_id.remove(id);
        }
        known.is_some()
    }

    fn retire(&mut self, id: &TestId) -> Option<Worker> {
        let pid = self.by_id.remove(id)?;
        let known = self.known.get_mut(&pid).expect("it had an id");
        known.id = None;
        let parent = known.parent;
        Some(Worker { pid, parent })
    }

    fn track(&mut self, Worker { pid, parent }: Worker) -> bool {
        let new = !self.known.contains_key(&pid);
        self.known.entry(pid).or_insert(Known { parent, id: None });
        new
    }

    /// Does one thing to both. `growth`, of 100, is how often it is an insertion.
    fn step(&mut self, tested: &Tested, rng: &mut Rng, growth: u64) {
        let id = TestId::nth(rng.below(self.ids));
        let parent = (rng.below(2) == 0).then(|| pid(rng.below(self.pids)));
        let pid = pid(rng.below(self.pids));
        let worker = Worker { pid, parent };
        match rng.below(100) {
            roll if roll < growth => {
                let inserted = tested.insert_child(&id, worker);
                assert_eq!(inserted, self.insert(&id, worker), "{id:?}");
            }
            85..90 => assert_eq!(tested.retire(&id), self.retire(&id), "{id:?}"),
            90..93 => assert_eq!(tested.track(worker), self.track(worker)),
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
        let processes = tested.processes();
        assert_eq!(processes.len(), self.known.len());
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
