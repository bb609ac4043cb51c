//! One open-addressed array of slots: the part of a shard that readers walk.
//!
//! A slot is `STRIDE` words, never across a cache line: its tag, its pid, and the words of its id.
//! The tag is the id itself in segments of two-word slots, and the id's hash and shape elsewhere.
//!
//! # Life of a slot
//!
//! It is written under the shard's lock and read without. A free slot has tag zero; the tag is
//! stored last, and then neither tag nor id words change for as long as the segment lives. Only the
//! pid does: a removal stores zero there, and the same id inserted again stores its new pid. What a
//! rebuild copies into a new segment is frozen in the old one.
//!
//! A slot's home is the top bits of its hash below those that all of the segment share, so a segment
//! is in the order of its hashes but for the entries that a cluster pushed on. A scan therefore goes by
//! hash and need not care how often the segment is rebuilt meanwhile.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::id::{Pid, Seed};

/// The low bits of a tag that are not the hash's.
const TAG_BITS: u64 = 0x3FF;
/// Marks a slot whose id lies elsewhere: its first word is a pointer.
const BOXED: u64 = 0x100;
/// Keeps a tag from being zero.
const TAKEN: u64 = 0x200;

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

const LINE: usize = 8;

#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; LINE]);

pub(crate) struct Segment<const STRIDE: usize> {
    lines: Box<[Line]>,
    /// Log2 of the number of slots.
    bits: u32,
    /// How many top bits the hashes in this segment share.
    depth: u32,
    seed: Seed,
    /// Slots whose tag is not zero. Written under the shard's lock.
    /// Invariant: leaves free slots, so that every search ends.
    used: AtomicUsize,
    /// Slots whose pid is not zero. Written under the shard's lock.
    live: AtomicUsize,
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

    /// The words of the id, once `tag` said that there is one.
    #[inline]
    pub(crate) fn words(self) -> impl Iterator<Item = u64> + 's {
        // Relaxed: the load of the tag acquired them, and they never change.
        self.0[2..].iter().map(|word| word.load(Ordering::Relaxed))
    }
}

impl<const STRIDE: usize> Segment<STRIDE> {
    /// An empty segment that can take `live` entries.
    pub(crate) fn with_room_for(live: usize, depth: u32, seed: Seed) -> Self {
        // At most three quarters full, and half that after a rebuild, so that rebuilds are rare.
        let slots = (live * 8 / 3).next_power_of_two().max(LINE);
        Self {
            lines: std::iter::repeat_with(Line::default)
                .take(slots * STRIDE / LINE)
                .collect(),
            bits: slots.trailing_zeros(),
            depth,
            seed,
            used: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
        }
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    pub(crate) fn slots(&self) -> usize {
        1 << self.bits
    }

    pub(crate) fn live(&self) -> usize {
        // Relaxed: exact under the lock, and no more than a hint without it.
        self.live.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn slot(&self, index: usize) -> Slot<'_, STRIDE> {
        let index = index & (self.slots() - 1);
        let per_line = LINE / STRIDE;
        let (slots, _) = self.lines[index / per_line].0.as_chunks();
        Slot(&slots[index % per_line])
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash << self.depth >> (u64::BITS - self.bits)) as usize
    }

    /// The slot with this tag that `same` says yes to.
    #[inline]
    pub(crate) fn find(
        &self,
        hash: u64,
        tag: u64,
        same: impl Fn(Slot<'_, STRIDE>) -> bool,
    ) -> Option<Slot<'_, STRIDE>> {
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

    /// The slot for an id with this hash that is not there. Only if there is room.
    pub(crate) fn free(&self, hash: u64) -> Slot<'_, STRIDE> {
        let mut index = self.home(hash);
        while self.slot(index).tag() != 0 {
            index += 1;
        }
        self.slot(index)
    }

    /// The slot that holds `pid`, whose id has this hash.
    pub(crate) fn find_pid(&self, hash: u64, pid: Pid) -> Option<Slot<'_, STRIDE>> {
        let home = self.home(hash);
        (home..home + self.slots())
            .map(|index| self.slot(index))
            .take_while(|slot| slot.tag() != 0)
            .find(|slot| slot.pid() == Some(pid))
    }

    /// Whether one more slot may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.slots() / 4 * 3
    }

    /// Whether so little is left that the segment should be rebuilt smaller.
    pub(crate) fn is_sparse(&self) -> bool {
        self.slots() > LINE && self.live() < self.slots() / 8
    }

    /// Takes a free slot. Under the shard's lock, and only if there is room.
    pub(crate) fn fill(&self, slot: Slot<'_, STRIDE>, tag: u64, words: &[u64], pid: Pid) {
        for (place, &word) in slot.0[2..].iter().zip(words) {
            // Relaxed, here and for the pid: the tag is what publishes them.
            place.store(word, Ordering::Relaxed);
        }
        slot.0[1].store(pid.word(), Ordering::Relaxed);
        // Release: see `Slot::tag`.
        slot.0[0].store(tag, Ordering::Release);
        self.used.fetch_add(1, Ordering::Relaxed);
        self.live.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts a pid into a slot that has none, or takes it out. Under the shard's lock.
    pub(crate) fn set_pid(&self, slot: Slot<'_, STRIDE>, pid: Option<Pid>) {
        // Release: see `Slot::pid`.
        slot.0[1].store(pid.map_or(0, Pid::word), Ordering::Release);
        match pid {
            Some(_) => self.live.fetch_add(1, Ordering::Relaxed),
            None => self.live.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// The live entries whose hashes share the first `depth` bits with `hash`, in a new segment of
    /// that depth with room for `more`. Under the shard's lock.
    pub(crate) fn part(&self, hash: u64, depth: u32, more: usize) -> Self {
        let belongs = |tag| (self.hash(tag) ^ hash) >> (u64::BITS - depth) == 0;
        let live = || {
            self.all()
                .filter_map(|slot| match (slot.tag(), slot.pid()) {
                    (tag, Some(pid)) if belongs(tag) => Some((slot, tag, pid)),
                    _ => None,
                })
        };
        let new = Self::with_room_for(live().count() + more, depth, self.seed);
        for (slot, tag, pid) in live() {
            let mut words = [0; LINE];
            let mut width = 0;
            for (to, from) in words.iter_mut().zip(slot.words()) {
                *to = from;
                width += 1;
            }
            new.fill(new.free(self.hash(tag)), tag, &words[..width], pid);
        }
        new
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Slot<'_, STRIDE>> {
        (0..self.slots()).map(|index| self.slot(index))
    }

    /// As much of a slot's hash as the table goes by.
    fn hash(&self, tag: u64) -> u64 {
        if STRIDE == 2 {
            self.seed.hash_word(tag)
        } else {
            tag & !TAG_BITS
        }
    }

    /// Visits the live entries whose hashes are `from` or above, over at most `limit` homes, and
    /// answers the hash to go on from, or `None` at the segment's end.
    pub(crate) fn scan(
        &self,
        from: u64,
        limit: usize,
        mut visit: impl FnMut(Slot<'_, STRIDE>, Pid),
    ) -> Option<u64> {
        let first = self.home(from);
        let end = first.saturating_add(limit).min(self.slots());
        let next = (end < self.slots()).then(|| {
            let prefix = from >> (u64::BITS - self.depth) << (u64::BITS - self.depth);
            prefix | (end as u64) << (u64::BITS - self.depth - self.bits)
        });
        for index in first..first + self.slots() {
            let slot = self.slot(index);
            let tag = slot.tag();
            // What has its home before `end` lies before the first free slot from there on.
            if tag == 0 {
                if index >= end {
                    break;
                }
                continue;
            }
            let hash = self.hash(tag);
            if hash >= from
                && next.is_none_or(|next| hash < next)
                && let Some(pid) = slot.pid()
            {
                visit(slot, pid);
            }
        }
        next
    }
}
