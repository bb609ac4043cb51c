//! The work of a call, as the VM's scheduler counts it.

use std::cell::Cell;
use std::time::Instant;

use rustler::Env;
use rustler::schedule::consume_timeslice;

/// How many nanoseconds are a percent of a time slice, the least that the VM counts.
const PERCENT: usize = 10_000;

/// What takes less than so many nanoseconds is not counted: counting would be a good part of it.
const LEAST: usize = 1_000;

// About how many nanoseconds the parts of an id take.

/// A term, to look at.
pub const TERM: usize = 16;
/// A term that is no immediate, besides that.
pub const BOXED: usize = 48;
/// A pair of a map, besides its two terms: to iterate, and to sort.
pub const PAIR: usize = 64;
/// A word of the library's own, to write, hash and compare.
pub const WORD: usize = 2;
/// A word for the VM to hash, compare or make.
pub const VM_WORD: usize = 10;

/// Counts work of so many nanoseconds as the calling process's, lest a loop of calls keeps its
/// scheduler.
///
/// A percent of a time slice is more than most calls take. So each scheduler collects what there is
/// until it is one, and whoever calls then pays for it.
#[inline]
pub fn charge(env: Env<'_>, nanoseconds: usize) {
    if nanoseconds >= LEAST {
        collect(env, nanoseconds);
    }
}

/// Changes a table, and counts the time that this takes: now and then a part of it grows or shrinks, as all
/// parts do at about the same time, and that takes some hundred times as long.
pub fn timed<R>(env: Env<'_>, change: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let changed = change();
    charge(
        env,
        usize::try_from(begun.elapsed().as_nanos()).unwrap_or(usize::MAX),
    );
    changed
}

/// As [`charge`], of work of any size: for what one call may do often.
#[cold]
pub fn collect(env: Env<'_>, nanoseconds: usize) {
    thread_local! {
        static OWED: Cell<usize> = const { Cell::new(0) };
    }
    let owed = OWED.get() + nanoseconds;
    OWED.set(owed % PERCENT);
    let percent = owed / PERCENT;
    if percent > 0 {
        consume_timeslice(env, percent.min(100) as i32);
    }
}
