//! Samples are entries, each as likely as the others.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Rng, TestId, Tested, assert_belongs, pid, pid_of, stress};

#[test]
fn there_is_none_of_nothing() {
    let tested = Tested::new();
    assert_eq!(tested.sample(), None);
    assert_eq!(tested.insert(&TestId::nth(0), pid(0)), Ok(()));
    assert_eq!(tested.sample(), Some((TestId::nth(0), pid(0))));
    assert!(tested.remove(pid(0)));
    assert_eq!(tested.sample(), None);
}

/// Asserts that nothing is drawn much more or less often than the rest.
fn assert_uniform(tested: &Tested, draws_each: usize) {
    let entries = tested.count();
    let mut drawn = HashMap::new();
    for _ in 0..entries * draws_each {
        *drawn.entry(tested.sample()).or_insert(0_u32) += 1;
    }
    assert!(!drawn.contains_key(&None));
    let expected = draws_each as f64;
    let never = (entries - drawn.len()) as f64 * expected;
    let off = |&times: &u32| (f64::from(times) - expected).powi(2) / expected;
    let chi_square = never + drawn.values().map(off).sum::<f64>();
    // It is about `freedom`, and more than seven deviations above that never.
    let freedom = (entries - 1) as f64;
    let bound = freedom + 7.0 * (2.0 * freedom).sqrt();
    assert!(chi_square < bound, "{chi_square} for {freedom}");
}

#[test]
fn all_are_as_likely() {
    let tested = Tested::new();
    for n in 0..480 {
        assert_eq!(tested.insert(&TestId::nth(n), pid(n)), Ok(()));
    }
    assert_uniform(&tested, 50);
    // Only some are left, of some forms more than of others.
    for n in 0..480 {
        assert!(n % 5 > 0 && n % 12 > 3 || tested.remove(pid(n)));
    }
    assert_uniform(&tested, 50);
}

#[test]
fn all_are_as_likely_where_they_crowd() {
    let tested = Tested::new();
    // Opaque ids that share hashes, so that many are in one place; then some of them leave.
    for n in 0..300 {
        let id = TestId::Opaque(n / 60 * 12 * 1_000 + n % 4 + n % 60 / 4 * 48);
        assert_eq!(tested.insert(&id, pid(n)), Ok(()));
    }
    for n in (0..300).filter(|n| n % 3 > 0) {
        assert!(tested.remove(pid(n)));
    }
    assert_uniform(&tested, 100);
}

#[test]
fn what_comes_and_goes_is_drawn_whole() {
    const STAY: u64 = 100;
    let tested = Tested::new();
    for n in 0..STAY {
        assert_eq!(tested.insert(&TestId::nth(n), pid_of(n, 0)), Ok(()));
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Rng::new(1);
            for life in 0..60_000 * stress() {
                let n = STAY + rng.below(200);
                let id = TestId::nth(n);
                match tested.get(&id) {
                    Some(pid) => assert!(tested.remove(pid)),
                    None => assert_eq!(tested.insert(&id, pid_of(n, life)), Ok(())),
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let (id, pid) = tested.sample().expect("most of them stay");
            assert_belongs(&id, pid);
        }
    });
}
