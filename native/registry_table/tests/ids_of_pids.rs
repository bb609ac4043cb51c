//! From a process to its id: while it has one, while it is retired, and for a while after its end.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::scope;

use common::{Rng, TestId, Tested, orphan, pid, stress};
use registry_table::{Remembered, Stored};

/// How many removals a table remembers at the most.
const PAST: u64 = 16_384;

#[test]
fn a_process_has_its_id_until_it_is_removed() {
    for n in 0..TestId::FORMS {
        let (tested, id) = (Tested::new(), TestId::nth(n));
        assert_eq!(
            (tested.id_of(pid(1)), tested.last_id_of(pid(1))),
            (None, None)
        );
        assert_eq!(tested.insert(&id, pid(1)), Ok(()));
        assert_eq!(tested.id_of(pid(1)), Some(id.clone()));
        assert_eq!(tested.last_id_of(pid(1)), None, "it has it still");
        assert_eq!(tested.id_of(pid(2)), None);

        assert!(tested.remove(pid(1)));
        assert_eq!(tested.id_of(pid(1)), None);
        assert_eq!(tested.last_id_of(pid(1)), Some(id.clone()));

        // The id's next process, and the pid's next id.
        let next = TestId::nth(n + TestId::FORMS);
        assert_eq!(tested.insert(&id, pid(2)), Ok(()));
        assert_eq!(tested.insert(&next, pid(1)), Ok(()));
        assert_eq!(tested.id_of(pid(2)), Some(id));
        assert_eq!(tested.id_of(pid(1)), Some(next.clone()));
        assert!(tested.remove(pid(1)));
        assert_eq!(tested.last_id_of(pid(1)), Some(next), "the newest one");
        tested.drop_without_leak();
    }
}

#[test]
fn a_retired_process_has_its_id_still() {
    let tested = Tested::new();
    for n in 0..1_000 {
        assert_eq!(tested.insert(&TestId::nth(n), pid(n)), Ok(()));
        assert!(tested.retire(&TestId::nth(n)).is_some());
    }
    // However many others are removed meanwhile.
    for n in 1_000..100_000 {
        assert_eq!(tested.insert(&TestId::nth(n), pid(n)), Ok(()));
        assert!(tested.remove(pid(n)));
    }
    for n in 0..1_000 {
        assert_eq!(tested.id_of(pid(n)), Some(TestId::nth(n)));
        assert_eq!(tested.last_id_of(pid(n)), None);
    }
    for n in 0..1_000 {
        assert!(tested.remove(pid(n)));
        assert_eq!(tested.id_of(pid(n)), None);
        assert_eq!(tested.last_id_of(pid(n)), Some(TestId::nth(n)));
    }
    tested.drop_without_leak();
}

#[test]
fn a_tracked_process_has_no_id() {
    let tested = Tested::new();
    assert!(tested.track(orphan(pid(1))));
    assert_eq!(tested.id_of(pid(1)), None);
    assert!(tested.remove(pid(1)));
    assert_eq!(tested.last_id_of(pid(1)), None);
}

#[test]
fn a_refused_process_has_no_id() {
    let tested = Tested::new();
    assert_eq!(tested.insert(&TestId::nth(0), pid(0)), Ok(()));
    assert!(tested.insert(&TestId::nth(0), pid(1)).is_err());
    assert!(tested.insert(&TestId::nth(1), pid(0)).is_err());
    assert_eq!(tested.id_of(pid(1)), None);
    assert_eq!(tested.id_of(pid(0)), Some(TestId::nth(0)));
}

#[test]
fn the_last_removals_are_remembered() {
    const IDS: u64 = 100_000;
    let tested = Tested::new();
    let small = |n| TestId::nth(12 * n);
    for n in 0..IDS {
        assert_eq!(tested.insert(&small(n), pid(n)), Ok(()));
    }
    for n in 0..IDS {
        assert!(tested.remove(pid(n)));
        for back in [0, 1, 100, 255].into_iter().filter(|&back| back <= n) {
            assert_eq!(tested.last_id_of(pid(n - back)), Some(small(n - back)));
        }
    }
    // Which of the older ones are there depends on how the pids share.
    let there: Vec<u64> = (0..IDS)
        .filter(|&n| tested.last_id_of(pid(n)).is_some())
        .collect();
    assert!(
        (PAST / 2..=PAST).contains(&(there.len() as u64)),
        "{}",
        there.len()
    );
    assert!(there.iter().all(|&n| n > IDS - 2 * PAST));
    tested.drop_without_leak();
}

#[test]
fn ids_are_found_while_the_table_grows_and_shrinks() {
    const STAY: u64 = 500;
    let tested = Tested::new();
    for n in 0..STAY {
        assert_eq!(tested.insert(&TestId::nth(n), pid(n)), Ok(()));
    }
    let writing = AtomicU64::new(1);
    scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 * stress() {
                for n in STAY..STAY + 30_000 {
                    assert_eq!(tested.insert(&TestId::nth(n), pid(n)), Ok(()));
                }
                for n in STAY..STAY + 30_000 {
                    assert!(tested.remove(pid(n)));
                }
            }
            writing.store(0, Ordering::Release);
        });
        let mut rng = Rng::new(3);
        let ids: Vec<_> = (0..STAY).map(TestId::nth).collect();
        let pids: Vec<_> = (0..STAY).map(|n| Some(pid(n))).collect();
        while writing.load(Ordering::Acquire) > 0 {
            let n = rng.below(STAY);
            assert_eq!(tested.id_of(pid(n)), Some(TestId::nth(n)));
            assert_eq!(tested.get_many(&ids), pids);
        }
    });
}

#[test]
fn large_ids_are_not_kept_for_their_processes_that_are_no_more() {
    let tested = Tested::new();
    let length = |n| {
        (*tested).last_id_of(pid(n), |id| match id {
            Remembered::Whole(Stored::Words { words, .. }) => words.len(),
            _ => 0,
        })
    };
    for (n, words, kept) in [(0, 2_000, true), (1, 2_100, false), (2, 1_000_000, false)] {
        let id = TestId::Words(0, vec![n + 1; words]);
        assert_eq!(tested.insert(&id, pid(n)), Ok(()));
        assert!(tested.remove(pid(n)));
        assert_eq!(length(n), kept.then_some(words));
    }
}
