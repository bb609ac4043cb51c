//! A panic in the code of an opaque id harms nothing.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{orphan, pid};
use registry_table::{Id, Opaque, Table};

struct Picky;

impl Opaque for Picky {
    /// Whether it can be kept.
    type Probe<'a> = bool;

    fn keep(good: bool) -> Self {
        assert!(good, "on purpose");
        Self
    }

    fn is(&self, good: bool) -> bool {
        assert!(good, "on purpose");
        true
    }
}

#[test]
fn a_failed_insertion_leaves_nothing_behind() {
    let table = Table::<Picky>::new();
    let id = |probe| Id::Opaque {
        hash: 1,
        words: 1,
        probe,
    };
    let insert = |good| catch_unwind(AssertUnwindSafe(|| table.insert(&id(good), orphan(pid(1)))));

    assert!(insert(false).is_err());
    assert!(table.is_drained() && table.processes().is_empty());
    assert_eq!(table.count(), 0);

    assert_eq!(insert(true).expect("it can be kept"), Ok(()));
    assert!(insert(false).is_err(), "it cannot be compared");
    assert_eq!(table.count(), 1);
    assert!(table.remove(pid(1)), "the shard is not locked for ever");
    assert!(table.is_drained());
}
