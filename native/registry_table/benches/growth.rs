//! The slowest single insertion, step of a scan and removal among very many, in the thread's CPU
//! time: how long one call would hold up a scheduler of the VM.
//!
//! `cargo bench --bench growth -- RIVAL SHAPE ENTRIES` prints lines of `what<TAB>nanoseconds`.

mod shapes;

use std::hint::black_box;

use dashmap::DashMap;
use registry_table::{Cursor, Table, Worker, reclaim};
use shapes::{INTEGER, Never, Shape, UUID, id, pid};

/// How many slots one step of the NIF's scan passes.
const STEP: usize = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["GenRegistry", "integer", entries, ..] => ours(&INTEGER, number(entries)),
        ["GenRegistry", "UUID", entries, ..] => ours(&UUID, number(entries)),
        ["DashMap", "integer", entries, ..] => dash_map(&INTEGER, number(entries)),
        ["DashMap", "UUID", entries, ..] => dash_map(&UUID, number(entries)),
        // Who runs all benchmarks at once, with other arguments, does not mean this one.
        _ => {}
    }
}

fn number(argument: &str) -> u64 {
    argument.parse().expect("a number of entries")
}

fn ours<const WORDS: usize>(shape: &Shape<WORDS>, entries: u64) {
    std::thread::spawn(|| reclaim(|| ()));
    let table = Table::<Never>::new();
    report("slowest insert", 0..entries, |n| {
        let worker = Worker {
            pid: pid(n),
            parent: None,
        };
        let words = (shape.make)(n);
        table
            .insert(&id(shape.tag, &words), worker)
            .expect("a new one");
    });

    let mut met = 0;
    let mut cursor = Some(Cursor::START);
    let mut slowest = 0;
    while let Some(from) = cursor {
        let begun = cpu_time();
        cursor = table.scan(from, STEP, |id, pid| {
            black_box((id, pid));
            met += 1;
        });
        slowest = slowest.max(cpu_time() - begun);
    }
    assert_eq!(met, entries);
    println!("slowest step of a scan\t{slowest}");

    report("slowest removal", 0..entries, |n| {
        assert!(table.remove(pid(n)));
    });
}

fn dash_map<const WORDS: usize>(shape: &Shape<WORDS>, entries: u64) {
    let map = DashMap::new();
    report("slowest insert", 0..entries, |n| {
        map.insert((shape.make)(n), pid(n));
    });
    report("slowest removal", 0..entries, |n| {
        map.remove(&(shape.make)(n)).expect("it is there");
    });
}

/// Runs `call` with each number, and prints what the slowest took.
fn report(what: &str, numbers: std::ops::Range<u64>, call: impl Fn(u64)) {
    let mut slowest = 0;
    let mut begun = cpu_time();
    for n in numbers {
        call(n);
        let ended = cpu_time();
        slowest = slowest.max(ended - begun);
        begun = ended;
    }
    println!("{what}\t{slowest}");
}

/// Nanoseconds that this thread has had a processor for.
fn cpu_time() -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it writes into `time`, and only fails for clocks that there are not.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
