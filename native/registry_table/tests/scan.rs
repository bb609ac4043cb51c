//! Scans meet everything once, whatever the table does meanwhile.

mod common;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Rng, TestId, Tested, assert_belongs, pid, pid_of, stress};
use registry_table::{Cursor, Pid};

fn full(ids: u64) -> Tested {
    let tested = Tested::new();
    for n in 0..ids {
        assert_eq!(tested.insert(&TestId::nth(n), pid_of(n, 0)), Ok(()));
    }
    tested
}

/// Asserts that the ids below `stay` are met, and no id twice.
fn assert_once(met: Vec<(TestId, Pid)>, stay: u64) {
    let mut seen = HashSet::new();
    for (id, pid) in met {
        assert_belongs(&id, pid);
        assert!(seen.insert(id.clone()), "{id:?} was met twice");
    }
    for id in (0..stay).map(TestId::nth) {
        assert!(seen.contains(&id), "{id:?} was missed");
    }
}

#[test]
fn an_empty_table_has_nothing_to_meet() {
    let tested = Tested::new();
    for limit in [0, 1, 1_000, usize::MAX] {
        assert_eq!(tested.scan_all(limit), []);
    }
}

#[test]
fn every_limit_meets_every_id_once() {
    let ids = 20_000;
    let tested = full(ids);
    for limit in [0, 1, 7, 8, 100, 12_345, usize::MAX] {
        let met = tested.scan_all(limit);
        assert_eq!(met.len(), ids as usize, "by {limit}");
        assert_once(met, ids);
    }
}

#[test]
fn limits_may_change_on_the_way() {
    let ids = 20_000;
    let tested = full(ids);
    for begin in (1..100).step_by(7) {
        let mut rng = Rng::new(begin as u64);
        let (mut met, mut next) = tested.step(Cursor::START, begin);
        while let Some(cursor) = next {
            let limit = [1, 10, 1_000, usize::MAX][rng.below(4) as usize];
            let (more, on) = tested.step(cursor, limit);
            met.extend(more);
            next = on;
        }
        assert_eq!(met.len(), ids as usize, "after {begin}");
    }
}

#[test]
fn steps_are_bounded() {
    // One class, so that its segments are far larger than a step.
    let tested = Tested::new();
    let ids = 200_000;
    for n in 0..ids {
        let id = TestId::Word(NonZeroU64::MIN.saturating_add(n));
        assert_eq!(tested.insert(&id, pid(n)), Ok(()));
    }
    let mut all = 0;
    let mut next = Some(Cursor::START);
    while let Some(cursor) = next {
        let (met, on) = tested.step(cursor, 40);
        assert!(met.len() < 40 + 40, "{} in one step", met.len());
        all += met.len() as u64;
        next = on;
    }
    assert_eq!(all, ids);
}

#[test]
fn steps_are_bounded_in_words_too() {
    const WORDS: usize = 10_000;
    let tested = Tested::new();
    let ids = 150;
    for n in 0..ids {
        assert_eq!(tested.insert(&TestId::very_wide(n, WORDS), pid(n)), Ok(()));
        // Others that share their segments.
        let small = TestId::Words(2, vec![n, n]);
        assert_eq!(tested.insert(&small, pid(ids + n)), Ok(()));
    }
    for (limit, most) in [(1, 1), (500, 1), (WORDS, 6), (usize::MAX, ids as usize)] {
        let (mut met, mut next) = (Vec::new(), Some(Cursor::START));
        while let Some(cursor) = next {
            let (step, on) = tested.step(cursor, limit);
            let is_wide = |(id, _): &&(TestId, Pid)| matches!(id, TestId::Words(0, _));
            let wide = step.iter().filter(is_wide).count();
            assert!(wide <= most, "{wide} in a step of {limit} slots");
            met.extend(step);
            next = on;
        }
        let ids: HashSet<_> = met.iter().map(|(id, _)| id).collect();
        assert_eq!((met.len(), ids.len()), (300, 300));
    }
}

#[test]
fn changes_between_steps_disturb_nothing() {
    const STAY: u64 = 3_000;
    const ALL: u64 = 40_000;
    for round in 0..4 * stress() {
        let tested = full(STAY);
        let mut rng = Rng::new(round);
        let limit = 20 + rng.below(200) as usize;
        let life = Cell::new(0_u64);
        let met = tested.scan_from(Cursor::START, limit, || {
            // It grows for a while, then shrinks for a while.
            let grows = (life.get() / 20_000).is_multiple_of(2);
            for _ in 0..100 {
                life.set(life.get() + 1);
                let n = STAY + rng.below(ALL - STAY);
                let id = TestId::nth(n);
                match tested.get(&id) {
                    Some(pid) if !grows || rng.below(4) == 0 => assert!(tested.remove(pid)),
                    None if grows || rng.below(4) == 0 => {
                        assert_eq!(tested.insert(&id, pid_of(n, life.get())), Ok(()));
                    }
                    _ => (),
                }
            }
        });
        assert_once(met, STAY);
    }
}

#[test]
fn changes_during_steps_disturb_nothing() {
    const STAY: u64 = 2_000;
    const ALL: u64 = 20_000;
    let tested = full(STAY);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for life in 0..4 * stress() {
                for n in STAY..ALL {
                    assert_eq!(tested.insert(&TestId::nth(n), pid_of(n, life)), Ok(()));
                }
                for n in STAY..ALL {
                    assert!(tested.remove(pid_of(n, life)));
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut rng = Rng::new(2);
        while !done.load(Ordering::Acquire) {
            let limit = 1 + rng.below(200) as usize;
            assert_once(tested.scan_all(limit), STAY);
        }
    });
}

#[test]
fn what_is_met_may_be_removed_at_once() {
    let ids = 5_000;
    let tested = full(ids);
    let mut next = Some(Cursor::START);
    let mut met = 0;
    while let Some(cursor) = next {
        next = tested.scan(cursor, 50, |_, pid| {
            assert!(tested.remove(pid));
            met += 1;
        });
    }
    assert_eq!(met, ids);
    assert!(tested.is_drained());
}

#[test]
fn cursors_are_numbers() {
    let tested = full(5_000);
    assert_eq!(Cursor::START, Cursor::from_bits(Cursor::START.to_bits()));
    let mut next = Some(Cursor::START);
    while let Some(cursor) = next {
        assert!(cursor.to_bits() < 1 << 60);
        assert_eq!(Cursor::from_bits(cursor.to_bits()), cursor);
        next = tested.step(cursor, 30).1;
    }
}

#[test]
fn no_cursor_does_harm() {
    let tested = full(5_000);
    let pids: HashMap<_, _> = tested.scan_all(100).into_iter().collect();
    let mut rng = Rng::new(3);
    let random = (0..25).map(|_| rng.bits() >> (rng.bits() % 8));
    for bits in random.chain([u64::MAX, 1 << 60, (1 << 60) - 1, 1 << 58, 1, 63]) {
        for limit in [50, usize::MAX] {
            let met = tested.scan_from(Cursor::from_bits(bits), limit, || ());
            assert!(met.iter().all(|(id, pid)| pids.get(id) == Some(pid)));
            assert_once(met, 0);
        }
    }
}
