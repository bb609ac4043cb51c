//! A bound of children: each has a place from the promise to its removal, and none other has.

mod common;

use common::{TestId, Tested, pid};
use registry_table::{Conflict, Worker};

/// The child of this number, of the parent of that one.
fn child(number: u64, parent: u64) -> Worker {
    Worker {
        pid: pid(number),
        parent: Some(pid(parent)),
    }
}

#[test]
fn a_promise_is_a_place_until_the_child_is_removed() {
    let tested = Tested::bounded(1);
    let (parent, other) = (pid(100), pid(101));
    assert!(tested.has_room(0) && tested.promise(parent, 0));
    // Once, however often it is asked for.
    assert!(tested.promise(parent, 0));
    assert!(!tested.has_room(0) && !tested.promise(other, 0));

    assert_eq!(tested.insert_child(&TestId::nth(1), child(1, 100)), Ok(()));
    assert!(!tested.promise(parent, 0) && !tested.promise(other, 0));
    // There is nothing to give back any more.
    tested.give_back(parent);
    assert!(!tested.has_room(0));
    // It is out of sight, but not gone.
    assert!(tested.retire(&TestId::nth(1)).is_some());
    assert!(!tested.has_room(0));
    assert!(tested.remove(pid(1)));
    assert!(tested.promise(other, 0));
    assert!(!tested.remove(pid(1)) && !tested.has_room(0));

    tested.give_back(other);
    tested.give_back(other);
    assert!(tested.promise(parent, 0) && !tested.promise(other, 0));
}

#[test]
fn what_others_have_taken_is_no_room() {
    let tested = Tested::bounded(3);
    assert!(tested.promise(pid(100), 2) && tested.has_room(1));
    assert!(!tested.has_room(2) && !tested.promise(pid(101), 2));
    assert!(tested.promise(pid(100), 9), "a promise is kept");
    assert_eq!((tested.taken(), tested.has_room(usize::MAX)), (1, false));
    assert_eq!(tested.insert_child(&TestId::nth(1), child(1, 100)), Ok(()));
    assert_eq!(tested.taken(), 1);

    let without = Tested::new();
    assert_eq!(without.insert_child(&TestId::nth(1), child(1, 100)), Ok(()));
    assert!(without.has_room(usize::MAX));
    assert_eq!(without.taken(), 1, "its workers");
}

#[test]
fn a_child_may_leave_its_place_to_another() {
    let tested = Tested::bounded(1);
    let (parent, other) = (pid(100), pid(101));
    assert!(!tested.leave(pid(1)), "there is none");
    assert!(tested.promise(parent, 0));
    assert_eq!(tested.insert_child(&TestId::nth(1), child(1, 100)), Ok(()));
    assert!(tested.leave(pid(1)));
    assert!(!tested.inherit(pid(1), parent), "it is there still");
    assert!(tested.remove(pid(1)));
    assert!(!tested.promise(other, 0), "it is kept");
    assert!(tested.inherit(pid(1), parent) && !tested.inherit(pid(1), other));
    assert_eq!(tested.insert_child(&TestId::nth(1), child(2, 100)), Ok(()));
    assert!(tested.leave(pid(2)) && tested.remove(pid(2)));
    tested.give_back(pid(2));
    assert!(tested.promise(other, 0), "nobody wanted it");
    tested.give_back(other);

    assert!(tested.promise(parent, 0));
    assert_eq!(tested.insert_child(&TestId::nth(1), child(3, 100)), Ok(()));
    assert!(tested.leave(pid(3)));
    tested.give_back(pid(3));
    assert!(
        tested.remove(pid(3)) && tested.promise(other, 0),
        "not any more"
    );
}

#[test]
fn a_refused_insertion_leaves_the_promise() {
    let tested = Tested::bounded(2);
    assert!(tested.promise(pid(100), 0));
    assert_eq!(tested.insert_child(&TestId::nth(1), child(1, 100)), Ok(()));
    assert!(tested.promise(pid(100), 0));
    let taken = tested.insert_child(&TestId::nth(1), child(2, 100));
    assert_eq!(taken, Err(Conflict::IdTaken(pid(1))));
    let known = tested.insert_child(&TestId::nth(2), child(1, 100));
    assert_eq!(known, Err(Conflict::PidTaken));
    assert!(!tested.has_room(0));
    tested.give_back(pid(100));
    assert!(tested.has_room(0));
}

#[test]
fn who_is_refused_has_the_place_until_its_removal() {
    let tested = Tested::bounded(1);
    assert_eq!(tested.insert(&TestId::nth(1), pid(1)), Ok(()));
    assert!(tested.promise(pid(100), 0));
    let taken = tested.insert_child(&TestId::nth(1), child(2, 100));
    assert_eq!(taken, Err(Conflict::IdTaken(pid(1))));
    assert!(tested.refuse(child(2, 100)) && !tested.refuse(child(2, 100)));
    assert!(
        !tested.refuse(child(1, 100)),
        "it has an id, and is left alone"
    );
    // There is nothing to give back.
    tested.give_back(pid(100));
    assert!(!tested.has_room(0));
    assert!(tested.processes().contains(&child(2, 100)));
    assert!(tested.remove(pid(2)));
    assert!(tested.has_room(0));
    assert!(tested.remove(pid(1)) && tested.is_drained());
}

#[test]
fn a_guest_is_not_refused() {
    let tested = Tested::bounded(1);
    let guest = Worker::guest(pid(1));
    assert_eq!(tested.insert_child(&TestId::nth(1), guest), Ok(()));
    assert!(tested.promise(pid(100), 0));
    // Nor is one that has given its id up.
    for _ in 0..2 {
        assert!(!tested.refuse(child(1, 100)));
        assert_eq!(tested.known(pid(1)), Some(guest));
        tested.release(&TestId::nth(1));
    }
    tested.give_back(pid(100));
    assert!(tested.has_room(0) && tested.guests() == 0);
    assert_eq!(tested.insert_child(&TestId::nth(2), guest), Ok(()));
    assert!(tested.remove(pid(1)) && tested.is_drained());
}

#[test]
fn who_has_no_place_takes_none_and_leaves_none() {
    let tested = Tested::bounded(1);
    assert!(tested.promise(pid(100), 0));
    // Without a parent, of another parent, and tracked.
    assert_eq!(tested.insert(&TestId::nth(1), pid(1)), Ok(()));
    assert_eq!(tested.insert_child(&TestId::nth(2), child(2, 101)), Ok(()));
    assert!(tested.track(child(3, 100)));
    for number in 1..=3 {
        assert!(tested.remove(pid(number)));
    }
    assert!(!tested.has_room(0));
    assert_eq!(tested.insert_child(&TestId::nth(1), child(1, 100)), Ok(()));
    assert!(!tested.has_room(0));
    assert!(tested.remove(pid(1)));
    assert!(tested.has_room(0));
}

#[test]
fn a_guest_leaves_what_it_was_promised_to_its_child() {
    let tested = Tested::bounded(1);
    let parent = pid(100);
    assert!(tested.promise(parent, 0));
    let guest = Worker::guest(parent);
    assert_eq!(tested.insert_child(&TestId::nth(1), guest), Ok(()));
    assert_eq!(tested.insert_child(&TestId::nth(2), child(2, 100)), Ok(()));
    assert!(tested.remove(parent) && !tested.has_room(0));
    assert!(tested.remove(pid(2)) && tested.has_room(0));
}

#[test]
fn without_a_bound_there_is_always_room() {
    let tested = Tested::new();
    for number in 0..1_000 {
        assert!(tested.has_room(0) && tested.promise(pid(100), 0));
        let id = TestId::nth(number);
        assert_eq!(tested.insert_child(&id, child(number, 100)), Ok(()));
    }
}

#[test]
fn racing_parents_are_promised_as_many_places_as_there_are() {
    const MOST: usize = 5;
    let tested = Tested::bounded(MOST);
    std::thread::scope(|scope| {
        for parent in 0..4 {
            let tested = &tested;
            scope.spawn(move || {
                for round in 0..5_000 {
                    if !tested.promise(pid(100 + parent), 0) {
                        continue;
                    }
                    let number = 1_000 + parent * 10 + round % 3;
                    let id = TestId::nth(number);
                    if tested.insert_child(&id, child(number, 100 + parent)) != Ok(()) {
                        tested.give_back(pid(100 + parent));
                    }
                    assert!(tested.count() <= MOST);
                    tested.remove(pid(1_000 + parent * 10 + (round + 1) % 3));
                }
            });
        }
    });
    for number in 1_000..1_040 {
        tested.remove(pid(number));
    }
    for parent in 0..MOST {
        assert!(tested.promise(pid(100 + parent as u64), 0));
    }
    assert!(!tested.has_room(0));
}
