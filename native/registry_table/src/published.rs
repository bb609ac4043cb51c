//! A value that many threads read while one replaces it.

use std::ptr::null_mut;

use crate::Pinned;
use crate::epoch::drop_later;
use crate::sync::{Arc, AtomicPtr, Ordering, planted};

/// A place for an [`Arc`] that is read without touching its count.
pub struct Published<T> {
    /// Invariant: null, or what `Arc::into_raw` gave for one count that belongs to this place.
    current: AtomicPtr<T>,
}

impl<T: Send + Sync + 'static> Published<T> {
    /// The value that is published now. It stays valid while `pinned` and the place live.
    #[inline]
    pub fn get<'p>(&'p self, _pinned: &'p Pinned) -> Option<&'p T> {
        // Acquire: what was written before `set` is seen through the reference.
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: by the invariant this is null or points into an `Arc` with a count of its own.
        // `release` gives that count up only once every guard that could have loaded it is gone, and
        // `Drop` waits for the borrow of `self`.
        unsafe { current.as_ref() }
    }

    /// Publishes `value` in place of what was there.
    pub fn set(&self, value: Arc<T>) {
        let new = Arc::into_raw(value).cast_mut();
        // AcqRel: readers see what the value holds, and dropping the old sees all writes to it.
        let old = self.current.swap(new, Ordering::AcqRel);
        // SAFETY: the swap made the old pointer's count ours alone.
        unsafe { release(old) };
    }

    /// Takes `value` back, unless it was replaced meanwhile.
    pub fn retract(&self, value: &Arc<T>) {
        let own = planted!(
            "retracted unseen",
            self.current.load(Ordering::Relaxed),
            Arc::as_ptr(value).cast_mut()
        );
        // AcqRel and Relaxed: as in `set`, and nothing follows from a failure.
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let taken = self
            .current
            .compare_exchange(own, null_mut(), success, failure);
        if let Ok(own) = taken {
            // SAFETY: the exchange made the place's count ours alone.
            unsafe { release(own) };
        }
    }
}

/// Gives up one count of what was published.
///
/// # Safety
///
/// The pointer is null or has a count that is the caller's, and no reader can load it any more.
unsafe fn release<T: Send + Sync + 'static>(old: *mut T) {
    if !old.is_null() {
        // SAFETY: the count is ours by the contract above.
        drop_later(unsafe { Arc::from_raw(old) });
    }
}

impl<T> Default for Published<T> {
    fn default() -> Self {
        Self {
            current: AtomicPtr::new(null_mut()),
        }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // Relaxed: nobody else has the place any more.
        let current = self.current.load(Ordering::Relaxed);
        if !current.is_null() {
            // SAFETY: by the invariant, one count of this `Arc` is ours.
            drop(unsafe { Arc::from_raw(current) });
        }
    }
}

#[cfg(all(test, not(registry_table_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_replaced_value_lives_as_long_as_its_readers_and_no_longer() {
        let place = Published::default();
        let first = Arc::new(1);
        place.set(Arc::clone(&first));

        let pinned = crate::pin();
        let seen = place.get(&pinned);
        let second = Arc::new(2);
        place.set(Arc::clone(&second));
        place.retract(&first);
        assert_eq!(seen, Some(&1));
        assert_eq!(Arc::strong_count(&first), 2, "a reader may still look");
        drop(pinned);

        while Arc::strong_count(&first) > 1 {
            crate::collect();
        }
        let pinned = crate::pin();
        assert_eq!(place.get(&pinned), Some(&2));
        place.retract(&second);
        assert_eq!(place.get(&pinned), None);
    }

    #[test]
    fn readers_meet_only_whole_values() {
        let place = Published::default();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..20_000_u64 {
                    let value = Arc::new((n, n * 3));
                    place.set(Arc::clone(&value));
                    if n % 5 == 0 {
                        place.retract(&value);
                    }
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                let pinned = crate::pin();
                if let Some((n, triple)) = place.get(&pinned) {
                    assert_eq!(n * 3, *triple);
                }
            }
        });
    }
}
