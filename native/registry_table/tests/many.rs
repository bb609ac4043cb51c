//! Many ids looked up together answer as each alone does.

mod common;

use common::{Rng, TestId, Tested, pid};

#[test]
fn many_are_found_as_each_alone() {
    let tested = Tested::new();
    for ids in [0, 10, 1_000, 50_000] {
        for n in (0..ids).filter(|n| n % 3 > 0) {
            let _ = tested.insert(&TestId::nth(n), pid(n));
        }
        let mut rng = Rng::new(ids);
        for many in [0, 1, 2, 31, 32, 33, 64, 500] {
            // The same one may come twice, and some are not there.
            let asked = (0..many).map(|_| TestId::nth(rng.below(ids + 5)));
            let asked: Vec<_> = asked.collect();
            let alone: Vec<_> = asked.iter().map(|id| tested.get(id)).collect();
            assert_eq!(tested.get_many(&asked), alone);
        }
    }
}

#[test]
fn many_retired_and_removed_ids_are_not_found() {
    let tested = Tested::new();
    let ids: Vec<_> = (0..1_000).map(TestId::nth).collect();
    for (n, id) in (0..).zip(&ids) {
        assert_eq!(tested.insert(id, pid(n)), Ok(()));
    }
    for (n, id) in (0..).zip(&ids) {
        match n % 3 {
            0 => assert!(tested.remove(pid(n))),
            1 => assert!(tested.retire(id).is_some()),
            _ => {}
        }
    }
    let there = (0..1_000).map(|n| (n % 3 == 2).then(|| pid(n)));
    assert_eq!(tested.get_many(&ids), there.collect::<Vec<_>>());
}
