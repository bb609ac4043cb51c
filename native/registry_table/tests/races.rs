//! Threads that meet on ids and pids.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{scope, yield_now};

use common::{Rng, TestId, Tested, assert_belongs, orphan, pid, pid_of, stress};
use registry_table::{Conflict, Pid};

/// Runs both in every round, as much at once as can be, and answers what they answered.
fn race<A: Send, B: Send>(
    rounds: u64,
    one: impl Fn(u64) -> A + Sync,
    other: impl Fn(u64) -> B + Sync,
) -> Vec<(A, B)> {
    /// Lets the other side go on alone, also if this one panics.
    struct Leave<'a>(&'a AtomicU64);

    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            self.0.store(u64::MAX / 2, Ordering::Release);
        }
    }

    let arrived = AtomicU64::new(0);
    let meet = |round| {
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < 2 * (round + 1) {
            yield_now();
        }
    };
    scope(|scope| {
        let others = scope.spawn(|| {
            let _leave = Leave(&arrived);
            let round = |n| (meet(n), other(n)).1;
            (0..rounds).map(round).collect::<Vec<_>>()
        });
        let _leave = Leave(&arrived);
        let round = |n| (meet(n), one(n)).1;
        let ones: Vec<_> = (0..rounds).map(round).collect();
        let others = others.join().expect("it says why itself");
        ones.into_iter().zip(others).collect()
    })
}

fn id(n: u64) -> TestId {
    TestId::nth(n)
}

/// A table with the first ids, each with the pid of its number.
fn full(ids: u64) -> Tested {
    let tested = Tested::new();
    for n in 0..ids {
        assert_eq!(tested.insert(&id(n), pid(n)), Ok(()));
    }
    tested
}

fn assert_empty(tested: &Tested) {
    assert_eq!(tested.count(), 0);
    assert_eq!(tested.processes(), []);
    assert_eq!(tested.scan_all(1_000), []);
    assert!(tested.is_drained());
}

#[test]
fn readers_meet_only_what_was_inserted() {
    const IDS: u64 = 600;
    let tested = Tested::new();
    let writing = AtomicU64::new(2);
    scope(|scope| {
        for writer in 0..2 {
            let (tested, writing) = (&tested, &writing);
            scope.spawn(move || {
                let mut rng = Rng::new(writer);
                for life in 0..20_000 * stress() {
                    // Every id has one writer, who so knows all about it.
                    let n = rng.below(IDS / 2) * 2 + writer;
                    let id = id(n);
                    match tested.get(&id) {
                        None => assert_eq!(tested.insert(&id, pid_of(n, life)), Ok(())),
                        Some(pid) => {
                            assert_belongs(&id, pid);
                            assert!(rng.below(2) > 0 || tested.retire(&id).is_some());
                            assert!(tested.remove(pid));
                            assert_eq!(tested.get(&id), None);
                        }
                    }
                }
                writing.fetch_sub(1, Ordering::Release);
            });
        }
        let mut rng = Rng::new(9);
        while writing.load(Ordering::Acquire) > 0 {
            let id = id(rng.below(IDS));
            if let Some(pid) = tested.get(&id) {
                assert_belongs(&id, pid);
            }
        }
    });
    let there = (0..IDS).filter(|&n| tested.get(&id(n)).is_some()).count();
    assert_eq!(tested.count(), there);
    assert_eq!(tested.scan_all(100).len(), there);
    assert_eq!(tested.processes().len(), there);
    tested.drop_without_leak();
}

#[test]
fn who_hears_of_a_change_sees_it() {
    const IDS: u64 = 20_000;
    let tested = Tested::new();
    let (inserted, removed) = (AtomicU64::new(0), AtomicU64::new(0));
    scope(|scope| {
        scope.spawn(|| {
            for n in 0..IDS {
                assert_eq!(tested.insert(&id(n), pid(n)), Ok(()));
                inserted.store(n + 1, Ordering::Release);
                if let Some(old) = n.checked_sub(1_000) {
                    assert!(tested.remove(pid(old)));
                    removed.store(old + 1, Ordering::Release);
                }
            }
        });
        let mut rng = Rng::new(1);
        loop {
            let there = inserted.load(Ordering::Acquire);
            let gone = removed.load(Ordering::Acquire);
            // The newest, the one that went last, and any other that is gone.
            let newest = there.checked_sub(1).map(|n| tested.get(&id(n)));
            assert!(newest != Some(None) || removed.load(Ordering::Acquire) >= there);
            for n in [gone.saturating_sub(1), rng.below(gone.max(1))] {
                assert!(gone == 0 || tested.get(&id(n)).is_none(), "{n} was removed");
            }
            if there == IDS {
                break;
            }
        }
    });
}

#[test]
fn one_of_two_insertions_of_an_id_wins() {
    let rounds = 3_000 * stress();
    let tested = Tested::new();
    let insert = |n, by| tested.insert(&id(n), pid(2 * n + by));
    let answers = race(rounds, |n| insert(n, 0), |n| insert(n, 1));
    for (n, answer) in (0..).zip(answers) {
        let winner = match answer {
            (Ok(()), Err(Conflict::IdTaken(winner))) if winner == pid(2 * n) => winner,
            (Err(Conflict::IdTaken(winner)), Ok(())) if winner == pid(2 * n + 1) => winner,
            _ => panic!("{answer:?} for {n}"),
        };
        assert_eq!(tested.get(&id(n)), Some(winner));
    }
    assert_eq!(tested.count(), rounds as usize);
    assert_eq!(tested.processes().len(), rounds as usize);
}

#[test]
fn one_of_two_insertions_of_a_pid_wins() {
    let rounds = 3_000 * stress();
    let tested = Tested::new();
    let insert = |n, by| tested.insert(&id(2 * n + by), pid(n));
    let answers = race(rounds, |n| insert(n, 0), |n| insert(n, 1));
    for answer in answers {
        let (won, lost) = (Ok(()), Err(Conflict::PidTaken));
        assert!(answer == (won, lost) || answer == (lost, won), "{answer:?}");
    }
    assert_eq!(tested.count(), rounds as usize);
}

#[test]
fn one_of_two_removals_wins_and_both_end_with_it_gone() {
    let rounds = 5_000 * stress();
    let tested = full(rounds);
    let remove = |n| (tested.remove(pid(n)), tested.get(&id(n)));
    for answer in race(rounds, remove, remove) {
        assert!(
            matches!(answer, ((a, None), (b, None)) if a != b),
            "{answer:?}"
        );
    }
    assert_empty(&tested);
    tested.drop_without_leak();
}

#[test]
fn one_of_two_retirements_wins() {
    let rounds = 5_000 * stress();
    let tested = full(rounds);
    let retire = |n| (tested.retire(&id(n)), tested.get(&id(n)));
    for (n, answer) in (0..).zip(race(rounds, retire, retire)) {
        let won = (Some(orphan(pid(n))), None);
        let lost = (None, None);
        assert!(answer == (won, lost) || answer == (lost, won), "{answer:?}");
    }
    assert_eq!(tested.count(), 0);
    assert_eq!(tested.processes().len(), rounds as usize);
    (0..rounds).for_each(|n| assert!(tested.remove(pid(n))));
    assert_empty(&tested);
}

#[test]
fn a_retirement_beside_a_removal_ends_with_it_gone() {
    let rounds = 5_000 * stress();
    let tested = full(rounds);
    let retire = |n| (tested.retire(&id(n)), tested.get(&id(n)));
    let answers = race(rounds, |n| tested.remove(pid(n)), retire);
    for (n, (removed, (retired, seen))) in (0..).zip(answers) {
        assert!(removed, "it was known, retired or not");
        assert!(retired.is_none_or(|worker| worker.pid == pid(n)));
        assert_eq!(seen, None, "{n} after {retired:?}");
    }
    assert_empty(&tested);
    tested.drop_without_leak();
}

#[test]
fn a_process_that_ends_has_its_id_throughout() {
    let rounds = 20_000 * stress();
    let tested = full(rounds);
    let end = |n| {
        assert!(n % 2 > 0 || tested.retire(&id(n)).is_some());
        assert!(tested.remove(pid(n)));
    };
    // As those ask who cannot know whether it has ended.
    let ask = |n| {
        let ask = || tested.id_of(pid(n)).or_else(|| tested.last_id_of(pid(n)));
        [(); 4].map(|()| ask())
    };
    for (n, (_, answers)) in (0..).zip(race(rounds, end, ask)) {
        assert_eq!(answers, [(); 4].map(|()| Some(id(n))));
    }
    assert_empty(&tested);
    tested.drop_without_leak();
}

#[test]
fn a_removal_right_after_the_insertion_finds_all_of_it() {
    let rounds = 5_000 * stress();
    let tested = Tested::new();
    let insert = |n| tested.insert(&id(n), pid(n));
    let remove = |n| {
        while !tested.remove(pid(n)) {
            yield_now();
        }
        tested.get(&id(n))
    };
    for answer in race(rounds, insert, remove) {
        assert_eq!(answer, (Ok(()), None));
    }
    assert_empty(&tested);
    tested.drop_without_leak();
}

#[test]
fn a_table_is_not_drained_while_one_process_stays() {
    let rounds = 5_000 * stress();
    let tested = Tested::new();
    assert!(tested.track(orphan(pid(rounds))));
    let track = |n| tested.track(orphan(pid(n)));
    let remove = |n| {
        for tries in 1.. {
            if tested.remove(pid(n)) {
                break;
            }
            if tries % 1_000 == 0 {
                yield_now();
            }
        }
        tested.is_drained()
    };
    for answer in race(rounds, track, remove) {
        assert_eq!(answer, (true, false));
    }
    assert!(tested.remove(pid(rounds)));
    assert_empty(&tested);
}

/// One pid that goes from id to id while others remove and retire it.
#[test]
fn a_pid_may_come_back_under_another_id() {
    const IDS: u64 = 48;
    let tested = Tested::new();
    let busy = |seed| {
        let tested = &tested;
        move || {
            let mut rng = Rng::new(seed);
            for _ in 0..30_000 * stress() {
                let id = id(rng.below(IDS));
                let _ = match rng.below(4) {
                    0 | 1 => tested.insert(&id, pid(0)).is_ok(),
                    2 => tested.remove(pid(0)),
                    _ => tested.retire(&id).is_some(),
                };
            }
        }
    };
    scope(|scope| {
        for seed in 0..3 {
            scope.spawn(busy(seed));
        }
    });
    tested.remove(pid(0));
    for n in 0..IDS {
        assert_eq!(tested.get(&id(n)), None, "{n} has a pid that nobody knows");
    }
    assert_empty(&tested);
    tested.drop_without_leak();
}

#[test]
fn the_count_is_right_when_all_is_quiet() {
    const PIDS: u64 = 300;
    let tested = Tested::new();
    for round in 0..5 {
        scope(|scope| {
            for writer in 0..3 {
                let tested = &tested;
                scope.spawn(move || {
                    let mut rng = Rng::new(round * 10 + writer);
                    for _ in 0..5_000 * stress() {
                        let (id, pid) = (id(rng.below(200)), pid(rng.below(PIDS)));
                        let _ = match rng.below(5) {
                            0..3 => tested.insert(&id, pid).is_ok(),
                            3 => tested.remove(pid),
                            _ => tested.retire(&id).is_some(),
                        };
                    }
                });
            }
        });
        let there: Vec<Pid> = (0..200).filter_map(|n| tested.get(&id(n))).collect();
        assert_eq!(tested.count(), there.len());
        assert_eq!(tested.scan_all(50).len(), there.len());
        let known: Vec<Pid> = tested.processes().iter().map(|known| known.pid).collect();
        assert!(there.iter().all(|pid| known.contains(pid)));
    }
    for n in 0..PIDS {
        tested.remove(pid(n));
    }
    assert_empty(&tested);
}
