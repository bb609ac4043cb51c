//! Keeping what was read from being freed.

use crossbeam_epoch::Guard;

/// While it lives, nothing that was read under it is freed.
///
/// A type of its own, so that no guard of another collector can take its place, which would
/// protect nothing.
pub struct Pinned(Guard);

/// Begins to read. It costs some nanoseconds, and holds up nobody but the memory that others want
/// to free.
#[inline]
pub fn pin() -> Pinned {
    Pinned(crossbeam_epoch::pin())
}

impl Pinned {
    #[inline]
    pub(crate) fn guard(&self) -> &Guard {
        &self.0
    }
}
