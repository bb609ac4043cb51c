//! Random operations on a table and on plain maps: every answer must be the same.
//!
//! What a sequence is made of, and what has to come of it, is in `common/operations.rs`. A sequence
//! that fails is made as short and simple as it can be, and printed. `PROPTEST_CASES` says how many
//! of them there are.

mod common;

use std::cell::Cell;

use common::operations::{Model, Operation, Parent};
use common::{Rng, Tested, stress};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::test_runner::{TestError, TestRunner};

/// Few enough that they meet, mostly.
fn ids() -> impl Strategy<Value = u64> {
    prop_oneof![5 => 0..8_u64, 4 => 0..43_u64, 1 => 43..400_u64]
}

fn pids() -> impl Strategy<Value = u64> {
    prop_oneof![5 => 0..5_u64, 4 => 0..20_u64, 1 => 20..200_u64]
}

fn parents() -> impl Strategy<Value = Parent> {
    prop_oneof![
        2 => Just(Parent::Nobody),
        2 => Just(Parent::Itself),
        3 => pids().prop_map(Parent::Process),
    ]
}

fn room() -> impl Strategy<Value = Option<usize>> {
    option::of(0..6_usize)
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        30 => (ids(), pids(), parents())
            .prop_map(|(id, pid, parent)| Operation::Insert(id, pid, parent)),
        8 => ids().prop_map(Operation::Retire),
        8 => ids().prop_map(Operation::Release),
        6 => (pids(), parents()).prop_map(|(pid, parent)| Operation::Track(pid, parent)),
        4 => (pids(), parents()).prop_map(|(pid, parent)| Operation::Refuse(pid, parent)),
        20 => pids().prop_map(Operation::Remove),
        5 => ids().prop_map(Operation::Get),
        2 => vec(ids(), 0..70).prop_map(Operation::GetMany),
        8 => pids().prop_map(Operation::AskPid),
        3 => Just(Operation::Sample),
        2 => (any::<u64>(), 0..100_usize).prop_map(|(from, limit)| Operation::Scan(from, limit)),
        8 => (pids(), 0..3_usize)
            .prop_map(|(pid, others)| Operation::Promise(pid, others)),
        4 => pids().prop_map(Operation::GiveBack),
        1 => Just(Operation::Collect),
        2 => Just(Operation::Check),
    ]
}

#[test]
fn any_sequence_answers_as_plain_maps_do() {
    let (cases, done) = (Cell::new(0), Cell::new(0));
    // What fails is in the output, and a test of its own is made of it.
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    });
    let sequences = (room(), vec(operations(), 0..200));
    let result = runner.run(&sequences, |(children, operations)| {
        let (tested, mut model) = match children {
            Some(children) => (Tested::bounded(children), Model::bounded(children)),
            None => (Tested::new(), Model::default()),
        };
        for operation in &operations {
            model.step(&tested, operation);
        }
        model.check(&tested);
        tested.drop_without_leak();
        cases.set(cases.get() + 1);
        done.set(done.get() + operations.len());
        Ok(())
    });
    match result {
        Err(TestError::Fail(why, (children, operations))) => {
            panic!("{why}, with room for {children:?}: {operations:?}")
        }
        other => other.expect("no sequence is refused"),
    }
    println!("model: {} cases, {} operations", cases.get(), done.get());
}

/// One long sequence, in which the table grows, churns and shrinks, several times over.
fn run(ids: u64, pids: u64, steps: u64) {
    let (tested, mut model) = (Tested::new(), Model::default());
    let mut rng = Rng::new(ids);
    for growth in [80, 43, 10, 70, 20].repeat(2) {
        for _ in 0..steps * stress() / 10 {
            let operation = Operation::draw(|bound| rng.below(bound), ids, pids, growth);
            model.step(&tested, &operation);
        }
        model.check(&tested);
    }
    tested.drop_without_leak();
}

#[test]
fn few_ids() {
    run(60, 30, 40_000);
}

#[test]
fn many_ids() {
    run(3_000, 2_500, 80_000);
}

#[test]
fn enough_ids_to_fill_every_shard() {
    run(50_000, 40_000, 250_000);
}
