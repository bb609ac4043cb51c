//! What is given up is freed although nobody does anything more, by the thread that calls `reclaim`.

mod common;

use std::sync::{Arc, Weak};
use std::thread::{scope, spawn, yield_now};

use common::orphan;
use registry_table::{Id, Opaque, Pid, Published, Table, pin, reclaim};

/// An id that says, by its canary, where it was dropped.
struct Watched(Arc<()>);

impl Opaque for Watched {
    type Probe<'a> = &'a Arc<()>;

    fn keep(canary: &Arc<()>) -> Self {
        Self(Arc::clone(canary))
    }

    fn is(&self, canary: &Arc<()>) -> bool {
        Arc::ptr_eq(&self.0, canary)
    }

    fn bytes(&self) -> usize {
        1 << 30
    }
}

fn await_end<T>(value: &Weak<T>) {
    while value.strong_count() > 0 {
        yield_now();
    }
}

#[test]
fn all_is_freed_by_one_thread() {
    spawn(|| reclaim(|| unreachable!("the system grants the barrier")));

    // A table that is let go of while one reads.
    let place = Published::default();
    let table = Arc::new(Table::<Watched>::new());
    let end = Arc::downgrade(&table);
    place.set(Arc::clone(&table));
    let reading = pin();
    place.retract(&table);
    drop(table);
    for _ in 0..1_000 {
        drop(pin());
    }
    assert!(end.upgrade().is_some(), "one reads");
    drop(reading);
    await_end(&end);

    // Large ids, of processes that end while others stay, retired before or not.
    let table = Table::<Watched>::new();
    let pid = |n| Pid::new(n).expect("not zero");
    let ids: Vec<_> = (1..=100).map(|n| (n, Arc::new(()))).collect();
    let id = |n, probe| Id::Opaque {
        hash: n,
        words: 1,
        probe,
    };
    for (n, canary) in &ids {
        assert_eq!(table.insert(&id(*n, canary), orphan(pid(*n))), Ok(()));
    }
    scope(|scope| {
        scope.spawn(|| {
            for (n, canary) in &ids[1..] {
                assert!(n % 2 == 0 || table.retire(&id(*n, canary)).is_some());
                assert!(table.remove(pid(*n)));
            }
        });
    });
    for (n, canary) in ids {
        let end = Arc::downgrade(&canary);
        drop(canary);
        if n > 1 {
            await_end(&end);
        }
    }
    assert_eq!(table.count(), 1);
}
