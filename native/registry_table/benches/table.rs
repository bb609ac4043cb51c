//! The table alone beside other concurrent maps: every shape of id, the same hasher for all others.

mod shapes;

use std::collections::HashMap;
use std::hash::Hash;
use std::hint::black_box;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use foldhash::fast::RandomState;
use registry_table::{Cursor, Pid, Table, Worker, pin, reclaim};
use scc::HashIndex;
use shapes::*;

/// What the maps are asked to do. Ours knows its entries by pid too, and removes them by it.
trait Rival<const WORDS: usize> {
    const NAME: &'static str;

    fn new(tag: u8) -> Self;
    fn get(&self, words: &[u64; WORDS]) -> Option<Pid>;
    fn insert(&self, words: [u64; WORDS], pid: Pid);
    fn remove(&self, words: &[u64; WORDS], pid: Pid);
    /// Answers something that depends on every pid.
    fn scan(&self) -> u64;
}

struct Ours {
    table: Table<Never>,
    tag: u8,
}

impl<const WORDS: usize> Rival<WORDS> for Ours {
    const NAME: &'static str = "GenRegistry";

    fn new(tag: u8) -> Self {
        static RECLAIMED: Once = Once::new();
        RECLAIMED.call_once(|| {
            std::thread::spawn(|| reclaim(|| ()));
        });
        let table = Table::new();
        Self { table, tag }
    }

    fn get(&self, words: &[u64; WORDS]) -> Option<Pid> {
        self.table.get(&id(self.tag, words), &pin())
    }

    fn insert(&self, words: [u64; WORDS], pid: Pid) {
        let worker = Worker { pid, parent: None };
        let inserted = self.table.insert(&id(self.tag, &words), worker);
        inserted.expect("a new one");
    }

    fn remove(&self, _words: &[u64; WORDS], pid: Pid) {
        assert!(self.table.remove(pid));
    }

    fn scan(&self) -> u64 {
        let mut all = 0;
        let mut cursor = Some(Cursor::START);
        while let Some(from) = cursor {
            cursor = self.table.scan(from, 500, |_, pid| all ^= pid.word());
        }
        all
    }
}

type Dash<K> = DashMap<K, Pid, RandomState>;
type Papaya<K> = papaya::HashMap<K, Pid, RandomState>;
type Scc<K> = HashIndex<K, Pid, RandomState>;
type Mutexed<K> = Mutex<HashMap<K, Pid, RandomState>>;

impl<const WORDS: usize> Rival<WORDS> for Dash<[u64; WORDS]>
where
    [u64; WORDS]: Hash,
{
    const NAME: &'static str = "DashMap";

    fn new(_tag: u8) -> Self {
        Self::default()
    }

    fn get(&self, words: &[u64; WORDS]) -> Option<Pid> {
        self.get(words).map(|pid| *pid)
    }

    fn insert(&self, words: [u64; WORDS], pid: Pid) {
        self.insert(words, pid);
    }

    fn remove(&self, words: &[u64; WORDS], _pid: Pid) {
        self.remove(words);
    }

    fn scan(&self) -> u64 {
        self.iter().fold(0, |all, entry| all ^ entry.word())
    }
}

impl<const WORDS: usize> Rival<WORDS> for Papaya<[u64; WORDS]> {
    const NAME: &'static str = "papaya";

    fn new(_tag: u8) -> Self {
        Self::default()
    }

    fn get(&self, words: &[u64; WORDS]) -> Option<Pid> {
        self.pin().get(words).copied()
    }

    fn insert(&self, words: [u64; WORDS], pid: Pid) {
        self.pin().insert(words, pid);
    }

    fn remove(&self, words: &[u64; WORDS], _pid: Pid) {
        self.pin().remove(words);
    }

    fn scan(&self) -> u64 {
        self.pin().iter().fold(0, |all, (_, pid)| all ^ pid.word())
    }
}

impl<const WORDS: usize> Rival<WORDS> for Scc<[u64; WORDS]> {
    const NAME: &'static str = "scc HashIndex";

    fn new(_tag: u8) -> Self {
        Self::default()
    }

    fn get(&self, words: &[u64; WORDS]) -> Option<Pid> {
        self.peek_with(words, |_, pid| *pid)
    }

    fn insert(&self, words: [u64; WORDS], pid: Pid) {
        self.insert_sync(words, pid).expect("a new one");
    }

    fn remove(&self, words: &[u64; WORDS], _pid: Pid) {
        assert!(self.remove_sync(words));
    }

    fn scan(&self) -> u64 {
        let guard = scc::Guard::new();
        self.iter(&guard).fold(0, |all, (_, pid)| all ^ pid.word())
    }
}

impl<const WORDS: usize> Rival<WORDS> for Mutexed<[u64; WORDS]> {
    const NAME: &'static str = "Mutex<HashMap>";

    fn new(_tag: u8) -> Self {
        Self::default()
    }

    fn get(&self, words: &[u64; WORDS]) -> Option<Pid> {
        self.lock().expect("no panics").get(words).copied()
    }

    fn insert(&self, words: [u64; WORDS], pid: Pid) {
        self.lock().expect("no panics").insert(words, pid);
    }

    fn remove(&self, words: &[u64; WORDS], _pid: Pid) {
        self.lock().expect("no panics").remove(words);
    }

    fn scan(&self) -> u64 {
        let map = self.lock().expect("no panics");
        map.values().fold(0, |all, pid| all ^ pid.word())
    }
}

const FEW: u64 = 1_000;
const MANY: u64 = 1_000_000;
/// The entries of a table that is inserted into, removed from and scanned.
const SOME: u64 = 100_000;

fn filled<const WORDS: usize, R: Rival<WORDS>>(shape: &Shape<WORDS>, entries: u64) -> R {
    let map = R::new(shape.tag);
    for n in 0..entries {
        map.insert((shape.make)(n), pid(n));
    }
    map
}

fn rival<const WORDS: usize, R: Rival<WORDS>>(criterion: &mut Criterion, shape: &Shape<WORDS>) {
    let what = || BenchmarkId::new(R::NAME, shape.name);

    for (name, entries) in [
        ("get, 1,000 entries", FEW),
        ("get, 1,000,000 entries", MANY),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.bench_function(what(), |bencher| {
            let map: R = filled(shape, entries);
            let mut n = 0;
            bencher.iter(|| {
                n += 1;
                map.get(&(shape.make)(mixed(n) % entries))
                    .expect("it is there")
            });
        });
        group.finish();
    }

    // A tenth more, and away again: what is not measured is what brings it back.
    let timed = |timed_insert: bool, map: &R, times: u64| {
        let mut taken = Duration::ZERO;
        let mut left = times;
        while left > 0 {
            let batch = SOME..SOME + left.min(SOME / 10);
            left -= batch.end - batch.start;
            let begun = Instant::now();
            for n in batch.clone() {
                map.insert((shape.make)(n), pid(n));
            }
            let between = Instant::now();
            for n in batch {
                map.remove(&(shape.make)(n), pid(n));
            }
            taken += if timed_insert {
                between - begun
            } else {
                between.elapsed()
            };
        }
        taken
    };
    for (name, timed_insert) in [("insert", true), ("remove", false)] {
        let mut group = criterion.benchmark_group(name);
        group.bench_function(what(), |bencher| {
            let map: R = filled(shape, SOME);
            bencher.iter_custom(|times| timed(timed_insert, &map, times));
        });
        group.finish();
    }

    let mut group = criterion.benchmark_group("growth to 100,000 entries");
    group.bench_function(what(), |bencher| {
        bencher.iter_with_large_drop(|| filled::<WORDS, R>(shape, SOME));
    });
    group.finish();

    let mut group = criterion.benchmark_group("scan of 100,000 entries");
    group.bench_function(what(), |bencher| {
        let map: R = filled(shape, SOME);
        bencher.iter(|| black_box(map.scan()));
    });
    group.finish();
}

fn rivals<const WORDS: usize>(criterion: &mut Criterion, shape: &Shape<WORDS>) {
    rival::<WORDS, Ours>(criterion, shape);
    rival::<WORDS, Dash<_>>(criterion, shape);
    rival::<WORDS, Papaya<_>>(criterion, shape);
    rival::<WORDS, Scc<_>>(criterion, shape);
    rival::<WORDS, Mutexed<_>>(criterion, shape);
}

fn every_shape(criterion: &mut Criterion) {
    rivals(criterion, &INTEGER);
    rivals(criterion, &SNOWFLAKE);
    rivals(criterion, &ATOM);
    rivals(criterion, &STRING);
    rivals(criterion, &UUID);
    rivals(criterion, &USER_INT);
    rivals(criterion, &USER_STRING);
    rivals(criterion, &INTS);
    rivals(criterion, &MAP);
}

criterion_group! {
    name = table;
    // There are some hundred of them.
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = every_shape
}
criterion_main!(table);
