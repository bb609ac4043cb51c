//! When memory that readers may still look at can be freed.
//!
//! A reader notes, in a record of its thread's own, the number of the epoch in which it began. A
//! writer that takes something out of the readers' reach hands it to [`retire`], which ends the
//! epoch: whoever begins in a later one cannot reach it. It is freed once no reader is left that
//! began in its own epoch or before.
//!
//! The order that this takes between a reader's note and its first look is paid for by those who
//! free, with a `membarrier(2)` of the whole process, where the system has that. Elsewhere every
//! reader pays for a fence, as it always does with `crossbeam-epoch`: a good part of what a lookup
//! of a small id takes, and why this is here.

//!
//! One thread frees everything: it calls [`reclaim`], which never returns. So no caller of the table
//! pays for what others left, however large it is, and what was retired last is freed although
//! nothing else happens.

use std::cell::Cell;
use std::collections::LinkedList;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::{
    AtomicBool, AtomicPtr, AtomicU64, Mutex, Ordering, compiler_fence, fence, locals, planted,
    statics,
};

/// How many bytes one step frees, or one thing if that is larger.
const STEP_BYTES: usize = 512 * 1024;
/// How many things one step frees, since the list is locked while they are taken from it.
const STEP_THINGS: usize = 256;

/// While it lives, nothing that was read under it is freed.
pub struct Pinned {
    reader: &'static Reader,
    /// It belongs to the thread whose reader it is.
    here: PhantomData<*const ()>,
}

/// One thread's note. Invariant: written by that thread only, but for `taken`.
#[derive(Default)]
#[repr(align(128))]
struct Reader {
    /// The epoch in which its thread began to read; zero while it does not.
    since: AtomicU64,
    /// How many guards the thread has. So wide that guards that are forgotten, which is safe, never
    /// make it overflow: at zero, nothing would be kept for those that are left.
    guards: AtomicU64,
    /// Whether a thread has it.
    taken: AtomicBool,
    /// The reader that was made before this one. Written before others see this one.
    next: AtomicPtr<Reader>,
}

/// Something to be freed.
struct Retired {
    /// The epoch in which it was still in reach.
    epoch: u64,
    bytes: usize,
    free: Box<dyn FnOnce() + Send>,
}

statics! {
    /// The current epoch; goes up with each retirement.
    static EPOCH: AtomicU64 = AtomicU64::new(1);
    /// All readers there ever were. They are never freed, but used again by later threads.
    static READERS: AtomicPtr<Reader> = AtomicPtr::new(std::ptr::null_mut());
    /// In the order of their epochs. A list, since a vector that grows copies all that it has, under
    /// the lock.
    static LIMBO: Mutex<LinkedList<Retired>> = Mutex::new(LinkedList::new());
    /// Whether nothing can be freed, see [`is_stopped`].
    static STOPPED: AtomicBool = AtomicBool::new(false);
}

locals! {
    /// This thread's reader. Apart from the lease, since what has a destructor is slower to reach.
    static READER: Cell<Option<&'static Reader>> = Cell::new(None);
    static LEASE: Lease = Lease(Cell::new(None));
}

/// Gives the thread's reader back when the thread ends.
struct Lease(Cell<Option<&'static Reader>>);

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(reader) = self.0.take() {
            // Whoever reads after this needs another one.
            let _ = READER.try_with(Cell::take);
            // Release, with the Acquire in `register`: the next thread goes on from what this one
            // left. A guard that outlives this keeps the reader, which is lost then.
            if reader.guards.load(Ordering::Relaxed) == 0 {
                reader.taken.store(false, Ordering::Release);
            }
        }
    }
}

/// Begins to read. It costs a nanosecond or two, and holds up nobody but the memory that others
/// want to free.
#[inline]
pub fn pin() -> Pinned {
    let reader = READER.with(Cell::get).unwrap_or_else(register);
    // Relaxed: only this thread writes and reads it.
    let guards = reader.guards.load(Ordering::Relaxed);
    reader.guards.store(guards + 1, Ordering::Relaxed);
    if guards == 0 {
        // Acquire: whoever sees an epoch sees that what was retired before it is out of reach.
        let epoch = EPOCH.load(Ordering::Acquire);
        // Release: who sees this note rather than the end of the thread's last reading needs to know
        // of that too. It is `light_barrier` that orders the note before this thread's looks.
        let release = planted!("note not released", Ordering::Relaxed, Ordering::Release);
        reader.since.store(epoch, release);
        planted!("reader without a fence", (), light_barrier());
    }
    Pinned {
        reader,
        here: PhantomData,
    }
}

impl Drop for Pinned {
    #[inline]
    fn drop(&mut self) {
        // Relaxed: as in `pin`.
        let guards = self.reader.guards.load(Ordering::Relaxed) - 1;
        self.reader.guards.store(guards, Ordering::Relaxed);
        if guards == 0 {
            // Release, with the Acquire in `oldest_reader`: what is freed then was read before.
            let release = planted!("end not released", Ordering::Relaxed, Ordering::Release);
            self.reader.since.store(0, release);
        }
    }
}

#[cold]
fn register() -> &'static Reader {
    let reader = free_reader().unwrap_or_else(new_reader);
    READER.with(|own| own.set(Some(reader)));
    // If the thread is at its end already, its reader is not used again.
    let _ = LEASE.try_with(|lease| lease.0.set(Some(reader)));
    reader
}

fn free_reader() -> Option<&'static Reader> {
    readers().find(|reader| {
        // Acquire: see `Lease`. Relaxed: nothing follows from a failure.
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        let taken = reader.taken.compare_exchange(false, true, acquire, relaxed);
        taken.is_ok()
    })
}

fn new_reader() -> &'static Reader {
    let reader: &'static Reader = Box::leak(Box::default());
    reader.taken.store(true, Ordering::Relaxed);
    let mut head = READERS.load(Ordering::Relaxed);
    loop {
        reader.next.store(head, Ordering::Relaxed);
        let new = std::ptr::from_ref(reader).cast_mut();
        // SeqCst: it is in the list before the thread's first note, see `oldest_reader`. That
        // includes Release, with the Acquire in `readers`: who finds the reader sees its `next`.
        let (seq_cst, relaxed) = (Ordering::SeqCst, Ordering::Relaxed);
        match READERS.compare_exchange_weak(head, new, seq_cst, relaxed) {
            Ok(_) => return reader,
            Err(now) => head = now,
        }
    }
}

fn readers() -> impl Iterator<Item = &'static Reader> {
    // Acquire: see `new_reader`.
    let mut next = READERS.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: null, or a reader that `new_reader` leaked: it is never freed, and shared only.
        let reader: &'static Reader = unsafe { next.as_ref() }?;
        // Relaxed: written before the reader got into the list.
        next = reader.next.load(Ordering::Relaxed);
        Some(reader)
    })
}

/// Has `free` run when nobody can look at something any more that takes this many bytes.
///
/// The caller has taken it out of reach: whoever begins to read after this cannot come to it.
pub(crate) fn retire(bytes: usize, free: impl FnOnce() + Send + 'static) {
    let free = Box::new(free);
    let mut limbo = LIMBO.lock();
    // Release: see `pin`. Under the lock, so that the list is in order.
    let epoch = EPOCH.fetch_add(1, Ordering::AcqRel);
    limbo.push_back(Retired { epoch, bytes, free });
    drop(limbo);
    #[cfg(not(registry_table_loom))]
    reclaimer::wake();
}

/// Has a value dropped by the thread that frees, see [`reclaim`].
pub fn drop_later<T: Send + 'static>(value: T) {
    retire(size_of::<T>(), move || drop(value));
}

/// Frees all that was retired and nobody can look at any more.
///
/// A program whose [`reclaim`] runs does not need it.
pub fn collect() {
    let oldest = oldest_reader();
    while free_some(oldest).is_some() {}
}

/// Frees some of what was retired before the oldest reader began. Returns how many bytes that was;
/// `None` if there was nothing.
fn free_some(oldest: Option<u64>) -> Option<usize> {
    let oldest = planted!("freed at once", u64::MAX, oldest?);
    let step = next_step(&mut LIMBO.lock(), oldest);
    if step.is_empty() {
        return None;
    }
    let bytes = step.iter().map(|retired| retired.bytes).sum();
    for retired in step {
        // It may run the code of an `Opaque`. If that panics, the panic has been told of, and the
        // other things are freed all the same.
        let _ = catch_unwind(AssertUnwindSafe(retired.free));
    }
    Some(bytes)
}

/// Takes what is freed next out of the list: what is of epochs before `oldest`, and not too much.
fn next_step(limbo: &mut LinkedList<Retired>, oldest: u64) -> LinkedList<Retired> {
    let mut bytes = 0;
    let step = limbo.iter().take(STEP_THINGS).take_while(|retired| {
        let first = bytes == 0;
        bytes += retired.bytes.max(1);
        retired.epoch < oldest && (first || bytes <= STEP_BYTES)
    });
    let count = step.count();
    let rest = limbo.split_off(count);
    std::mem::replace(limbo, rest)
}

/// Whether nothing can be freed, since the system refuses the barrier that it granted at first.
pub fn is_stopped() -> bool {
    // Relaxed: it is a fact about the system, and orders nothing.
    STOPPED.load(Ordering::Relaxed)
}

/// The earliest epoch in which anyone who reads now began, or the one that begins now. `None` if it
/// is not known.
fn oldest_reader() -> Option<u64> {
    // What is retired from here on is not meant.
    let now = EPOCH.load(Ordering::Acquire);
    // A reader whose note is not seen below looks after this: it finds nothing that was retired
    // before.
    let issued = heavy_barrier::issue();
    STOPPED.store(!issued, Ordering::Relaxed);
    if !issued {
        return None;
    }
    let since = readers().map(|reader| {
        // Acquire: see `pin` and `Pinned::drop`.
        reader.since.load(Ordering::Acquire)
    });
    Some(since.filter(|&since| since != 0).fold(now, u64::min))
}

#[cfg(not(registry_table_loom))]
pub use reclaimer::reclaim;

/// The thread that frees. Loom's models call `collect` themselves.
#[cfg(not(registry_table_loom))]
mod reclaimer {
    use std::thread::sleep;
    use std::time::Duration;

    use parking_lot::Condvar;

    use super::{LIMBO, STEP_BYTES, free_some, is_stopped, oldest_reader};

    /// How long what was retired waits for others, for which the barrier is then issued once.
    const GATHER: Duration = Duration::from_millis(2);
    /// The pause after a large step. The memory that other threads allocated is given back by those
    /// threads, which so have their turns between.
    const REST: Duration = Duration::from_micros(200);
    /// The pause after a barrier that the system refused.
    const RETRY: Duration = Duration::from_secs(1);

    /// Something was retired.
    static RETIRED: Condvar = Condvar::new();

    pub(super) fn wake() {
        // It is no more than a load if the thread does not wait.
        RETIRED.notify_one();
    }

    /// Frees what is retired, for as long as the program runs. One thread has to call it.
    ///
    /// `stopped` is called each second while nothing can be freed, see
    /// [`is_stopped`](crate::is_stopped).
    pub fn reclaim(stopped: impl Fn()) -> ! {
        loop {
            let mut limbo = LIMBO.lock();
            while limbo.is_empty() {
                RETIRED.wait(&mut limbo);
            }
            drop(limbo);
            sleep(GATHER);
            let oldest = oldest_reader();
            while let Some(bytes) = free_some(oldest) {
                if bytes >= STEP_BYTES {
                    sleep(REST);
                }
            }
            if is_stopped() {
                stopped();
                sleep(RETRY);
            }
        }
    }
}

/// Orders a reader's note before its looks, for whoever issues the heavy one.
#[inline]
fn light_barrier() {
    if heavy_barrier::is_enough() {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// A barrier in every thread of this process, issued by one.
#[cfg(all(target_os = "linux", not(registry_table_loom)))]
mod heavy_barrier {
    use crate::sync::{Ordering, fence};

    use libc::{MEMBARRIER_CMD_PRIVATE_EXPEDITED, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED};
    use once_cell::race::OnceBool;

    /// Whether the kernel does it; all threads agree on that.
    static WORKS: OnceBool = OnceBool::new();

    /// Whether readers may do with a compiler's barrier.
    #[inline]
    pub(super) fn is_enough() -> bool {
        WORKS.get_or_init(|| membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
    }

    /// Answers whether it was issued.
    pub(super) fn issue() -> bool {
        fence(Ordering::SeqCst);
        !is_enough() || membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    }

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the call takes two numbers more, and touches no memory of this process.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}

/// Readers pay for a fence of their own.
#[cfg(any(not(target_os = "linux"), registry_table_loom))]
mod heavy_barrier {
    use crate::sync::{Ordering, fence};

    #[inline]
    pub(super) fn is_enough() -> bool {
        false
    }

    pub(super) fn issue() -> bool {
        fence(Ordering::SeqCst);
        true
    }
}

#[cfg(all(test, not(registry_table_loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Retires something of so many bytes that counts itself when it is freed.
    fn retire_counting(bytes: usize, freed: &Arc<AtomicUsize>) {
        let freed = Arc::clone(freed);
        retire(bytes, move || {
            freed.fetch_add(1, Ordering::SeqCst);
        });
    }

    /// Other tests read and retire too: what is to be freed may have to wait for them.
    fn collect_until(freed: &AtomicUsize, count: usize) {
        while freed.load(Ordering::SeqCst) < count {
            collect();
        }
    }

    #[test]
    fn nothing_is_freed_while_one_reads_who_began_before() {
        let freed = Arc::new(AtomicUsize::new(0));
        let first = pin();
        let second = pin();
        retire_counting(1, &freed);
        drop(first);
        for _ in 0..100 {
            collect();
        }
        assert_eq!(freed.load(Ordering::SeqCst), 0, "the second still reads");
        drop(second);
        collect_until(&freed, 1);
    }

    #[test]
    fn who_began_later_holds_nothing_back() {
        let freed = Arc::new(AtomicUsize::new(0));
        retire_counting(1, &freed);
        let _later = pin();
        collect_until(&freed, 1);
    }

    #[test]
    fn a_step_is_bounded_in_things_and_in_bytes() {
        for (bytes, most) in [
            (0, STEP_THINGS),
            (1, STEP_THINGS),
            (STEP_BYTES / 4, 4),
            (10 * STEP_BYTES, 1),
        ] {
            let all = (1..=1_000).map(|epoch| Retired {
                epoch,
                bytes,
                free: Box::new(|| ()),
            });
            let mut limbo: LinkedList<_> = all.collect();
            let mut next = 1;
            loop {
                let step = next_step(&mut limbo, 901);
                assert!(step.len() <= most);
                if step.is_empty() {
                    break;
                }
                for retired in step {
                    assert_eq!(retired.epoch, next);
                    next += 1;
                }
            }
            assert_eq!((next, limbo.len()), (901, 100), "the others wait");
        }
    }

    #[test]
    fn a_panic_keeps_nothing_else_from_being_freed() {
        let freed = Arc::new(AtomicUsize::new(0));
        let reading = pin();
        retire(1, || panic!("on purpose"));
        retire_counting(1, &freed);
        drop(reading);
        collect_until(&freed, 1);
    }

    #[test]
    fn readers_of_threads_that_ended_are_used_again() {
        for _ in 0..100 {
            std::thread::spawn(|| drop(pin())).join().expect("it reads");
        }
        assert!(readers().count() < 50, "{}", readers().count());
    }
}
