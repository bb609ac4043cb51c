//! What becomes of a worker: inserted, retired, tracked, removed, and the table closed under it; and
//! of a guest.

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

fn child(n: u64) -> Worker {
    Worker {
        pid: pid(n),
        parent: Some(pid(100)),
    }
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
fn who_has_started_and_ended_is_counted() {
    let tested = Tested::new();
    let counts = || (tested.started(), tested.ended(), tested.ended_idle());
    assert_eq!(tested.insert_child(&TestId::nth(1), child(1)), Ok(()));
    assert!(tested.insert_child(&TestId::nth(1), child(2)).is_err());
    // None of these has started here.
    assert!(tested.refuse(child(2)) && tested.track(child(3)));
    let guest = |n| Worker::guest(pid(n));
    for n in 4..6 {
        assert_eq!(tested.insert_child(&TestId::nth(n), guest(n)), Ok(()));
    }
    assert_eq!(counts(), (1, 0, 0));
    // A worker that took its name before, and one that was left.
    assert_eq!(tested.insert_child(&TestId::nth(4), child(4)), Ok(()));
    assert!(tested.track(child(5)));
    assert_eq!(counts(), (2, 0, 0));
    assert!(tested.retire(&TestId::nth(1)).is_some());
    assert_eq!(counts(), (2, 0, 0));
    for n in 1..6 {
        assert!(tested.remove(pid(n)));
    }
    tested.idle();
    assert_eq!(counts(), (2, 2, 1));
}

#[test]
fn workers_are_counted_apart_from_guests_and_others() {
    let tested = Tested::new();
    assert_eq!(tested.insert_child(&TestId::nth(1), child(1)), Ok(()));
    assert_eq!(tested.insert_child(&TestId::nth(2), child(2)), Ok(()));
    let guest = Worker::guest(pid(3));
    assert_eq!(tested.insert_child(&TestId::nth(3), guest), Ok(()));
    assert!(tested.track(child(4)) && tested.refuse(child(5)));
    assert!(tested.track(orphan(pid(6))));
    assert_eq!(tested.workers(), 4);
    assert!(tested.retire(&TestId::nth(1)).is_some());
    assert_eq!(tested.workers(), 4, "until it is dead");
    assert!(tested.release(&TestId::nth(3)));
    assert_eq!(tested.workers(), 4);
    for n in [1, 2, 4, 5] {
        assert!(tested.remove(pid(n)));
    }
    assert_eq!(tested.workers(), 0);
    assert!(!tested.is_drained());
    assert!(
        tested.remove(pid(6)) && tested.is_drained(),
        "whatever the guest"
    );
}

#[test]
fn a_guest_is_seen_but_not_ours() {
    for id in ids() {
        let tested = Tested::new();
        let guest = Worker::guest(pid(1));
        assert_eq!(tested.insert_child(&id, guest), Ok(()));
        assert_eq!((tested.get(&id), tested.count()), (Some(pid(1)), 1));
        assert_eq!((tested.guests(), tested.processes()), (1, vec![]));
        assert_eq!(tested.retire(&id), Some(guest));
        assert_eq!(tested.get(&id), Some(pid(1)), "it was left alone");
        let again = tested.insert_child(&id, guest);
        assert_eq!(again, Err(Conflict::IdTaken(pid(1))));
        let other = tested.insert_child(&TestId::nth(100), guest);
        assert_eq!(other, Err(Conflict::PidTaken));

        assert!(!tested.is_drained());
        assert!(tested.remove(pid(1)) && tested.is_drained());
        assert_eq!((tested.count(), tested.guests()), (0, 0));
        assert_eq!(tested.insert(&id, pid(2)), Ok(()));
    }
}

#[test]
fn a_guest_may_go_and_come_back() {
    for id in ids() {
        let tested = Tested::new();
        let guest = Worker::guest(pid(1));
        assert!(!tested.release(&id), "there is none");
        assert_eq!(tested.insert_child(&id, guest), Ok(()));
        assert!(tested.release(&id));
        assert!(!tested.release(&id), "only once");
        assert_eq!((tested.get(&id), tested.count()), (None, 0));
        assert_eq!((tested.guests(), tested.processes()), (0, vec![]));
        assert_eq!(tested.known(pid(1)), Some(guest), "its end is watched for");
        assert!(tested.is_drained(), "it is nobody of whom one waits");

        let other = TestId::nth(100);
        assert_eq!(tested.insert_child(&other, guest), Ok(()));
        assert_eq!(tested.get(&other), Some(pid(1)));
        assert!(!tested.is_drained());
        assert!(tested.remove(pid(1)));
        assert_eq!(tested.get(&other), None);
        assert!(tested.is_drained());

        assert_eq!(tested.insert(&id, pid(2)), Ok(()));
        assert!(!tested.release(&id), "only guests go");
        assert_eq!(tested.get(&id), Some(pid(2)));
    }
}

#[test]
fn a_guest_may_turn_out_to_have_a_parent() {
    let worker = Worker {
        pid: pid(1),
        parent: Some(pid(9)),
    };
    for id in ids() {
        for tracked in [false, true] {
            let tested = Tested::new();
            assert_eq!(tested.insert_child(&id, Worker::guest(pid(1))), Ok(()));
            let adopted = if tracked {
                tested.track(worker)
            } else {
                tested.insert_child(&id, worker).is_ok()
            };
            assert!(adopted);
            assert_eq!((tested.guests(), tested.processes()), (0, vec![worker]));
            assert!(!tested.track(worker), "only once");
            assert_eq!(tested.retire(&id), Some(worker));
            assert_eq!(tested.get(&id), None);
        }
    }
}

#[test]
fn a_guest_takes_the_room_of_a_child_when_it_is_one() {
    let tested = Tested::bounded(1);
    let (id, parent) = (TestId::nth(0), pid(9));
    assert_eq!(tested.insert_child(&id, Worker::guest(pid(1))), Ok(()));
    assert!(tested.has_room(0), "guests take none");
    assert!(tested.promise(parent, 0) && !tested.has_room(0));
    let child = Worker {
        pid: pid(1),
        parent: Some(parent),
    };
    assert_eq!(tested.insert_child(&id, child), Ok(()));
    tested.give_back(parent);
    assert!(!tested.has_room(0), "it has the place");
    assert!(tested.remove(pid(1)) && tested.has_room(0));
}
