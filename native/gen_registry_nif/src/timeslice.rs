//! The work of a call, as the VM's scheduler counts it.

use std::cell::Cell;

use rustler::Env;
use rustler::schedule::consume_timeslice;

/// How many words take some ten microseconds, which is a percent of a time slice.
const PERCENT: usize = 256;

/// Counts work on so many words as the calling process's, lest a loop of calls keeps its scheduler.
///
/// The VM counts in percent of a time slice, which is far more than most calls take. So each scheduler
/// collects what there is until it is a percent, and whoever calls then pays for it.
pub fn charge(env: Env<'_>, words: usize) {
    thread_local! {
        static OWED: Cell<usize> = const { Cell::new(0) };
    }
    let owed = OWED.get() + words;
    OWED.set(owed % PERCENT);
    let percent = owed / PERCENT;
    if percent > 0 {
        consume_timeslice(env, percent.min(100) as i32);
    }
}
