//! One open-addressed array of slots: the part of a shard that readers walk.
//!
//! A slot is `STRIDE` words, never across a cache line: its tag, its pid, and the words of its id.
//! The tag is the id itself in segments of two-word slots, and the id's hash and shape elsewhere.
//!
//! # Life of a slot
//!
//! It is written under the shard's lock and read without. A free slot has tag zero; the tag is
//! stored last, and the id words never change again for as long as the segment lives. The pid does: a
//! removal stores zero there, and the same id inserted again stores its new pid. Where the id lies
//! elsewhere, a removal stores a tag that no id has as well, since the id is then freed: the slot is
//! used no more. What a rebuild copies into a new segment is frozen in the old one.
//!
//! So a reader that has found a tag, and then a pid, knows that the id words are those of the tag, and
//! that an id elsewhere is not freed while the reader's guard lives.
//!
//! A slot's home is the top bits of its hash below those that all of the segment share, so a segment
//! is in the order of its hashes but for the entries that a cluster pushed on. A scan therefore goes by
//! hash and need not care how often the segment is rebuilt meanwhile.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::epoch::Pinned;
use crate::id::{Pid, Seed};
use crate::shard::SHARD_BITS;
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Lifetime, Ordering, make, planted, sized};

/// The low bits of a tag that are not the hash's.
const TAG_BITS: u64 = 0x3FF;
/// Marks a slot whose id lies elsewhere: its first word is a pointer.
const BOXED: u64 = 0x100;
/// Keeps a tag from being zero.
const TAKEN: u64 = 0x200;
/// The tag of a slot whose id lay elsewhere and is gone. No id has it, for want of `TAKEN`.
const GONE: u64 = 1;

/// The tag of an id that is not one bare word.
#[inline]
pub(crate) fn tag(hash: u64, shape: u8, boxed: bool) -> u64 {
    hash & !TAG_BITS | TAKEN | if boxed { BOXED } else { 0 } | u64::from(shape)
}

/// The shape in a tag.
pub(crate) fn shape(tag: u64) -> u8 {
    tag as u8
}

/// Whether a tag is of a slot whose id lies elsewhere.
#[inline]
pub(crate) fn is_boxed(tag: u64) -> bool {
    tag & BOXED != 0
}

/// How many words a cache line has.
const LINE: usize = 8;
/// How many slots a segment has at the least.
const FEWEST: usize = sized(LINE, 4);

/// What is in front of a segment's slots. The alignment leaves eight bits of an address free: three
/// for the depth, five for the number of slots, which is more than any memory holds.
#[derive(Default)]
#[repr(C, align(256))]
struct Header {
    /// Slots whose tag is not zero. Written under the shard's lock.
    /// Invariant: leaves free slots, so that every search ends.
    used: AtomicUsize,
    /// Slots whose pid is not zero. Written under the shard's lock.
    live: AtomicUsize,
    lifetime: Lifetime,
}

/// The bits of a segment's address that its alignment leaves free.
const CODE: usize = align_of::<Header>() - 1;
/// What `bits` and `depth` are at the least.
const MIN_BITS: u32 = FEWEST.trailing_zeros();
const MIN_DEPTH: u32 = SHARD_BITS;
/// Bits of the code that say how many slots there are; the others are for the depth.
const CODE_BITS: u32 = 5;

/// A segment, wherever it lies: it is `Copy`, and belongs to whoever has it in a [`Cell`].
pub(crate) struct Segment<'s, const STRIDE: usize> {
    /// Invariant: `with_room_for` made it with as many zeroed slots behind it as `bits` says, and
    /// they live for `'s`.
    header: NonNull<Header>,
    /// Log2 of the number of slots.
    bits: u32,
    /// How many top bits the hashes in this segment share.
    depth: u32,
    lives: PhantomData<&'s Header>,
}

impl<const STRIDE: usize> Clone for Segment<'_, STRIDE> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<const STRIDE: usize> Copy for Segment<'_, STRIDE> {}

// SAFETY: it points to atomics, which any thread may use, and free when nobody does any more.
unsafe impl<const STRIDE: usize> Send for Segment<'_, STRIDE> {}

/// A place from which readers come to a segment.
///
/// It holds the address and, in the bits that the alignment leaves free, what is needed to find a
/// slot: a lookup goes from here to the slot at once. The header between would be one more line to
/// wait for.
#[derive(Default)]
pub(crate) struct Cell<const STRIDE: usize> {
    /// Invariant: null, or what `put` made of a segment.
    packed: AtomicPtr<Header>,
}

impl<const STRIDE: usize> Cell<STRIDE> {
    /// The segment that is here now.
    #[inline]
    pub(crate) fn get<'p>(&self, _pinned: &'p Pinned) -> Option<Segment<'p, STRIDE>> {
        // Acquire: the segment's slots were written before it was put here.
        let packed = self.packed.load(Ordering::Acquire);
        let code = (packed.addr() & CODE) as u32;
        Some(Segment {
            header: NonNull::new(packed.map_addr(|address| address & !CODE))?,
            bits: MIN_BITS + (code & ((1 << CODE_BITS) - 1)),
            depth: MIN_DEPTH + (code >> CODE_BITS),
            lives: PhantomData,
        })
    }

    /// Puts a segment here, or nothing. Under the shard's lock.
    pub(crate) fn put(&self, segment: Option<Segment<'_, STRIDE>>) {
        let packed = segment.map_or(std::ptr::null_mut(), |segment| {
            let code = (segment.bits - MIN_BITS) | ((segment.depth - MIN_DEPTH) << CODE_BITS);
            let header = segment.header.as_ptr();
            header.map_addr(|address| address | code as usize)
        });
        // Release: readers see the slots as they were written.
        let release = planted!("segment not released", Ordering::Relaxed, Ordering::Release);
        self.packed.store(packed, release);
    }
}

/// A slot's words: `[tag, pid, id words]`.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'s, const STRIDE: usize>(&'s [AtomicU64; STRIDE]);

impl<'s, const STRIDE: usize> Slot<'s, STRIDE> {
    #[inline]
    pub(crate) fn tag(self) -> u64 {
        // Acquire: the id words and the first pid were stored before it.
        self.0[0].load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn pid(self) -> Option<Pid> {
        // Acquire: whoever acts on a pid, or on its absence, sees what led to it.
        Pid::new(self.0[1].load(Ordering::Acquire))
    }

    /// The tag and the process of an entry, if there is one.
    #[inline]
    pub(crate) fn entry(self) -> Option<(u64, Pid)> {
        // In this order: a slot that has a process after it had this tag has the tag's id.
        let tag = self.tag();
        let pid = (tag != 0).then(|| self.pid())??;
        Some((tag, pid))
    }

    /// The words of the id, once `tag` said that there is one.
    #[inline]
    pub(crate) fn words(self) -> impl Iterator<Item = u64> + 's {
        // Relaxed: the load of the tag acquired them, and they never change.
        self.0[2..].iter().map(|word| word.load(Ordering::Relaxed))
    }
}

impl<'s, const STRIDE: usize> Segment<'s, STRIDE> {
    /// An empty segment that can take `live` entries. [`Segment::free`] frees it.
    pub(crate) fn with_room_for(live: usize, depth: u32) -> Self {
        // Rebuilds come at three quarters full, and must be rare: so it is two fifths full at most.
        // Half of three quarters would be too little: one more entry than that, and it would have
        // four times the slots that were full.
        let slots = (live * 5 / 2).next_power_of_two().max(FEWEST);
        let bits = slots.trailing_zeros();
        let layout = Self::layout(bits);
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(header) = NonNull::new(memory.cast()) else {
            handle_alloc_error(layout)
        };
        let new = Self {
            header,
            bits,
            depth,
            lives: PhantomData,
        };
        // SAFETY: the header and these words lie in that memory, which is zeroed and nobody else's.
        unsafe {
            make(header.as_ptr(), 1);
            make(new.first_word().as_ptr(), STRIDE * new.slots());
        }
        new
    }

    /// Of the header and so many slots.
    fn layout(bits: u32) -> Layout {
        let slots = size_of::<[AtomicU64; STRIDE]>() << bits;
        Layout::from_size_align(size_of::<Header>() + slots, align_of::<Header>())
            .unwrap_or_else(|_| unreachable!("a segment has a bounded size"))
    }

    /// How much memory it takes.
    pub(crate) fn bytes(self) -> usize {
        Self::layout(self.bits).size()
    }

    /// The same one, for whoever is to free it: it must not be read any more.
    pub(crate) fn loose(self) -> Segment<'static, STRIDE> {
        Segment {
            header: self.header,
            bits: self.bits,
            depth: self.depth,
            lives: PhantomData,
        }
    }

    /// Frees it.
    ///
    /// # Safety
    ///
    /// It is in no cell, nobody reads it, and it is not freed again.
    pub(crate) unsafe fn free(self) {
        self.header().lifetime.end();
        // Loom keeps it, to tell of those who still read it.
        if cfg!(registry_table_loom) {
            return;
        }
        // SAFETY: `with_room_for` allocated it with this layout; the rest is the caller's promise.
        unsafe { dealloc(self.header.as_ptr().cast(), Self::layout(self.bits)) };
    }

    #[inline]
    fn header(self) -> &'s Header {
        // SAFETY: by its invariant it lives for `'s`; all-zero bytes are a header.
        unsafe { self.header.as_ref() }
    }

    pub(crate) fn depth(self) -> u32 {
        self.depth
    }

    #[inline]
    pub(crate) fn slots(self) -> usize {
        1 << self.bits
    }

    pub(crate) fn live(self) -> usize {
        // Relaxed: exact under the lock, and no more than a hint without it.
        self.header().live.load(Ordering::Relaxed)
    }

    /// The first word behind the header.
    #[inline]
    fn first_word(self) -> NonNull<AtomicU64> {
        // SAFETY: by the header's invariant there are slots behind it.
        unsafe { self.header.add(1).cast() }
    }

    #[inline]
    pub(crate) fn slot(self, index: usize) -> Slot<'s, STRIDE> {
        self.header().lifetime.read();
        let index = index & (self.slots() - 1);
        // SAFETY: by the header's invariant so many slots lie behind it and live for `'s`. They are
        // zeroed atomics, aligned since the header is.
        Slot(unsafe { self.first_word().cast().add(index).as_ref() })
    }

    #[inline]
    fn home(self, hash: u64) -> usize {
        (hash << self.depth >> (u64::BITS - self.bits)) as usize
    }

    /// The slot with this tag that `same` says yes to.
    #[inline(always)]
    pub(crate) fn find(
        self,
        hash: u64,
        tag: u64,
        same: impl Fn(Slot<'s, STRIDE>) -> bool,
    ) -> Option<Slot<'s, STRIDE>> {
        let mut index = self.home(hash);
        loop {
            let slot = self.slot(index);
            match slot.tag() {
                0 => return None,
                there if there == tag && same(slot) => return Some(slot),
                _ => index += 1,
            }
        }
    }

    /// Has the processor fetch what [`Segment::find`] will look at first.
    #[inline(always)]
    pub(crate) fn prefetch(self, hash: u64) {
        let slot = std::ptr::from_ref(self.slot(self.home(hash)).0);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: it is a hint, which changes nothing that a program sees.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(slot.cast());
        }
        // Elsewhere there is no stable way to say that.
        #[cfg(not(target_arch = "x86_64"))]
        let _ = slot;
    }

    /// The slot for an id with this hash that is not there. Only if there is room.
    pub(crate) fn vacant(self, hash: u64) -> Slot<'s, STRIDE> {
        let mut index = self.home(hash);
        while self.slot(index).tag() != 0 {
            index += 1;
        }
        self.slot(index)
    }

    /// The slot that holds `pid`, whose id has this hash, and its tag.
    pub(crate) fn find_pid(self, hash: u64, pid: Pid) -> Option<(Slot<'s, STRIDE>, u64)> {
        let home = self.home(hash);
        (home..home + self.slots())
            .map(|index| self.slot(index))
            .take_while(|slot| slot.tag() != 0)
            .find_map(|slot| match slot.entry() {
                Some((tag, there)) if there == pid => Some((slot, tag)),
                _ => None,
            })
    }

    /// Whether one more slot may be taken.
    pub(crate) fn has_room(self) -> bool {
        self.header().used.load(Ordering::Relaxed) < self.slots() / 4 * 3
    }

    /// Whether so little is left that the segment should be rebuilt smaller.
    pub(crate) fn is_sparse(self) -> bool {
        self.slots() > FEWEST && self.live() < self.slots() / 8
    }

    /// Takes a free slot. Under the shard's lock, and only if there is room.
    pub(crate) fn fill(self, slot: Slot<'_, STRIDE>, tag: u64, words: &[u64], pid: Pid) {
        planted!("tag first", slot.0[0].store(tag, Ordering::Release));
        for (place, &word) in slot.0[2..].iter().zip(words) {
            // Relaxed, here and for the pid: the tag is what publishes them.
            place.store(word, Ordering::Relaxed);
        }
        slot.0[1].store(pid.word(), Ordering::Relaxed);
        // Release: see `Slot::tag`.
        let release = planted!("tag not released", Ordering::Relaxed, Ordering::Release);
        slot.0[0].store(tag, release);
        self.header().used.fetch_add(1, Ordering::Relaxed);
        self.header().live.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts a pid into a slot that has none, or takes it out. Under the shard's lock.
    pub(crate) fn set_pid(self, slot: Slot<'_, STRIDE>, pid: Option<Pid>) {
        // Release: see `Slot::pid`.
        let release = planted!("pid not released", Ordering::Relaxed, Ordering::Release);
        slot.0[1].store(pid.map_or(0, Pid::word), release);
        match pid {
            Some(_) => self.header().live.fetch_add(1, Ordering::Relaxed),
            None => self.header().live.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Has a slot whose id lay elsewhere, and that has no pid any more, match no id. Under the shard's
    /// lock.
    pub(crate) fn bury(self, slot: Slot<'_, STRIDE>) {
        // Release: who sees this tag sees that there is no pid.
        planted!(
            "buried too late",
            (),
            slot.0[0].store(GONE, Ordering::Release)
        );
    }

    /// The live entries whose hashes share the first `depth` bits with `hash`, in a new segment of
    /// that depth with room for `more`. Under the shard's lock.
    pub(crate) fn part(self, hash: u64, depth: u32, more: usize, seed: &Seed) -> Self {
        let belongs = |tag| (Self::hash(tag, seed) ^ hash) >> (u64::BITS - depth) == 0;
        let live = || {
            self.all().filter_map(|slot| {
                let (tag, pid) = slot.entry().filter(|(tag, _)| belongs(*tag))?;
                Some((slot, tag, pid))
            })
        };
        let new = Self::with_room_for(live().count() + more, depth);
        for (slot, tag, pid) in live() {
            let mut words = [0; LINE];
            let mut width = 0;
            for (to, from) in words.iter_mut().zip(slot.words()) {
                *to = from;
                width += 1;
            }
            new.fill(new.vacant(Self::hash(tag, seed)), tag, &words[..width], pid);
        }
        new
    }

    pub(crate) fn all(self) -> impl Iterator<Item = Slot<'s, STRIDE>> {
        (0..self.slots()).map(move |index| self.slot(index))
    }

    /// As much of a slot's hash as the table goes by.
    fn hash(tag: u64, seed: &Seed) -> u64 {
        if STRIDE == 2 {
            seed.hash_word(tag)
        } else {
            tag & !TAG_BITS
        }
    }

    /// Visits the live entries whose hashes are `from` or above, until `left` is used up, and takes
    /// what it used from that: one for each slot, and what `cost` says for each entry. Returns the
    /// hash to go on from, or `None` at the segment's end.
    pub(crate) fn scan(
        self,
        from: u64,
        left: &mut usize,
        seed: &Seed,
        cost: impl Fn(Slot<'_, STRIDE>, u64) -> usize,
        mut visit: impl FnMut(Slot<'_, STRIDE>, u64, Pid),
    ) -> Option<u64> {
        let first = self.home(from);
        let end = first.saturating_add(*left).min(self.slots());
        let mut next = (end < self.slots()).then(|| {
            let prefix = from >> (u64::BITS - self.depth) << (u64::BITS - self.depth);
            prefix | (end as u64) << (u64::BITS - self.depth - self.bits)
        });
        // Entries are not quite in the order of their hashes, by which the scan goes on.
        let mut costs: Vec<_> = self
            .between(from, next, seed)
            .map(|(hash, slot, tag, _)| (hash, cost(slot, tag)))
            .filter(|(_, cost)| *cost > 0)
            .collect();
        costs.sort_unstable();
        let mut used = 0_usize;
        for &(hash, cost) in &costs {
            used = used.saturating_add(cost);
            // Not before the first one, so that the scan goes on; and all of one hash together.
            if used > *left && hash > costs[0].0 {
                next = Some(hash);
                break;
            }
        }
        *left = left.saturating_sub(used.saturating_add(end - first));
        for (_, slot, tag, pid) in self.between(from, next, seed) {
            visit(slot, tag, pid);
        }
        next
    }

    /// The live entries with hashes from `from` on and before `next`, if that is not the segment's end,
    /// with their hashes and tags.
    fn between(
        self,
        from: u64,
        next: Option<u64>,
        seed: &Seed,
    ) -> impl Iterator<Item = (u64, Slot<'s, STRIDE>, u64, Pid)> {
        let first = self.home(from);
        // What has its home before this lies before the first free slot from here on.
        let end = next.map_or(self.slots(), |next| self.home(next) + 1);
        (first..first + self.slots())
            .map(move |index| (index, self.slot(index)))
            .take_while(move |(index, slot)| *index < end || slot.tag() != 0)
            .filter_map(move |(_, slot)| {
                let (tag, pid) = slot.entry()?;
                let hash = Self::hash(tag, seed);
                let within = hash >= from && next.is_none_or(|next| hash < next);
                within.then_some((hash, slot, tag, pid))
            })
    }
}

#[cfg(all(test, not(registry_table_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_segment_may_have_any_number_of_entries() {
        let pinned = crate::pin();
        for entries in [1, 100_000, 200_000, 2_000_000] {
            for depth in [MIN_DEPTH, MIN_DEPTH + 6] {
                let cell = Cell::<2>::default();
                let segment = Segment::with_room_for(entries, depth);
                cell.put(Some(segment));
                let found = cell.get(&pinned).expect("it was put there");
                assert_eq!((found.bits, found.depth), (segment.bits, depth));
                assert!(found.slots() / 4 * 3 > entries);
                // SAFETY: the cell is this test's alone, and is not read any more.
                unsafe { segment.free() };
            }
        }
    }
}
