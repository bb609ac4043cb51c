//! Which ids are the same and which are not.

mod common;

use std::collections::HashSet;

use common::{TestId, Tested, pid};
use registry_table::Conflict;

#[test]
fn numbers_make_different_ids_of_every_form() {
    let ids: HashSet<_> = (0..10_000).map(TestId::nth).collect();
    assert_eq!(ids.len(), 10_000, "or the other tests would mean little");
    for length in 0..10 {
        let words = |id: &TestId| matches!(id, TestId::Words(_, words) if words.len() == length);
        assert!(ids.iter().any(words), "{length} words");
    }
}

#[test]
fn every_form_is_found_under_itself_only() {
    let ids: Vec<_> = (0..4 * TestId::FORMS).map(TestId::nth).collect();
    let tested = Tested::new();
    for (n, id) in (0..).zip(&ids) {
        assert_eq!(tested.get(id), None, "{id:?} is not there yet");
        assert_eq!(tested.insert(id, pid(n)), Ok(()));
        assert_eq!(tested.get(id), Some(pid(n)), "{id:?}");
    }
    for (n, id) in (0..).zip(&ids) {
        let taken = tested.insert(id, pid(1_000 + n));
        assert_eq!(taken, Err(Conflict::IdTaken(pid(n))), "{id:?}");
    }
    for (n, id) in (0..).zip(&ids) {
        assert!(tested.remove(pid(n)));
        assert_eq!(tested.get(id), None, "{id:?} is gone");
    }
    assert_eq!(tested.count(), 0);
}

#[test]
fn shapes_tell_equal_words_apart() {
    for length in 0..10 {
        let tested = Tested::new();
        let ids = (0..=25).map(|tens| TestId::Words(tens * 10 + length, vec![7; length.into()]));
        let ids: Vec<_> = ids.take(if length > 5 { 25 } else { 26 }).collect();
        for (n, id) in (0..).zip(&ids) {
            assert_eq!(tested.insert(id, pid(n)), Ok(()));
        }
        for (n, id) in (0..).zip(&ids) {
            assert_eq!(tested.get(id), Some(pid(n)), "{id:?}");
        }
        let met: HashSet<_> = tested.scan_all(100).into_iter().map(|(id, _)| id).collect();
        assert_eq!(met, ids.into_iter().collect());
    }
}

#[test]
fn words_may_be_anything() {
    let tested = Tested::new();
    let ids = (1..10_u8).flat_map(|length| {
        [0, 1, 0x200, u64::MAX].map(|word| TestId::Words(length, vec![word; length.into()]))
    });
    let ids: Vec<_> = ids.collect();
    for (n, id) in (0..).zip(&ids) {
        assert_eq!(tested.insert(id, pid(n)), Ok(()), "{id:?}");
    }
    for (n, id) in (0..).zip(&ids) {
        assert_eq!(tested.get(id), Some(pid(n)), "{id:?}");
    }
    assert_eq!(tested.scan_all(7).len(), ids.len());
}
