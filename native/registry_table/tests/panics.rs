//! A panic in the code of an opaque id harms nothing.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{orphan, pid};
use parking_lot::Mutex;
use registry_table::{Id, Opaque, Table, Worker, collect};

/// What panics when it is run.
#[derive(Clone, Copy, PartialEq)]
enum Bad {
    Nothing,
    Keep,
    Is,
    Drop,
}

struct Picky(Bad);

impl Opaque for Picky {
    type Probe<'a> = Bad;

    fn keep(bad: Bad) -> Self {
        assert!(bad != Bad::Keep, "on purpose");
        Self(bad)
    }

    fn is(&self, bad: Bad) -> bool {
        assert!(bad != Bad::Is, "on purpose");
        true
    }
}

impl Drop for Picky {
    fn drop(&mut self) {
        assert!(self.0 != Bad::Drop, "on purpose");
    }
}

/// One test at a time: who reads in another one holds back what is to be freed.
static ALONE: Mutex<()> = Mutex::new(());

fn id(probe: Bad) -> Id<'static, Bad> {
    Id::Opaque {
        hash: 1,
        words: 1,
        probe,
    }
}

fn caught<R>(run: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

#[test]
fn a_failed_insertion_leaves_nothing_behind() {
    let _alone = ALONE.lock();
    let table = Table::<Picky>::new();
    let insert = |bad| caught(|| table.insert(&id(bad), orphan(pid(1))));

    assert_eq!(insert(Bad::Keep), None);
    assert!(table.is_drained() && table.processes().is_empty());
    assert_eq!(table.count(), 0);

    assert_eq!(insert(Bad::Nothing), Some(Ok(())));
    assert_eq!(insert(Bad::Is), None, "it cannot be compared");
    assert_eq!(insert(Bad::Drop), None, "there is one already");
    assert_eq!(table.count(), 1);
    assert!(table.remove(pid(1)), "the shard is not locked for ever");
    assert!(table.is_drained());
}

#[test]
fn a_process_is_gone_whatever_comes_of_its_id() {
    let _alone = ALONE.lock();
    let table = Table::<Picky>::bounded(1);
    let (child, parent) = (pid(1), pid(100));
    assert!(table.promise(parent, 0));
    let worker = Worker {
        pid: child,
        parent: Some(parent),
    };
    let bad = id(Bad::Drop);
    assert_eq!(table.insert(&bad, worker), Ok(()));
    assert!(table.retire(&bad).is_some());
    assert_eq!(caught(|| table.remove(child)), Some(true));
    assert_eq!(caught(collect), Some(()));
    assert!(table.is_drained() && table.has_room(0));
    assert_eq!(table.known(child), None);
}
