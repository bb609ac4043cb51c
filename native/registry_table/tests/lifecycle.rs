//! What becomes of a worker: inserted, retired, tracked, removed, and the table closed under it.

mod common;

use std::collections::HashSet;

use common::{TestId, Tested, orphan, pid};
use registry_table::{Conflict, Pid, Worker};

/// One id of every form.
fn ids() -> impl Iterator<Item = TestId> {
    (0..TestId::FORMS).map(TestId::nth)
}

fn pids(workers: Vec<Worker>) -> HashSet<Pid> {
    workers.into_iter().map(|worker| worker.pid).collect()
}

#[test]
fn an_id_has_one_process_and_a_process_one_id() {
    for id in ids() {
        let tested = Tested::new();
        assert_eq!(tested.insert(&id, pid(1)), Ok(()));
        assert_eq!(
            tested.insert(&id, pid(2)),
            Err(Conflict::IdTaken(pid(1))),
            "{id:?}"
        );
        assert_eq!(
            tested.insert(&TestId::nth(100), pid(1)),
            Err(Conflict::PidTaken)
        );
        assert_eq!(tested.count(), 1);
        assert_eq!(pids(tested.processes()), HashSet::from([pid(1)]));
    }
}

#[test]
fn a_removed_process_is_forgotten() {
    for id in ids() {
        let tested = Tested::new();
        assert!(!tested.remove(pid(1)));
        assert_eq!(tested.insert(&id, pid(1)), Ok(()));
        assert!(tested.remove(pid(1)));
        assert!(!tested.remove(pid(1)), "only once");
        assert_eq!((tested.get(&id), tested.count()), (None, 0));
        assert!(tested.is_drained() && tested.processes().is_empty());
        assert_eq!(tested.insert(&id, pid(1)), Ok(()), "it may come back");
    }
}

#[test]
fn a_retired_process_is_known_until_removed() {
    let parent = Some(pid(9));
    for id in ids() {
        let tested = Tested::new();
        let worker = Worker {
            pid: pid(1),
            parent,
        };
        assert_eq!(tested.insert_child(&id, worker), Ok(()));
        assert_eq!(tested.retire(&id), Some(worker));
        assert_eq!(tested.retire(&id), None, "only once");
        assert_eq!((tested.get(&id), tested.count()), (None, 0));
        assert_eq!(tested.processes(), [worker]);
        assert_eq!(tested.insert(&id, pid(1)), Err(Conflict::PidTaken));

        assert_eq!(tested.insert(&id, pid(2)), Ok(()), "the id is free");
        assert!(tested.remove(pid(1)));
        assert_eq!(tested.get(&id), Some(pid(2)), "late news of the old one");
        assert_eq!(tested.count(), 1);
        assert!(tested.remove(pid(2)));
        assert!(tested.is_drained());
    }
}

#[test]
fn a_tracked_process_has_no_entry() {
    let tested = Tested::new();
    let worker = Worker {
        pid: pid(1),
        parent: Some(pid(2)),
    };
    assert!(tested.track(worker));
    assert!(!tested.track(orphan(pid(1))), "known already");
    assert_eq!(tested.processes(), [worker]);
    assert_eq!(tested.count(), 0);
    assert!(!tested.is_drained());
    assert_eq!(tested.sample(), None);
    assert_eq!(tested.scan_all(10), []);
    assert_eq!(
        tested.insert(&TestId::nth(0), pid(1)),
        Err(Conflict::PidTaken)
    );
    assert!(tested.remove(pid(1)));
    assert!(tested.is_drained());
}

#[test]
fn a_closed_table_refuses_but_tracks() {
    let tested = Tested::new();
    for (n, id) in (0..).zip(ids()) {
        assert_eq!(tested.insert(&id, pid(n)), Ok(()));
    }
    tested.close();
    let late = Worker {
        pid: pid(100),
        parent: Some(pid(200)),
    };
    let refused = tested.insert_child(&TestId::nth(100), late);
    assert_eq!(refused, Err(Conflict::Closed));
    let refused = tested.insert(&TestId::nth(0), pid(101));
    assert_eq!(refused, Err(Conflict::Closed), "although the id is taken");
    let refused = tested.insert(&TestId::nth(100), pid(0));
    assert_eq!(refused, Err(Conflict::Closed), "although the pid is known");

    assert_eq!(tested.get(&TestId::nth(100)), None);
    assert_eq!(tested.count(), TestId::FORMS as usize);
    assert!(tested.processes().contains(&late));
    let known = pids(tested.processes());
    assert_eq!(
        known,
        (0..TestId::FORMS).chain([100, 101]).map(pid).collect()
    );

    for (n, id) in (0..).zip(ids()) {
        assert_eq!(tested.get(&id), Some(pid(n)), "those from before stay");
        assert!(!tested.is_drained());
        assert!(tested.remove(pid(n)));
    }
    assert_eq!(tested.count(), 0);
    assert!(tested.remove(pid(100)) && !tested.is_drained());
    assert!(tested.remove(pid(101)) && tested.is_drained());
}
