//! Doors for the checks in `check/`: they look inside, and do what no user of the library can.
//!
//! Behind a feature that no package is built with. `check/doors.exs` has their stubs, and says what
//! they are for.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use registry_table::{Pid, Worker, collect};
use rustler::{Encoder, Env, ResourceArc, Term};

use crate::hot::{Failed, with_id};
use crate::memory::Allocator;
use crate::registry::Registry;
use crate::timeslice::timed;

/// What is known of a point in the code.
#[derive(Default)]
struct Point {
    passes: u64,
    /// How many stays took more than [`LONG`].
    long: u64,
    /// All stays together, and the longest of them, in nanoseconds of the thread's CPU time.
    total: i64,
    longest: i64,
}

/// Whether anyone looks at the points: it takes longer than what most of them do.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// A millisecond.
const LONG: i64 = 1_000_000;

static POINTS: Mutex<BTreeMap<&'static CStr, Point>> = Mutex::new(BTreeMap::new());

/// The point at which the next to come panics.
static PLANTED: Mutex<Option<String>> = Mutex::new(None);

/// Someone who has come to a point, and stays until this is dropped.
pub struct Inside {
    name: &'static CStr,
    since: i64,
}

pub fn enter(name: &'static CStr) -> Option<Inside> {
    // Relaxed: set when all is quiet.
    if !WATCHED.load(Ordering::Relaxed) {
        return None;
    }
    POINTS.lock().entry(name).or_default().passes += 1;
    let planted = |planted: &mut String| planted.as_bytes() == name.to_bytes();
    let planted = PLANTED.lock().take_if(planted);
    assert!(planted.is_none(), "planted at {name:?}");
    let since = cpu_time();
    Some(Inside { name, since })
}

impl Drop for Inside {
    fn drop(&mut self) {
        let stay = cpu_time() - self.since;
        if let Some(point) = POINTS.lock().get_mut(self.name) {
            point.total += stay;
            point.longest = point.longest.max(stay);
            point.long += u64::from(stay > LONG);
        }
    }
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

/// The usual allocator, counting what is not freed yet.
struct Counting;

static BLOCKS: AtomicI64 = AtomicI64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all of it is the usual allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Relaxed, here and below: sums, read when all is quiet.
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { Allocator.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BLOCKS.fetch_sub(1, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { Allocator.dealloc(block, layout) }
    }
}

/// The word of a process that is not there: a pid with a number that no process has had yet.
fn made_up(number: u64) -> Option<Pid> {
    Pid::new((1 << 27 | number) << 4 | 0x3)
}

#[rustler::nif]
fn door_points() -> Vec<(String, u64, i64, u64, i64)> {
    let points = POINTS.lock();
    let name = |name: &CStr| name.to_string_lossy().into_owned();
    let all = points.iter();
    let told = |(key, point): (&&CStr, &Point)| {
        let Point { passes, total, .. } = *point;
        (name(key), passes, total, point.long, point.longest)
    };
    all.map(told).collect()
}

#[rustler::nif]
fn door_watch(watched: bool) {
    POINTS.lock().clear();
    // Relaxed: as above.
    WATCHED.store(watched, Ordering::Relaxed);
}

#[rustler::nif]
fn door_plant(point: String) {
    *PLANTED.lock() = Some(point);
}

#[rustler::nif]
fn door_planted() -> bool {
    PLANTED.lock().is_some()
}

#[rustler::nif]
fn door_collect() {
    point!(c"collect");
    collect();
}

#[rustler::nif]
fn door_allocated() -> (i64, i64) {
    // Relaxed: as above.
    let read = |sum: &AtomicI64| sum.load(Ordering::Relaxed);
    (read(&BLOCKS), read(&BYTES))
}

#[rustler::nif]
fn door_nothing() {
    // As large as the parts of a large table.
    const SIZE: usize = 256 * 1024;

    point!(c"nothing");
    let since = cpu_time();
    // A tenth of what is too long.
    while cpu_time() - since < 100_000 {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: the memory is new, of this size, nobody else's, and not used after it is given back.
        unsafe {
            let new = libc::mmap(std::ptr::null_mut(), SIZE, access, kind, -1, 0);
            assert_ne!(new, libc::MAP_FAILED);
            new.cast::<u8>().write_bytes(1, SIZE);
            black_box(new);
            libc::munmap(new, SIZE);
        }
    }
}

#[rustler::nif]
fn door_cpu_time() -> i64 {
    cpu_time()
}

fn insert<'a>(
    env: Env<'a>,
    [registry, id, number]: [Term<'a>; 3],
    limit: usize,
) -> Result<Term<'a>, Failed> {
    let (Ok(registry), Ok(number)) = (registry.decode::<ResourceArc<Registry>>(), number.decode())
    else {
        return Err(Failed::BadArg);
    };
    let pid = made_up(number).ok_or(Failed::BadArg)?;
    let done = with_id(id, limit, |id| {
        let worker = Worker { pid, parent: None };
        timed(env, || registry.table().insert(id, worker).is_ok())
    })?;
    Ok(done.encode(env))
}
crate::hot::nif!(c"door_insert", 3, insert);

#[rustler::nif]
fn door_down(env: Env<'_>, registry: ResourceArc<Registry>, number: u64) {
    if let Some(pid) = made_up(number) {
        timed(env, || registry.forget(pid));
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn door_mine(env: Env<'_>, count: usize, bits: u32, from: u64) -> Vec<u64> {
    let hash = |number: &u64| number.encode(env).hash_internal(0);
    let mask = (1 << bits) - 1;
    let wanted = hash(&from) & mask;
    let numbers = (from..).filter(|number| hash(number) & mask == wanted);
    numbers.take(count).collect()
}
