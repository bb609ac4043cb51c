//! Opaque ids are dropped once each, and not while they are in use.

mod common;

use common::{Rng, TestId, Tested, pid, stress};

/// How many ids of processes that were removed a table keeps at the most.
const PAST: usize = 2_048;

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
fn an_emptied_table_keeps_the_last_ids_only() {
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
        tested.assert_keeps(PAST);
    }
    tested.drop_without_leak();
}

#[test]
fn a_shrunken_table_keeps_few_ids() {
    const IDS: u64 = 50_000;
    let tested = Tested::new();
    for (n, id) in (0..IDS).zip(opaque()) {
        assert_eq!(tested.insert(&id, pid(n)), Ok(()));
    }
    for n in (0..IDS).filter(|n| n % 50 > 0) {
        assert!(tested.remove(pid(n)));
    }
    // Those that went are kept until their shard shrinks, but there are ever fewer of them.
    tested.assert_keeps(IDS as usize / 4);
    assert_eq!(tested.count(), IDS as usize / 50);
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
    tested.close();
    assert!(tested.insert(&id(), pid(2)).is_err());
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
    tested.assert_keeps(PAST);
    tested.drop_without_leak();
}
