//! Models of what may meet: loom runs each of them in every order in which its threads can take
//! their steps, with every value that the memory model lets a load see.
//!
//! `script/model` runs them, and then sees that they find faults that are planted for them.
//!
//! The whole table is modelled, with two shards of two parts, segments of four slots and splits at
//! two entries. So is the epoch, in the form in which readers pay for a fence. Not modelled:
//!
//! - `membarrier(2)`, which stands for that fence: that it does is the kernel's promise. Beside the
//!   fence, the Acquire in `pin` orders nothing more, so no model can find that it is missing.
//! - parking_lot's mutex and once_cell's box.
//! - An order of all SeqCst operations that are not fences: loom takes them for AcqRel.
//! - More than three threads, and more preemptions than each model says, if it says a number: one to
//!   three. `LOOM_MAX_PREEMPTIONS` sets another one for all.
//! - Freed memory: loom keeps it, and panics when a read of it is not ordered before its end.

use loom::cell::UnsafeCell;
use loom::thread::spawn;

use crate::epoch::{collect, pin, retire};
use crate::sync::{Arc, AtomicPtr, AtomicUsize, Lifetime, Ordering};
use crate::{Conflict, Cursor, Id, Names, Opaque, Pid, Published, Stored, Table, Worker};

/// Plays a model through, and says how many executions that took.
fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    static EXECUTIONS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

    let said = format!("model {name}:");
    let say = move |end| {
        println!(
            "{said} {} executions, {end}",
            EXECUTIONS.load(Ordering::Relaxed)
        )
    };
    let say_failed = say.clone();
    std::panic::set_hook(Box::new(move |panic| {
        println!("{panic}");
        say_failed("FAILED");
        // The process is of no more use: what panicked cannot be dropped outside of a model.
        std::process::exit(1);
    }));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 100_000;
    builder.check(move || {
        EXECUTIONS.fetch_add(1, Ordering::Relaxed);
        model();
    });
    say("passed");
}

// The epoch.

/// A place whose value is replaced while others read it. The values are leaked.
fn place() -> &'static AtomicPtr<Lifetime> {
    Box::leak(Box::new(AtomicPtr::new(value())))
}

fn value() -> *mut Lifetime {
    Box::into_raw(Box::default())
}

fn read(place: &AtomicPtr<Lifetime>) {
    // SAFETY: it is leaked.
    let value = unsafe { &*place.load(Ordering::Acquire) };
    value.read();
}

fn replace(place: &AtomicPtr<Lifetime>) {
    // SAFETY: it is leaked.
    let old: &'static Lifetime = unsafe { &*place.swap(value(), Ordering::AcqRel) };
    retire(1, || old.end());
}

#[test]
fn what_is_read_is_not_freed() {
    explore("what_is_read_is_not_freed", Some(3), || {
        let place = place();
        let reader = spawn(|| {
            for _ in 0..2 {
                let _pinned = pin();
                read(place);
            }
        });
        replace(place);
        collect();
        collect();
        reader.join().expect("it reads");
    });
}

#[test]
fn guards_may_be_dropped_in_any_order() {
    explore("guards_may_be_dropped_in_any_order", None, || {
        let place = place();
        let reader = spawn(|| {
            let first = pin();
            let second = pin();
            drop(first);
            read(place);
            drop(second);
        });
        replace(place);
        collect();
        reader.join().expect("it reads");
    });
}

#[test]
fn one_may_free_what_another_retired() {
    explore("one_may_free_what_another_retired", Some(3), || {
        let place = place();
        let reader = spawn(|| {
            let _pinned = pin();
            read(place);
        });
        let other = spawn(|| {
            replace(place);
            collect();
        });
        replace(place);
        collect();
        reader.join().expect("it reads");
        other.join().expect("it frees");
    });
}

#[test]
fn a_reader_goes_from_thread_to_thread() {
    explore("a_reader_goes_from_thread_to_thread", Some(3), || {
        let place = place();
        let read = || {
            spawn(|| {
                let _pinned = pin();
                read(place);
            })
        };
        let first = read();
        replace(place);
        let second = read();
        collect();
        first.join().expect("it reads");
        collect();
        second.join().expect("it reads");
    });
}

// Published values.

/// A value that tells loom of its end.
#[derive(Default)]
struct Value(Lifetime, u64);

impl Drop for Value {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn published(place: &Published<Value>) -> Option<u64> {
    let pinned = pin();
    let value = place.get(&pinned)?;
    value.0.read();
    Some(value.1)
}

#[test]
fn a_name_is_opened_again_beside_its_closing() {
    explore("a_name_is_opened_again_beside_its_closing", Some(2), || {
        let place = Arc::new(Published::default());
        let [old, new] = [1, 2].map(|n| Arc::new(Value(Lifetime::default(), n)));
        place.set(Arc::clone(&old));
        let closer = {
            let place = Arc::clone(&place);
            spawn(move || place.retract(&old))
        };
        let opener = {
            let place = Arc::clone(&place);
            spawn(move || {
                place.set(new);
                collect();
            })
        };
        let [first, second] = [(); 2].map(|()| published(&place));
        assert!(second == Some(2) || first != Some(2), "the new one stays");
        assert!(
            second != Some(1) || first == Some(1),
            "the old one stays away"
        );
        closer.join().expect("it closes");
        opener.join().expect("it opens");
        assert_eq!(published(&place), Some(2));
    });
}

// Names.

#[test]
fn claims_of_a_name_agree() {
    explore("claims_of_a_name_agree", Some(3), || {
        let names: &'static Names<AtomicUsize> = Box::leak(Box::new(Names::new()));
        let claim = |name| {
            spawn(move || {
                names.claim(name).fetch_add(1, Ordering::Relaxed);
                assert!(names.get(name).is_some(), "it stays");
            })
        };
        let others = [claim(1), claim(2)];
        let early = names.get(2);
        let own = names.claim(1);
        own.fetch_add(1, Ordering::Relaxed);
        for other in others {
            other.join().expect("it claims");
        }
        assert_eq!(own.load(Ordering::Relaxed), 2, "one slot for both");
        let other = names.get(2).expect("it was claimed");
        assert_eq!(other.load(Ordering::Relaxed), 1);
        assert!(early.is_none_or(|early| std::ptr::eq(early, other)));
    });
}

// The table.

/// An opaque id that tells loom of its end.
struct Kept(u64, Lifetime);

impl Opaque for Kept {
    type Probe<'a> = u64;

    fn keep(name: u64) -> Self {
        Self(name, Lifetime::default())
    }

    fn is(&self, name: u64) -> bool {
        self.1.read();
        self.0 == name
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.1.end();
    }
}

/// An id with this hash.
fn word(hash: u64) -> Id<'static, u64> {
    // The inverse of the seed's last factor: each step doubles the number of bits that are right.
    let factor = 0x9E37_79B9_7F4A_7C15_u64;
    let inverse = (0..6).fold(factor, |inverse, _| {
        inverse.wrapping_mul(2_u64.wrapping_sub(factor.wrapping_mul(inverse)))
    });
    let word = hash.wrapping_mul(inverse);
    Id::Word(word.try_into().expect("not zero"))
}

fn opaque(name: u64) -> Id<'static, u64> {
    let Id::Word(word) = word(name) else {
        unreachable!()
    };
    let (hash, probe) = (word.get(), name);
    Id::Opaque {
        hash,
        words: 1,
        probe,
    }
}

/// The bit of a hash that chooses the part of a shard.
const UPPER: u64 = 1 << 62;

fn pid(n: u64) -> Pid {
    Pid::new(n).expect("not zero")
}

fn orphan(n: u64) -> Worker {
    let (pid, parent) = (pid(n), None);
    Worker { pid, parent }
}

type Shared = Arc<Table<Kept>>;

fn table(entries: impl IntoIterator<Item = (Id<'static, u64>, u64)>) -> Shared {
    let table = Table::new();
    for (id, pid) in entries {
        assert_eq!(table.insert(&id, orphan(pid)), Ok(()));
    }
    Arc::new(table)
}

fn get(table: &Table<Kept>, id: Id<'_, u64>) -> Option<u64> {
    table.get(&id, &pin()).map(Pid::word)
}

fn beside(table: &Shared, other: impl Fn(&Table<Kept>) + 'static) -> loom::thread::JoinHandle<()> {
    let table = Arc::clone(table);
    spawn(move || other(&table))
}

fn assert_entries<const COUNT: usize>(table: &Table<Kept>, entries: [(Id<'_, u64>, u64); COUNT]) {
    assert_eq!(table.count(), COUNT);
    for (id, pid) in entries {
        assert_eq!(get(table, id), Some(pid));
    }
}

#[test]
fn a_late_removal_takes_nothing_new() {
    explore("a_late_removal_takes_nothing_new", Some(2), || {
        let table = table([(word(1), 1)]);
        let late = beside(&table, |table| {
            table.remove(pid(1));
        });
        let renewal = beside(&table, |table| {
            table.remove(pid(1));
            assert_eq!(get(table, word(1)), None);
            assert_eq!(table.insert(&word(1), orphan(2)), Ok(()));
        });
        let [first, second] = [(); 2].map(|()| get(&table, word(1)));
        assert!(first != Some(2) || second == Some(2), "the new one stays");
        assert!(
            first.is_some() || second != Some(1),
            "the old one stays away"
        );
        late.join().expect("it removes");
        renewal.join().expect("it removes and inserts");
        assert_entries(&table, [(word(1), 2)]);
        assert_eq!(table.processes(), [orphan(2)]);
    });
}

#[test]
fn a_process_may_come_back_under_another_id() {
    explore("a_process_may_come_back_under_another_id", Some(2), || {
        let table = table([(word(1), 1)]);
        let removal = beside(&table, |table| {
            table.remove(pid(1));
        });
        let renewal = beside(&table, |table| {
            table.remove(pid(1));
            let other = table.insert(&word(1 << 63 | 1), orphan(1));
            assert!(other == Ok(()), "it was removed");
        });
        removal.join().expect("it removes");
        renewal.join().expect("it removes and inserts");
        // The removal came before or after.
        let there = get(&table, word(1 << 63 | 1)).is_some();
        assert_eq!(table.count(), usize::from(there));
        assert_eq!(table.known(pid(1)).is_some(), there);
        assert_eq!(get(&table, word(1)), None);
    });
}

#[test]
fn a_late_retirement_takes_nothing_new() {
    explore("a_late_retirement_takes_nothing_new", Some(2), || {
        let table = table([(word(1), 1)]);
        let retirement = beside(&table, |table| {
            table.retire(&word(1));
        });
        let other = word(1 << 63 | 1);
        table.remove(pid(1));
        assert_eq!(table.insert(&other, orphan(1)), Ok(()));
        retirement.join().expect("it retires what is there");
        assert_entries(&table, [(other, 1)]);
        assert!(table.remove(pid(1)));
        assert_entries(&table, []);
        assert_eq!(get(&table, other), None);
    });
}

#[test]
fn a_retirement_meets_a_removal() {
    explore("a_retirement_meets_a_removal", Some(2), || {
        let table = table([(word(1), 1)]);
        let removal = beside(&table, |table| {
            assert!(table.remove(pid(1)), "retired or not");
            assert_eq!(get(table, word(1)), None);
        });
        let retirement = beside(&table, |table| {
            let retired = table.retire(&word(1));
            assert!(retired.is_none_or(|retired| retired == orphan(1)));
            assert_eq!(get(table, word(1)), None);
        });
        let [first, second] = [(); 2].map(|()| get(&table, word(1)));
        assert!(first.is_some() || second.is_none(), "it stays away");
        removal.join().expect("it removes");
        retirement.join().expect("it retires");
        assert_entries(&table, []);
        assert!(table.is_drained());
    });
}

#[test]
fn a_guest_comes_back_beside_its_end() {
    explore("a_guest_comes_back_beside_its_end", Some(2), || {
        let table = table([]);
        let guest = Worker::guest(pid(1));
        assert_eq!(table.insert(&word(1), guest), Ok(()));
        assert!(table.release(&word(1)));
        let removal = beside(&table, |table| {
            assert!(table.remove(pid(1)), "it is known, here or there");
        });
        let other = word(1 << 63 | 1);
        assert_eq!(table.insert(&other, guest), Ok(()));
        removal.join().expect("it removes");
        // The removal came before or after.
        let there = get(&table, other).is_some();
        assert_eq!(table.known(pid(1)).is_some(), there);
        assert_eq!(table.count(), usize::from(there));
        assert_eq!(table.guests(), usize::from(there));
        assert_eq!(table.is_drained(), !there);
    });
}

#[test]
fn a_guest_is_taken_in_beside_its_end() {
    explore("a_guest_is_taken_in_beside_its_end", Some(2), || {
        let table = table([]);
        assert_eq!(table.insert(&word(1), Worker::guest(pid(1))), Ok(()));
        let removal = beside(&table, |table| {
            assert!(table.remove(pid(1)), "guest or not");
        });
        let release = beside(&table, |table| {
            table.release(&word(1));
        });
        let (pid, parent) = (pid(1), Some(pid(2)));
        let new = table.track(Worker { pid, parent });
        assert!(new, "it was a guest, or gone");
        removal.join().expect("it removes");
        release.join().expect("it releases");
        assert_eq!(table.guests(), 0);
        assert_entries(&table, []);
    });
}

#[test]
fn two_insertions_of_an_id_agree() {
    explore("two_insertions_of_an_id_agree", Some(3), || {
        let table = table([]);
        let insert = |table: &Table<Kept>, by| match table.insert(&word(1), orphan(by)) {
            Ok(()) => assert_eq!(get(table, word(1)), Some(by)),
            Err(Conflict::IdTaken(pid)) => assert_eq!(get(table, word(1)), Some(pid.word())),
            Err(conflict) => panic!("{conflict:?}"),
        };
        let other = beside(&table, move |table| insert(table, 1));
        insert(&table, 2);
        other.join().expect("it inserts");
        assert_eq!(table.count(), 1);
        assert_eq!(table.processes().len(), 1);
    });
}

#[test]
fn a_split_hides_nothing() {
    explore("a_split_hides_nothing", Some(3), || {
        let there = [(word(1), 1), (word(UPPER | 1), 2), (word(2), 3)];
        let table = table(there);
        let insertion = beside(&table, move |table| {
            assert_eq!(table.insert(&word(UPPER | 2), orphan(4)), Ok(()));
            collect();
        });
        for (id, pid) in there {
            assert_eq!(get(&table, id), Some(pid));
        }
        insertion.join().expect("it splits");
        assert_entries(&table, [there[0], there[1], there[2], (word(UPPER | 2), 4)]);
    });
}

#[test]
fn a_rebuild_hides_nothing() {
    explore("a_rebuild_hides_nothing", Some(1), || {
        let table = table([(word(1), 1), (word(2), 2), (word(3), 3)]);
        assert!(table.remove(pid(1)) && table.remove(pid(3)));
        let insertion = beside(&table, |table| {
            assert_eq!(table.insert(&word(4), orphan(4)), Ok(()));
            collect();
        });
        let removal = beside(&table, |table| {
            assert!(table.remove(pid(2)));
            assert_eq!(get(table, word(2)), None);
        });
        let [first, second] = [(); 2].map(|()| get(&table, word(2)));
        assert!(first.is_some() || second.is_none(), "it stays away");
        insertion.join().expect("it rebuilds");
        removal.join().expect("it removes");
        assert_entries(&table, [(word(4), 4)]);
    });
}

#[test]
fn emptying_takes_nothing_new() {
    explore("emptying_takes_nothing_new", Some(2), || {
        let table = table([(word(1), 1)]);
        let removal = beside(&table, |table| {
            assert!(table.remove(pid(1)));
            collect();
        });
        let insertion = beside(&table, |table| {
            assert_eq!(table.insert(&word(2), orphan(2)), Ok(()));
        });
        let [first, second] = [(); 2].map(|()| get(&table, word(2)));
        assert!(first.is_none() || second.is_some(), "it stays");
        removal.join().expect("it empties");
        insertion.join().expect("it inserts");
        assert_entries(&table, [(word(2), 2)]);
    });
}

#[test]
fn shrinking_hides_nothing() {
    explore("shrinking_hides_nothing", Some(2), || {
        // Two in the upper part, for the first split; in the lower part, four make 16 slots.
        let upper = [1, 2].map(|n| (word(UPPER | n), n));
        let table = table(upper.into_iter().chain((3..7).map(|n| (word(n), n))));
        assert!(table.remove(pid(3)) && table.remove(pid(4)));
        let removal = beside(&table, |table| {
            assert!(table.remove(pid(5)));
            collect();
        });
        let insertion = beside(&table, |table| {
            assert_eq!(table.insert(&word(7), orphan(7)), Ok(()));
        });
        assert_eq!(get(&table, word(6)), Some(6));
        removal.join().expect("it shrinks");
        insertion.join().expect("it inserts");
        assert_entries(&table, [upper[0], upper[1], (word(6), 6), (word(7), 7)]);
    });
}

#[test]
fn an_opaque_id_is_whole_until_it_is_freed() {
    explore("an_opaque_id_is_whole_until_it_is_freed", Some(2), || {
        let table = table([(opaque(1), 1), (opaque(2), 2), (opaque(3), 3)]);
        assert!(table.remove(pid(3)));
        let writer = beside(&table, |table| {
            assert!(table.remove(pid(1)));
            // A rebuild, which takes the second id along.
            assert_eq!(table.insert(&opaque(4), orphan(4)), Ok(()));
            collect();
            collect();
        });
        assert_eq!(get(&table, opaque(2)), Some(2));
        assert!(get(&table, opaque(1)).is_none_or(|pid| pid == 1));
        assert!(get(&table, opaque(4)).is_none_or(|pid| pid == 4));
        writer.join().expect("it removes and inserts");
        assert_entries(&table, [(opaque(2), 2), (opaque(4), 4)]);
    });
}

#[test]
fn an_id_that_goes_is_whole_for_those_who_found_it() {
    explore(
        "an_id_that_goes_is_whole_for_those_who_found_it",
        Some(2),
        || {
            // The second one keeps the segment.
            let table = table([(opaque(1), 1), (opaque(2), 2)]);
            let removal = beside(&table, |table| {
                assert!(table.remove(pid(1)));
                collect();
            });
            let whole = |id: Stored<'_, Kept>| match id {
                Stored::Opaque { kept, .. } => kept.1.read(),
                other => panic!("{:?}", std::mem::discriminant(&other)),
            };
            assert!(get(&table, opaque(1)).is_none_or(|pid| pid == 1));
            table.id_of(pid(1), whole);
            let mut cursor = Some(Cursor::START);
            while let Some(from) = cursor {
                cursor = table.scan(from, 100, |id, _| whole(id));
            }
            removal.join().expect("it removes");
            assert_entries(&table, [(opaque(2), 2)]);
            assert_eq!(get(&table, opaque(1)), None);
        },
    );
}

#[test]
fn two_insertions_of_an_opaque_id_agree() {
    explore("two_insertions_of_an_opaque_id_agree", Some(2), || {
        let table = table([(opaque(1), 1)]);
        let insert = |table: &Table<Kept>, by| {
            assert!(table.remove(pid(1)) || table.known(pid(1)).is_none());
            match table.insert(&opaque(1), orphan(by)) {
                Ok(()) => assert_eq!(get(table, opaque(1)), Some(by)),
                Err(Conflict::IdTaken(pid)) => assert_eq!(get(table, opaque(1)), Some(pid.word())),
                Err(conflict) => panic!("{conflict:?}"),
            }
        };
        let other = beside(&table, move |table| insert(table, 2));
        insert(&table, 3);
        other.join().expect("it inserts");
        assert_eq!(table.count(), 1);
        assert_eq!(table.processes().len(), 1);
    });
}

#[test]
fn a_process_that_ends_has_its_id_throughout() {
    explore("a_process_that_ends_has_its_id_throughout", Some(2), || {
        let table = table([(word(1), 1)]);
        let writer = beside(&table, |table| {
            assert!(table.retire(&word(1)).is_some());
            assert!(table.remove(pid(1)));
        });
        let there = || table.id_of(pid(1), |_| ());
        let id = there().or_else(|| table.last_id_of(pid(1), |_| ()));
        assert_eq!(id, Some(()));
        writer.join().expect("it removes");
        assert_eq!(there(), None);
        assert_eq!(table.last_id_of(pid(1), |_| ()), Some(()));
    });
}

#[test]
fn who_sees_a_process_sees_what_led_to_it() {
    explore("who_sees_a_process_sees_what_led_to_it", Some(3), || {
        let table = table([(word(1), 1), (word(2), 2)]);
        assert!(table.remove(pid(1)));
        let made = Arc::new(UnsafeCell::new([0; 2]));
        let writer = {
            let made = Arc::clone(&made);
            beside(&table, move |table| {
                // Under a guard there are no more fences, which would order what is to be seen.
                let _pinned = pin();
                // SAFETY: loom panics if another may look.
                made.with_mut(|made| unsafe { *made = [1; 2] });
                // One takes the slot it had before, the other a free one.
                assert_eq!(table.insert(&word(1), orphan(3)), Ok(()));
                assert_eq!(table.insert(&word(3), orphan(4)), Ok(()));
            })
        };
        for id in [word(3), word(1)] {
            if get(&table, id).is_some() {
                // SAFETY: loom panics if another may write.
                made.with(|made| assert_eq!(unsafe { *made }, [1; 2]));
            }
        }
        writer.join().expect("it inserts");
    });
}

#[test]
fn a_scan_meets_each_once() {
    explore("a_scan_meets_each_once", Some(2), || {
        let there = [(word(1), 1), (word(UPPER | 1), 2), (word(2), 3)];
        let table = table(there);
        let insertion = beside(&table, |table| {
            assert_eq!(table.insert(&word(UPPER | 2), orphan(4)), Ok(()));
            collect();
        });
        let mut met = Vec::new();
        let mut cursor = Some(Cursor::START);
        while let Some(from) = cursor {
            cursor = table.scan(from, 2, |id, pid| {
                assert!(matches!(id, Stored::Word(_)));
                met.push(pid.word());
            });
        }
        for pid in 1..=3 {
            assert_eq!(met.iter().filter(|met| **met == pid).count(), 1, "{met:?}");
        }
        assert!(met.iter().filter(|met| **met == 4).count() <= 1, "{met:?}");
        insertion.join().expect("it splits");
    });
}
