//! Ids that fit into no slot, and reading ids back from slots.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::id::{Id, Opaque, Stored};
use crate::segment::{Segment, Slot, is_boxed, shape};
use crate::sync::{Counted, planted};

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
    #[inline]
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

    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let elsewhere = match self {
            Self::Words(words) => size_of_val(&**words),
            Self::Opaque(kept, words) => {
                let known = Some(*words as usize).filter(|_| *words < u32::MAX);
                kept.bytes() + known.unwrap_or(0) * size_of::<u64>()
            }
        };
        size_of::<Self>() + elsewhere
    }

    fn words(&self) -> usize {
        match self {
            Self::Words(words) => words.len(),
            Self::Opaque(_, words) => *words as usize,
        }
    }

    /// The boxed id of a slot that had a tag which says so.
    ///
    /// # Safety
    ///
    /// The slot is of a segment of a table of `O`, loaded from its shard under a guard that lives
    /// for `'g`, and had such a tag under that guard.
    #[inline]
    pub(crate) unsafe fn of<'g, const STRIDE: usize>(slot: Slot<'_, STRIDE>) -> &'g Self {
        // SAFETY: such a tag is stored after the pointer, which came from what `keep` made and never
        // changes. The slot's count of it is given up through the epoch only, after the tag has been
        // taken away (see `Parts::hide`): so not while the guard lives under which the tag was there.
        unsafe { &*pointer(slot) }
    }
}

/// Where the boxed id of a slot is, if it has one.
#[inline]
fn pointer<const STRIDE: usize, O>(slot: Slot<'_, STRIDE>) -> *const Boxed<O> {
    slot.words().next().unwrap_or(0) as *const Boxed<O>
}

/// The boxed ids of a segment.
pub(crate) fn boxes<const STRIDE: usize, O: Opaque>(
    segment: Segment<'_, STRIDE>,
) -> impl Iterator<Item = *const Boxed<O>> {
    let any = if has_boxes::<STRIDE>() { usize::MAX } else { 0 };
    let slots = segment.all().take(any);
    slots.filter(|slot| is_boxed(slot.tag())).map(pointer)
}

/// Whether slots of this size may have pointers to boxed ids. The tag of a smaller one is an id.
const fn has_boxes<const STRIDE: usize>() -> bool {
    STRIDE == MIDDLE + 2
}

/// Whether the id of a slot with this tag is a boxed one.
pub(crate) fn has_box<const STRIDE: usize>(tag: u64) -> bool {
    has_boxes::<STRIDE>() && is_boxed(tag)
}

/// Runs `f` with the id of a slot that had this tag, under a guard that outlives the call.
pub(crate) fn with_stored<const STRIDE: usize, O: Opaque, R>(
    slot: Slot<'_, STRIDE>,
    tag: u64,
    f: impl FnOnce(Stored<'_, O>) -> R,
) -> R {
    if has_box::<STRIDE>(tag) {
        // SAFETY: the slot had this tag under the caller's guard, and the tag says that the id is boxed.
        return f(unsafe { Boxed::<O>::of(slot) }.stored(shape(tag)));
    }
    InPlace::of(tag, slot).with(f)
}

/// How many slots the id of a slot that had this tag would fill, beside its own, under a guard.
pub(crate) fn slots_beside<const STRIDE: usize, O: Opaque>(
    slot: Slot<'_, STRIDE>,
    tag: u64,
) -> usize {
    if has_box::<STRIDE>(tag) {
        // SAFETY: as in `with_stored`.
        unsafe { Boxed::<O>::of(slot) }.words() / WIDE
    } else {
        0
    }
}

/// Which boxed ids are the same as one, as far as they were compared with it: that may take long and
/// be the caller's code, so it is done without a lock. Under the lock, the ids' addresses tell which
/// is which. They are of no others while the guard lives under which the ids were compared.
#[derive(Default)]
pub(crate) struct Compared {
    /// By addresses.
    known: RefCell<HashMap<usize, bool, FixedState>>,
    missed: Cell<bool>,
}

impl Compared {
    /// Whether a slot's boxed id is `id`.
    ///
    /// # Safety
    ///
    /// As for [`Boxed::of`], under one guard for all calls of this value.
    pub(crate) unsafe fn compare<const STRIDE: usize, O: Opaque>(
        &self,
        slot: Slot<'_, STRIDE>,
        id: &Id<'_, O::Probe<'_>>,
    ) -> bool {
        let mut known = self.known.borrow_mut();
        let address = pointer::<STRIDE, O>(slot).addr();
        // SAFETY: by the contract above.
        *known
            .entry(address)
            .or_insert_with(|| unsafe { Boxed::<O>::of(slot) }.is(id))
    }

    /// Whether a slot's boxed id was found to be the same. If it was not compared, it is missed.
    pub(crate) fn is<const STRIDE: usize, O>(&self, slot: Slot<'_, STRIDE>) -> bool {
        let address = pointer::<STRIDE, O>(slot).addr();
        let known = self.known.borrow().get(&address).copied();
        known.unwrap_or_else(|| {
            self.missed.set(planted!("came unseen", false, true));
            false
        })
    }

    /// Whether one was missed since this was asked last.
    pub(crate) fn has_missed(&self) -> bool {
        self.missed.take()
    }
}

/// An id out of a slot, which it outlives.
pub(crate) enum Kept<O> {
    InPlace(InPlace),
    Boxed(u8, Counted<Boxed<O>>),
}

impl<O: Opaque> Kept<O> {
    /// The id of a slot that had this tag, under a guard.
    pub(crate) fn of<const STRIDE: usize>(slot: Slot<'_, STRIDE>, tag: u64) -> Self {
        if !has_box::<STRIDE>(tag) {
            return Self::InPlace(InPlace::of(tag, slot));
        }
        // SAFETY: as in `with_stored`. The slot's count of it is not given up yet, see `Boxed::of`, so
        // there may be one more.
        let boxed = unsafe {
            let pointer = std::ptr::from_ref(Boxed::<O>::of(slot));
            Counted::increment_strong_count(pointer);
            Counted::from_raw(pointer)
        };
        Self::Boxed(shape(tag), boxed)
    }

    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let boxed = match self {
            Self::InPlace(_) => 0,
            Self::Boxed(_, boxed) => boxed.bytes(),
        };
        size_of::<Self>() + boxed
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
