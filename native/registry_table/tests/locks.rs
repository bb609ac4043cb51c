//! What an opaque id has run for its copy may take long: it holds up nobody.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::Duration;

use common::{orphan, pid};
use registry_table::{Conflict, Id, Opaque, Table};

/// Another thread, that writes to the same shard when it is asked to, and answers. While the shard's
/// lock is held, it cannot.
#[derive(Clone)]
struct Other {
    asks: Arc<Mutex<Sender<Sender<()>>>>,
    late: Arc<AtomicUsize>,
}

impl Other {
    fn writes(&self) {
        let (written, wait) = channel();
        let asked = self.asks.lock().expect("whole").send(written);
        if asked.is_err() || wait.recv_timeout(Duration::from_secs(10)).is_err() {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Slow(Other);

impl Opaque for Slow {
    type Probe<'a> = &'a Other;

    fn keep(other: &Other) -> Self {
        other.writes();
        Self(other.clone())
    }

    fn is(&self, other: &Other) -> bool {
        other.writes();
        true
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.writes();
    }
}

/// With the same hash as the one that the other thread enters and removes.
fn slow(other: &Other) -> Id<'_, &Other> {
    Id::Opaque {
        hash: 1,
        words: 1,
        probe: other,
    }
}

#[test]
fn copies_are_made_compared_and_dropped_without_a_lock() {
    let table = Arc::new(Table::<Slow>::new());
    let (asks, asked) = channel::<Sender<()>>();
    let other = Other {
        asks: Arc::new(Mutex::new(asks)),
        late: Arc::default(),
    };
    {
        let table = Arc::clone(&table);
        // The hash of one word is that of an opaque id that has it as its own.
        let same_shard = Id::Word(1.try_into().expect("not zero"));
        spawn(move || {
            for written in asked {
                let _ = table.insert(&same_shard, orphan(pid(1)));
                assert!(table.remove(pid(1)));
                written.send(()).expect("it waits");
            }
        });
    }

    let insert = |n| table.insert(&slow(&other), orphan(pid(n)));
    assert_eq!(insert(2), Ok(()));
    assert_eq!(insert(3), Err(Conflict::IdTaken(pid(2))));
    assert_eq!(other.late.load(Ordering::Relaxed), 0);
}
