//! Ids that fit into no slot, and reading ids back from slots.

use crate::id::{Id, Opaque, Pid, Stored};
use crate::segment::{Segment, Slot, is_boxed, shape};
use crate::sync::Counted;

/// Words of an id that fit into a middle slot; also where a pointer to a boxed id lies.
pub(crate) const MIDDLE: usize = 2;
/// Words of an id that fit into a wide slot.
pub(crate) const WIDE: usize = 6;

/// An id that fits into no slot.
pub(crate) enum Boxed<O> {
    Words(Box<[u64]>),
    /// With the number of words that it takes.
    Opaque(O, u32),
}

impl<O: Opaque> Boxed<O> {
    pub(crate) fn is(&self, id: &Id<'_, O::Probe<'_>>) -> bool {
        match (self, id) {
            (Self::Words(mine), Id::Words { words, .. }) => **mine == **words,
            (Self::Opaque(mine, _), Id::Opaque { probe, .. }) => mine.is(*probe),
            _ => false,
        }
    }

    fn stored(&self, shape: u8) -> Stored<'_, O> {
        match self {
            Self::Words(words) => Stored::Words { shape, words },
            Self::Opaque(kept, words) => Stored::Opaque {
                words: *words,
                kept,
            },
        }
    }

    /// The id in a box if it fits into no slot.
    pub(crate) fn keep(id: &Id<'_, O::Probe<'_>>) -> Option<Counted<Self>> {
        Some(Counted::new(match id {
            Id::Opaque { probe, words, .. } => Self::Opaque(O::keep(*probe), *words),
            Id::Words { words, .. } if words.len() > WIDE => Self::Words((*words).into()),
            Id::Word(_) | Id::Words { .. } => return None,
        }))
    }

    /// How much memory it takes, but for what an `Opaque` has elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        let words = match self {
            Self::Words(words) => size_of_val(&**words),
            Self::Opaque(..) => 0,
        };
        size_of::<Self>() + words
    }

    /// The boxed id of a slot whose tag says that it has one.
    ///
    /// # Safety
    ///
    /// The slot is of a segment of a table of `O`, loaded from its shard under a guard that lives
    /// for `'g`, or under the shard's lock.
    #[inline]
    pub(crate) unsafe fn of<'g, const STRIDE: usize>(slot: Slot<'_, STRIDE>) -> &'g Self {
        let pointer = slot.words().next().unwrap_or(0) as *const Self;
        // SAFETY: the tag is stored after the pointer, which came from what `keep` made. The slot's
        // count of it is given up only through the epoch (see `shard::retire`), so not while the guard
        // lives, and only once the id's process is out of the table, so not under the lock that found
        // it there.
        unsafe { &*pointer }
    }
}

/// The boxed ids of a segment, each with its process.
pub(crate) fn boxes<const STRIDE: usize, O: Opaque>(
    segment: Segment<'_, STRIDE>,
) -> impl Iterator<Item = (*const Boxed<O>, Option<Pid>)> {
    let any = if STRIDE == MIDDLE + 2 { usize::MAX } else { 0 };
    let slots = segment.all().take(any);
    slots.filter(|slot| is_boxed(slot.tag())).map(|slot| {
        let pointer = slot.words().next().unwrap_or(0) as *const Boxed<O>;
        (pointer, slot.pid())
    })
}

/// Runs `f` with the id in a slot that has one, loaded under a guard that outlives the call.
pub(crate) fn with_stored<const STRIDE: usize, O: Opaque, R>(
    slot: Slot<'_, STRIDE>,
    f: impl FnOnce(Stored<'_, O>) -> R,
) -> R {
    let tag = slot.tag();
    if is_boxed(tag) && STRIDE > 2 {
        // SAFETY: the caller holds a guard, and the tag says that the id is boxed.
        return f(unsafe { Boxed::<O>::of(slot) }.stored(shape(tag)));
    }
    InPlace::of(tag, slot).with(f)
}

/// An id out of a slot, which it outlives.
pub(crate) enum Kept<O> {
    InPlace(InPlace),
    Boxed(u8, Counted<Boxed<O>>),
}

impl<O: Opaque> Kept<O> {
    /// The id in a slot that has one, loaded under a guard or under the shard's lock.
    pub(crate) fn of<const STRIDE: usize>(slot: Slot<'_, STRIDE>) -> Self {
        let tag = slot.tag();
        if !is_boxed(tag) || STRIDE == 2 {
            return Self::InPlace(InPlace::of(tag, slot));
        }
        // SAFETY: the caller holds a guard or the lock, and the tag says that the id is boxed. The
        // slot has a count of it, see `Boxed::of`, so there may be one more.
        let boxed = unsafe {
            let pointer = std::ptr::from_ref(Boxed::<O>::of(slot));
            Counted::increment_strong_count(pointer);
            Counted::from_raw(pointer)
        };
        Self::Boxed(shape(tag), boxed)
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(Stored<'_, O>) -> R) -> R {
        match self {
            Self::InPlace(in_place) => in_place.with(f),
            Self::Boxed(shape, boxed) => f(boxed.stored(*shape)),
        }
    }
}

// Not derived, which would ask it of `O` too.
impl<O> Clone for Kept<O> {
    fn clone(&self) -> Self {
        match self {
            Self::InPlace(in_place) => Self::InPlace(*in_place),
            Self::Boxed(shape, boxed) => Self::Boxed(*shape, Counted::clone(boxed)),
        }
    }
}

/// The tag and the words of a slot that has all of its id.
#[derive(Clone, Copy)]
pub(crate) struct InPlace {
    tag: u64,
    words: [u64; WIDE],
    width: u8,
}

impl InPlace {
    #[inline]
    fn of<const STRIDE: usize>(tag: u64, slot: Slot<'_, STRIDE>) -> Self {
        let mut words = [0; WIDE];
        for (to, from) in words.iter_mut().zip(slot.words()) {
            *to = from;
        }
        let width = (STRIDE - 2) as u8;
        Self { tag, words, width }
    }

    #[inline]
    fn with<O: Opaque, R>(&self, f: impl FnOnce(Stored<'_, O>) -> R) -> R {
        let shape = shape(self.tag);
        match &self.words[..usize::from(self.width)] {
            [] => f(Stored::Word(self.tag)),
            words => f(Stored::Words { shape, words }),
        }
    }
}
