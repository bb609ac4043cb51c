//! Opaque ids are dropped once each, and not while they are in use.

mod common;

use std::num::NonZeroU64;

use common::{Rng, TestId, Tested, pid, stress};

/// The opaque ids.
fn opaque() -> impl Iterator<Item = TestId> {
    (0..).map(|n| TestId::Opaque(n * 12 + 1))
}

#[test]
fn a_dropped_table_keeps_no_id() {
    let tested = Tested::new();
    for (n, id) in (0..5_000).zip(opaque()) {
        assert_eq!(tested.insert(&id, pid(n)), Ok(()));
        assert!(n % 3 > 0 || tested.remove(pid(n)));
    }
    tested.drop_without_leak();
}

#[test]
fn an_emptied_table_keeps_no_id() {
    let tested = Tested::new();
    for _ in 0..3 {
        for (n, id) in (0..5_000).zip(opaque()) {
            assert_eq!(tested.insert(&id, pid(n)), Ok(()));
        }
        for (n, id) in (0..5_000).zip(opaque()) {
            if n % 2 == 0 {
                assert!(tested.retire(&id).is_some());
            }
            assert!(tested.remove(pid(n)));
        }
        tested.assert_keeps(0);
    }
    tested.drop_without_leak();
}

#[test]
fn an_id_goes_with_its_process_however_many_others_stay() {
    const STAY: u64 = 6_000;
    let tested = Tested::new();
    for n in 0..STAY {
        assert_eq!(tested.insert(&words(1, n), pid(n)), Ok(()));
    }
    for (n, id) in (STAY..STAY + 600).zip(opaque()) {
        assert_eq!(tested.insert(&id, pid(n)), Ok(()));
        // It is stopped, or dies.
        assert!(n % 2 == 0 || tested.retire(&id).is_some());
        assert!(tested.remove(pid(n)));
        tested.assert_keeps(0);
    }
    tested.drop_without_leak();
}

#[test]
fn refused_insertions_keep_no_id() {
    let tested = Tested::new();
    let mut ids = opaque();
    let mut id = || ids.next().expect("endless");
    let first = id();
    assert_eq!(tested.insert(&first, pid(0)), Ok(()));
    assert!(tested.insert(&first, pid(1)).is_err());
    assert!(tested.insert(&id(), pid(0)).is_err());
    tested.assert_keeps(1);
}

#[test]
fn an_id_that_comes_and_goes_is_freed_throughout() {
    let tested = Tested::new();
    std::thread::scope(|scope| {
        for writer in 0..2_u64 {
            let tested = &tested;
            scope.spawn(move || {
                let mut rng = Rng::new(writer);
                for _ in 0..20_000 * stress() {
                    // Few ids that share few hashes, so that readers meet what is being removed.
                    let n = rng.below(64);
                    let id = TestId::Opaque(n * 12 + 1);
                    let _ = tested.insert(&id, pid(n));
                    tested.get(&id);
                    tested.sample();
                    tested.remove(pid(rng.below(64)));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..20 * stress() {
                tested.scan_all(100);
            }
        });
    });
    for n in 0..64 {
        tested.remove(pid(n));
    }
    assert!(tested.is_drained());
    tested.assert_keeps(0);
    tested.drop_without_leak();
}

/// Ids of one word, of two, of six, and one that fits into no slot.
fn words(class: u64, n: u64) -> TestId {
    match class {
        0 => TestId::Word(NonZeroU64::MIN.saturating_add(n)),
        1 => TestId::Words(2, vec![n, 1]),
        2 => TestId::Words(6, vec![n; 6]),
        _ => TestId::Words(9, vec![n; 9]),
    }
}

#[test]
fn memory_tells_of_what_there_is() {
    const IDS: u64 = 50_000;
    // A slot or, of the last, one with a pointer and what it points to; and what is known by pid.
    for (class, least) in [16, 32, 64, 32 + 9 * 8].into_iter().enumerate() {
        let tested = Tested::new();
        let empty = tested.memory();
        for n in 0..IDS {
            let id = words(class as u64, n);
            assert_eq!(tested.insert(&id, pid(n)), Ok(()));
        }
        let each = (tested.memory() - empty) / IDS as usize;
        // Where there is room for more, that is paid for too.
        let least = least + 24;
        assert!((least..4 * least).contains(&each), "{each}, not {least}");
        for n in 0..IDS {
            assert!(tested.remove(pid(n)));
        }
        let left = (tested.memory() - empty) / IDS as usize;
        // The map by pid keeps its places.
        assert!(left < 80, "{left}");
        tested.drop_without_leak();
    }
}

#[test]
fn ids_that_fit_nowhere_are_not_counted_on_and_on() {
    let tested = Tested::new();
    let mut first = 0;
    for round in 0..100 {
        for n in 0..500 {
            let id = words(3, round * 500 + n);
            assert_eq!(tested.insert(&id, pid(n)), Ok(()));
        }
        // The last ids that were removed are kept, up to a bound.
        if round == 50 {
            first = tested.memory();
        }
        for n in 0..500 {
            assert!(tested.remove(pid(n)));
        }
        assert!(
            round < 50 || tested.memory() <= 2 * first,
            "after {round} rounds"
        );
    }
    tested.drop_without_leak();
}
