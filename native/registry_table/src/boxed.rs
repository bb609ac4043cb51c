//! Ids that fit into no slot, and reading ids back from slots.

use crate::id::{Id, Opaque, Pid, Stored};
use crate::segment::{Segment, Slot, is_boxed, shape};

/// Words of an id that fit into a middle slot; also where a pointer to a boxed id lies.
pub(crate) const MIDDLE: usize = 2;
/// Words of an id that fit into a wide slot.
pub(crate) const WIDE: usize = 6;

/// An id that fits into no slot.
pub(crate) enum Boxed<O> {
    Words(Box<[u64]>),
    Opaque(O),
}

impl<O: Opaque> Boxed<O> {
    pub(crate) fn is(&self, id: &Id<'_, O::Probe<'_>>) -> bool {
        match (self, id) {
            (Self::Words(mine), Id::Words { words, .. }) => **mine == **words,
            (Self::Opaque(mine), Id::Opaque { probe, .. }) => mine.is(*probe),
            _ => false,
        }
    }

    /// The id in a box if it fits into no slot.
    pub(crate) fn keep(id: &Id<'_, O::Probe<'_>>) -> Option<Box<Self>> {
        Some(Box::new(match id {
            Id::Opaque { probe, .. } => Self::Opaque(O::keep(*probe)),
            Id::Words { words, .. } if words.len() > WIDE => Self::Words((*words).into()),
            Id::Word(_) | Id::Words { .. } => return None,
        }))
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
        // SAFETY: the tag is stored after the pointer, which came from a box of `keep`. It is freed
        // only through the epoch (see `shard::retire`), so not while the guard lives, and only once
        // the id's process is out of the table, so not under the lock that found it there.
        unsafe { &*pointer }
    }
}

/// The boxed ids of a segment, each with its process.
pub(crate) fn boxes<const STRIDE: usize, O: Opaque>(
    segment: Segment<'_, STRIDE>,
) -> impl Iterator<Item = (*mut Boxed<O>, Option<Pid>)> {
    let any = if STRIDE == MIDDLE + 2 { usize::MAX } else { 0 };
    let slots = segment.all().take(any);
    slots.filter(|slot| is_boxed(slot.tag())).map(|slot| {
        let pointer = slot.words().next().unwrap_or(0) as *mut Boxed<O>;
        (pointer, slot.pid())
    })
}

/// Runs `f` with the id in a slot that has one, loaded under a guard that outlives the call.
pub(crate) fn with_stored<const STRIDE: usize, O: Opaque, R>(
    slot: Slot<'_, STRIDE>,
    f: impl FnOnce(Stored<'_, O>) -> R,
) -> R {
    let tag = slot.tag();
    let mut words = [0; WIDE];
    let mut width = 0;
    for (to, from) in words.iter_mut().zip(slot.words()) {
        *to = from;
        width += 1;
    }
    let shape = shape(tag);
    match words.get(..width) {
        Some([]) | None => f(Stored::Word(tag)),
        Some(words) if !is_boxed(tag) => f(Stored::Words { shape, words }),
        // SAFETY: the caller holds a guard, and the tag says that the id is boxed.
        Some(_) => match unsafe { Boxed::<O>::of(slot) } {
            Boxed::Words(words) => f(Stored::Words { shape, words }),
            Boxed::Opaque(opaque) => f(Stored::Opaque(opaque)),
        },
    }
}
