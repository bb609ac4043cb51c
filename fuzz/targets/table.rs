//! Any sequence of operations on a table: every answer must be the one that plain maps give.

#![no_main]

#[path = "../../native/registry_table/tests/common/mod.rs"]
mod common;

use common::operations::{Model, Operation};
use common::{Rng, Tested};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [start, width, seed, before, operations @ ..] = bytes else {
        return;
    };
    let (tested, mut model) = match start % 8 {
        children @ 0..4 => {
            let children = usize::from(children);
            (Tested::bounded(children), Model::bounded(children))
        }
        _ => (Tested::new(), Model::default()),
    };
    // Few that meet often, or many that fill segments.
    let ids = [8, 43, 60, 1_000][usize::from(width % 4)];
    let pids = [6, 30, 800][usize::from(width / 4 % 3)];
    // So that short inputs too come to a table in which there is something.
    let mut rng = Rng::new(u64::from(*seed));
    for _ in 0..2 * u64::from(*before) {
        let operation = Operation::draw(|bound| rng.below(bound), ids, pids, 60);
        model.step(&tested, &operation);
    }
    let mut rest = operations.iter();
    while rest.len() > 0 {
        let below = |bound| {
            let mut next = || u64::from(rest.next().copied().unwrap_or(0));
            let few = next();
            (if bound > 256 { few << 8 | next() } else { few }) % bound
        };
        model.step(&tested, &Operation::draw(below, ids, pids, 60));
    }
    let from = u64::from(*start) << 52;
    model.step(&tested, &Operation::Scan(from, usize::from(*width)));
    model.check(&tested);
    tested.drop_without_leak();
});
