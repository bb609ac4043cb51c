//! The segments of a shard, one class of ids at a time: found, split, grown, shrunk and freed.
//!
//! A segment has the ids whose hashes share their first `depth` bits. The first of a shard has all
//! of the shard's, so that a small table is few segments, which stay in the processor's caches. One
//! that is full is split in two by the next bit, up to a part of the shard each, so that no segment
//! of a large table takes long to copy.

use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};
use parking_lot::Mutex;

use crate::boxed::{Boxed, boxes};
use crate::id::{Opaque, Pid, Seed};
use crate::segment::{Segment, Slot};

/// How many of a hash's top bits choose the shard.
pub(crate) const SHARD_BITS: u32 = 6;
/// How many bits after those choose the part of the shard.
const PART_BITS: u32 = 4;
const PARTS: usize = 1 << PART_BITS;
/// The depth of segments that are not split any more.
const DEEPEST: u32 = SHARD_BITS + PART_BITS;

/// A full segment with this many entries is split rather than made larger.
const SPLIT: usize = 128;

/// Keeps what writers write out of the cache lines that readers read.
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

pub(crate) struct Shard {
    /// Held by whoever changes anything of this shard.
    pub(crate) writer: Apart<Mutex<()>>,
    /// Live entries in all classes. Written under the lock.
    pub(crate) live: Apart<AtomicU32>,
    /// Ids of one word.
    pub(crate) narrow: Parts<2>,
    /// Ids of at most two words, and pointers to those that fit nowhere.
    pub(crate) middle: Parts<4>,
    /// Ids of at most six words.
    pub(crate) wide: Parts<8>,
}

impl Shard {
    pub(crate) fn new() -> Self {
        Self {
            writer: Apart(Mutex::new(())),
            live: Apart(AtomicU32::new(0)),
            narrow: Parts::default(),
            middle: Parts::default(),
            wide: Parts::default(),
        }
    }
}

/// The segments of one class.
#[derive(Default)]
pub(crate) struct Parts<const STRIDE: usize> {
    /// Invariant: each is null, or has a segment that all cells of the segment's own range have.
    cells: [Atomic<Segment<STRIDE>>; PARTS],
}

/// What became of a segment when an entry was taken out of it.
#[derive(PartialEq)]
pub(crate) enum Hidden {
    /// It stays.
    InPlace,
    /// Another has its place.
    Replaced,
}

impl<const STRIDE: usize> Parts<STRIDE> {
    /// The segment for ids of this hash.
    #[inline]
    pub(crate) fn load<'g>(&self, hash: u64, guard: &'g Guard) -> Option<&'g Segment<STRIDE>> {
        load(&self.cells[part(hash)], guard)
    }

    /// All segments, each once.
    pub(crate) fn segments<'g>(
        &self,
        guard: &'g Guard,
    ) -> impl Iterator<Item = &'g Segment<STRIDE>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            while next < PARTS {
                let segment = load(&self.cells[next], guard);
                next += segment.map_or(1, |segment| parts(segment.depth()));
                if segment.is_some() {
                    return segment;
                }
            }
            None
        })
    }

    /// Visits the entries whose hashes are `from` or above, until `left` slots are used up, in one
    /// segment at the most. Answers the hash to go on from, or `None` at the end of all hashes.
    pub(crate) fn scan(
        &self,
        from: u64,
        left: &mut usize,
        visit: impl FnMut(Slot<'_, STRIDE>, Pid),
        guard: &Guard,
    ) -> Option<u64> {
        let after =
            |depth: u32| ((from >> (u64::BITS - depth)) + 1).checked_mul(1 << (u64::BITS - depth));
        let Some(segment) = self.load(from, guard) else {
            *left -= 1;
            return after(DEEPEST);
        };
        let limit = *left;
        *left = left.saturating_sub(segment.slots());
        let next = segment.scan(from, limit, visit);
        next.or_else(|| after(segment.depth()))
    }

    /// A segment for an id of this hash in place of `old`, which has no room for it, if there is
    /// one. Under the shard's lock.
    pub(crate) fn make_room<'g, O: Opaque>(
        &self,
        hash: u64,
        old: Option<&Segment<STRIDE>>,
        seed: Seed,
        guard: &'g Guard,
    ) -> Option<&'g Segment<STRIDE>> {
        match old {
            None => {
                let depth = (SHARD_BITS..DEEPEST).find(|&depth| {
                    let cells = &self.cells[range(hash, depth)];
                    cells.iter().all(|cell| load(cell, guard).is_none())
                });
                let depth = depth.unwrap_or(DEEPEST);
                self.put(
                    hash,
                    depth,
                    Some(Segment::with_room_for(1, depth, seed)),
                    guard,
                );
            }
            Some(old) if old.live() >= SPLIT && old.depth() < DEEPEST => {
                let depth = old.depth() + 1;
                let bit = 1 << (u64::BITS - depth);
                let [lower, upper] = [hash & !bit, hash | bit];
                let halves = [lower, upper].map(|half| (half, old.part(half, depth, 1)));
                let replaced = self.cells[part(hash)].load(Ordering::Relaxed, guard);
                for (half, new) in halves {
                    self.put(half, depth, Some(new), guard);
                }
                retire::<_, O>(replaced, guard);
            }
            Some(old) => self.replace::<O>(hash, old, Some(old.part(hash, old.depth(), 1)), guard),
        }
        self.load(hash, guard)
    }

    /// Takes the pid out of the slot that has it. Under the shard's lock. `None` if none has it.
    pub(crate) fn hide<O: Opaque>(&self, hash: u64, pid: Pid, guard: &Guard) -> Option<Hidden> {
        let segment = self.load(hash, guard)?;
        let slot = segment.find_pid(hash, pid)?;
        segment.set_pid(slot, None);
        if segment.live() == 0 {
            self.replace::<O>(hash, segment, None, guard);
        } else if segment.is_sparse() {
            let smaller = segment.part(hash, segment.depth(), 0);
            self.replace::<O>(hash, segment, Some(smaller), guard);
        } else {
            return Some(Hidden::InPlace);
        }
        Some(Hidden::Replaced)
    }

    /// Publishes `new`, which has the old one's live entries, and frees the old one.
    fn replace<O: Opaque>(
        &self,
        hash: u64,
        old: &Segment<STRIDE>,
        new: Option<Segment<STRIDE>>,
        guard: &Guard,
    ) {
        let replaced = self.cells[part(hash)].load(Ordering::Relaxed, guard);
        self.put(hash, old.depth(), new, guard);
        retire::<_, O>(replaced, guard);
    }

    fn put(&self, hash: u64, depth: u32, new: Option<Segment<STRIDE>>, guard: &Guard) {
        let new = new.map_or(Shared::null(), |new| Owned::new(new).into_shared(guard));
        for cell in &self.cells[range(hash, depth)] {
            // Release: readers see the slots as they were written.
            cell.store(new, Ordering::Release);
        }
    }

    /// Frees everything. The table is not shared any more.
    pub(crate) fn free<O: Opaque>(&mut self) {
        let mut next = 0;
        while next < PARTS {
            let cell = &mut self.cells[next];
            // SAFETY: each segment is taken from the first cell that has it, and the others of its
            // range are passed over. Nobody else has it.
            let Some(segment) = (unsafe { std::mem::take(cell).try_into_owned() }) else {
                next += 1;
                continue;
            };
            next += parts(segment.depth());
            for (boxed, _) in boxes::<_, O>(&segment) {
                // SAFETY: `Boxed::keep` made it, and it is in no other segment: see `retire`.
                drop(unsafe { Box::from_raw(boxed) });
            }
        }
    }
}

/// The cell of a hash.
#[inline]
fn part(hash: u64) -> usize {
    (hash >> (u64::BITS - DEEPEST)) as usize % PARTS
}

/// How many cells a segment of this depth has.
fn parts(depth: u32) -> usize {
    1 << (DEEPEST - depth)
}

/// The cells of the segment of this depth that this hash belongs to.
fn range(hash: u64, depth: u32) -> std::ops::Range<usize> {
    let first = part(hash) & !(parts(depth) - 1);
    first..first + parts(depth)
}

#[inline]
fn load<'g, const STRIDE: usize>(
    cell: &Atomic<Segment<STRIDE>>,
    guard: &'g Guard,
) -> Option<&'g Segment<STRIDE>> {
    // Acquire: the segment's slots were written before it was published.
    let segment = cell.load(Ordering::Acquire, guard);
    // SAFETY: a cell has null or a segment that `Parts::put` published. It is freed only through the
    // epoch, see `retire`, so not while `guard` lives.
    unsafe { segment.as_ref() }
}

/// Frees a segment that is in no cell any more, with the boxed ids that only it has, once no reader
/// can see it.
fn retire<const STRIDE: usize, O: Opaque>(old: Shared<'_, Segment<STRIDE>>, guard: &Guard) {
    // SAFETY: as in `load`.
    let Some(segment) = (unsafe { old.as_ref() }) else {
        return;
    };
    // One by one, so that no thread that happens to collect must free many at once.
    for (boxed, _) in boxes::<_, O>(segment).filter(|(_, pid)| pid.is_none()) {
        // SAFETY: the ids that had no process were not copied, so they are only here, and a segment
        // is retired only once. The epoch waits for those who read them.
        unsafe { guard.defer_unchecked(move || drop(Box::<Boxed<O>>::from_raw(boxed))) };
    }
    // SAFETY: it is in no cell, so this is the only place that frees it. The epoch waits for every
    // reader that may have loaded it.
    unsafe { guard.defer_destroy(old) };
}
