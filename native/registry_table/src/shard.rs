//! The segments of a shard, one class of ids at a time: found, split, grown, shrunk and freed.
//!
//! A segment has the ids whose hashes share their first `depth` bits. The first of a shard has all
//! of the shard's, so that a small table is few segments, which stay in the processor's caches. One
//! that is full is split in two by the next bit, up to a part of the shard each, so that no segment
//! of a large table takes long to copy.

use crate::boxed::{Boxed, Kept, boxes, has_box, slots_beside, with_stored};
use crate::epoch::{self, Pinned};
use crate::id::{Opaque, Pid, Seed, Stored};
use crate::segment::{Cell, Segment};
use crate::sync::{AtomicU32, AtomicUsize, Counted, Mutex, Ordering, planted, sized};

/// How many of a hash's top bits choose the shard.
pub(crate) const SHARD_BITS: u32 = sized(6, 1) as u32;

/// A full segment with this many entries is split rather than made larger.
const SPLIT: usize = sized(128, 2);

/// Keeps what writers write out of the cache lines that readers read.
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

pub(crate) struct Shard {
    /// Held by whoever changes anything of this shard.
    pub(crate) writer: Apart<Mutex<()>>,
    /// Written under the lock.
    pub(crate) sums: Apart<Sums>,
    // The larger the slots, the more parts, so that none of ten million entries takes a millisecond
    // to copy.
    /// Ids of one word.
    pub(crate) narrow: Parts<2, { sized(16, 2) }>,
    /// Ids of at most two words, and pointers to those that fit nowhere.
    pub(crate) middle: Parts<4, { sized(32, 2) }>,
    /// Ids of at most six words.
    pub(crate) wide: Parts<8, { sized(64, 2) }>,
}

/// What writers add up.
#[derive(Default)]
pub(crate) struct Sums {
    /// Live entries in all classes.
    pub(crate) live: AtomicU32,
    /// How much memory the boxed ids take.
    pub(crate) boxed: AtomicUsize,
}

impl Shard {
    pub(crate) fn new() -> Self {
        Self {
            writer: Apart(Mutex::new(())),
            sums: Apart(Sums::default()),
            narrow: Parts::new(),
            middle: Parts::new(),
            wide: Parts::new(),
        }
    }

    /// How much memory the entries take. It is some dozens of steps, however many there are.
    pub(crate) fn bytes(&self, pinned: &Pinned) -> usize {
        let slots = self.narrow.bytes(pinned) + self.middle.bytes(pinned) + self.wide.bytes(pinned);
        // Relaxed: nothing hangs on it.
        slots + self.sums.0.boxed.load(Ordering::Relaxed)
    }
}

/// The segments of one class.
pub(crate) struct Parts<const STRIDE: usize, const PARTS: usize> {
    /// Invariant: each is null, or has a segment that all cells of the segment's own range have.
    cells: [Cell<STRIDE>; PARTS],
}

impl<const STRIDE: usize, const PARTS: usize> Parts<STRIDE, PARTS> {
    /// The depth of segments that are not split any more.
    const DEEPEST: u32 = SHARD_BITS + PARTS.trailing_zeros();

    fn new() -> Self {
        Self {
            cells: std::array::from_fn(|_| Cell::default()),
        }
    }

    /// The segment for ids of this hash.
    #[inline]
    pub(crate) fn get<'p>(&self, hash: u64, pinned: &'p Pinned) -> Option<Segment<'p, STRIDE>> {
        self.cells[Self::part(hash)].get(pinned)
    }

    /// All segments, each once.
    pub(crate) fn segments<'p>(
        &self,
        pinned: &'p Pinned,
    ) -> impl Iterator<Item = Segment<'p, STRIDE>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            while next < PARTS {
                let segment = self.cells[next].get(pinned);
                next += segment.map_or(1, |segment| Self::parts(segment.depth()));
                if segment.is_some() {
                    return segment;
                }
            }
            None
        })
    }

    fn bytes(&self, pinned: &Pinned) -> usize {
        self.segments(pinned).map(Segment::bytes).sum()
    }

    /// Visits the entries whose hashes are `from` or above, until `left` slots are used up, in one
    /// segment at the most. Returns the hash to go on from, or `None` at the end of all hashes.
    ///
    /// An id that lies elsewhere uses up as many slots more as it would fill.
    pub(crate) fn scan<O: Opaque>(
        &self,
        from: u64,
        left: &mut usize,
        visit: &mut impl FnMut(Stored<'_, O>, Pid),
        seed: &Seed,
        pinned: &Pinned,
    ) -> Option<u64> {
        let after =
            |depth: u32| ((from >> (u64::BITS - depth)) + 1).checked_mul(1 << (u64::BITS - depth));
        let Some(segment) = self.get(from, pinned) else {
            *left -= 1;
            return after(Self::DEEPEST);
        };
        let next = segment.scan(from, left, seed, slots_beside::<_, O>, |slot, tag, pid| {
            with_stored(slot, tag, |id| visit(id, pid));
        });
        next.or_else(|| after(segment.depth()))
    }

    /// A segment for an id of this hash in place of `old`, which has no room for it, if there is
    /// one. Under the shard's lock.
    pub(crate) fn make_room<'p>(
        &self,
        hash: u64,
        old: Option<Segment<'p, STRIDE>>,
        seed: &Seed,
        pinned: &'p Pinned,
    ) -> Option<Segment<'p, STRIDE>> {
        match old {
            None => {
                let depth = (SHARD_BITS..Self::DEEPEST).find(|&depth| {
                    let cells = &self.cells[Self::range(hash, depth)];
                    cells.iter().all(|cell| cell.get(pinned).is_none())
                });
                let depth = depth.unwrap_or(Self::DEEPEST);
                self.put(hash, depth, Some(Segment::with_room_for(1, depth)));
            }
            Some(old) if old.live() >= SPLIT && old.depth() < Self::DEEPEST => {
                let depth = old.depth() + 1;
                let bit = 1 << (u64::BITS - depth);
                let [lower, upper] = [hash & !bit, hash | bit];
                let halves = [lower, upper].map(|half| (half, old.part(half, depth, 1, seed)));
                for (half, new) in halves {
                    self.put(half, depth, Some(new));
                }
                retire(old);
            }
            Some(old) => {
                let new = old.part(hash, old.depth(), 1, seed);
                self.replace(hash, old, Some(new));
            }
        }
        self.get(hash, pinned)
    }

    /// The id of this hash whose process this is.
    pub(crate) fn id_of<O: Opaque>(&self, hash: u64, pid: Pid, pinned: &Pinned) -> Option<Kept<O>> {
        let (slot, tag) = self.get(hash, pinned)?.find_pid(hash, pid)?;
        Some(Kept::of(slot, tag))
    }

    /// Takes the pid out of the slot that has it, once `keep` has been run with its id, and the id too
    /// if it is a boxed one: that is freed when nobody looks at it any more. Under the shard's lock.
    /// Returns whether a slot had the pid.
    pub(crate) fn hide<O: Opaque>(
        &self,
        hash: u64,
        pid: Pid,
        seed: &Seed,
        boxed: &AtomicUsize,
        pinned: &Pinned,
        keep: impl FnOnce(Kept<O>),
    ) -> bool {
        let Some(segment) = self.get(hash, pinned) else {
            return false;
        };
        let Some((slot, tag)) = segment.find_pid(hash, pid) else {
            return false;
        };
        let kept = Kept::of(slot, tag);
        planted!("kept too late", segment.set_pid(slot, None));
        keep(kept);
        planted!("kept too late", (), segment.set_pid(slot, None));
        if has_box::<STRIDE>(tag) {
            // SAFETY: under the lock, the slot has this tag still.
            let id = unsafe { Boxed::<O>::of(slot) };
            let bytes = id.bytes();
            // Relaxed: nothing hangs on it.
            boxed.fetch_sub(bytes, Ordering::Relaxed);
            let loose = Loose(std::ptr::from_ref(id));
            segment.bury(slot);
            // SAFETY: the slot's count is the caller's from here on, since nobody finds the id there any
            // more; it is given up when nobody is left who did.
            let free = move || unsafe { loose.free() };
            planted!("id freed at once", free(), epoch::retire(bytes, free));
        }
        if segment.live() == 0 {
            self.replace(hash, segment, None);
        } else if segment.is_sparse() {
            let smaller = segment.part(hash, segment.depth(), 0, seed);
            self.replace(hash, segment, Some(smaller));
        }
        true
    }

    /// Puts `new`, which has the old one's live entries, in its place, and frees the old one.
    fn replace(&self, hash: u64, old: Segment<'_, STRIDE>, new: Option<Segment<'_, STRIDE>>) {
        planted!("retired first", retire(old));
        self.put(hash, old.depth(), new);
        planted!("retired first", (), retire(old));
    }

    fn put(&self, hash: u64, depth: u32, new: Option<Segment<'_, STRIDE>>) {
        for cell in &self.cells[Self::range(hash, depth)] {
            cell.put(new);
        }
    }

    /// The cell of a hash.
    #[inline]
    fn part(hash: u64) -> usize {
        (hash >> (u64::BITS - Self::DEEPEST)) as usize % PARTS
    }

    /// How many cells a segment of this depth has.
    fn parts(depth: u32) -> usize {
        1 << (Self::DEEPEST - depth)
    }

    /// The cells of the segment of this depth that this hash belongs to.
    fn range(hash: u64, depth: u32) -> std::ops::Range<usize> {
        let first = Self::part(hash) & !(Self::parts(depth) - 1);
        first..first + Self::parts(depth)
    }

    /// Frees everything. The table is not shared any more.
    pub(crate) fn free<O: Opaque>(&mut self) {
        for segment in self.segments(&epoch::pin()) {
            for boxed in boxes::<_, O>(segment) {
                // SAFETY: `Boxed::keep` made it, and no other segment has it: those that were copied
                // are in no cell.
                drop(unsafe { Counted::from_raw(boxed) });
            }
            // SAFETY: `&mut self` says that nobody else comes to it, and nobody comes here again.
            unsafe { segment.free() };
        }
    }
}

/// Frees a segment that was just taken out of its cells, once no reader can see it. The boxed ids that
/// it has are those of the segments that took its place.
fn retire<const STRIDE: usize>(old: Segment<'_, STRIDE>) {
    let old = old.loose();
    // SAFETY: it is in no cell, so this is the only place that frees it. It is run when no reader
    // is left that may have come to it.
    epoch::retire(old.bytes(), move || unsafe { old.free() });
}

/// A boxed id that no segment has any more, with the count that one had.
struct Loose<O>(*const Boxed<O>);

// SAFETY: an `Opaque` may be dropped by any thread, and used by several.
unsafe impl<O: Opaque> Send for Loose<O> {}

impl<O> Loose<O> {
    /// # Safety
    ///
    /// `Boxed::keep` made it, nobody reads it without a count of their own, and this one is not given
    /// up again.
    unsafe fn free(self) {
        // SAFETY: by the contract above.
        drop(unsafe { Counted::from_raw(self.0) });
    }
}
