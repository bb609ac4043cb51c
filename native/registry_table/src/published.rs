//! A value that many threads read while one replaces it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_epoch::{Atomic, Guard, Shared};

use crate::Pinned;

/// A place for an [`Arc`] that is read without touching its count.
pub struct Published<T> {
    /// Invariant: null, or what `Arc::into_raw` gave for one count that belongs to this place.
    current: Atomic<T>,
}

impl<T: Send + Sync + 'static> Published<T> {
    /// The value that is published now. It stays valid while `pinned` and the place live.
    #[inline]
    pub fn get<'p>(&'p self, pinned: &'p Pinned) -> Option<&'p T> {
        // Acquire: what was written before `set` is seen through the reference.
        let current = self.current.load(Ordering::Acquire, pinned.guard());
        // SAFETY: by the invariant this is null or points into an `Arc` with a count of its own.
        // `release` gives that count up only once every guard that could have loaded it is gone, and `Drop` waits for
        // the borrow of `self`.
        unsafe { current.as_ref() }
    }

    /// Publishes `value` in place of what was there.
    pub fn set(&self, value: Arc<T>) {
        let guard = &crossbeam_epoch::pin();
        // AcqRel: readers see what `value` holds, and dropping the old sees all writes to it.
        let old = self.current.swap(pointer(value), Ordering::AcqRel, guard);
        // SAFETY: the swap made the old pointer's count ours alone.
        unsafe { release(old, guard) };
    }

    /// Takes `value` back, unless it was replaced meanwhile.
    pub fn retract(&self, value: &Arc<T>) {
        let guard = &crossbeam_epoch::pin();
        let own = Shared::from(Arc::as_ptr(value));
        // AcqRel and Relaxed: as in `set`, and nothing follows from a failure.
        let taken = self.current.compare_exchange(
            own,
            Shared::null(),
            Ordering::AcqRel,
            Ordering::Relaxed,
            guard,
        );
        if taken.is_ok() {
            // SAFETY: the exchange made the place's count ours alone.
            unsafe { release(own, guard) };
        }
    }
}

/// A pointer that has the count of `value`.
fn pointer<'g, T>(value: Arc<T>) -> Shared<'g, T> {
    Shared::from(Arc::into_raw(value))
}

/// Gives up one count of what was published.
///
/// # Safety
///
/// The pointer is null or has a count that is the caller's, and no reader can load it any more.
unsafe fn release<T: Send + Sync>(old: Shared<'_, T>, guard: &Guard) {
    if !old.is_null() {
        // SAFETY: the count is ours by the contract above. The epoch runs this once no guard is
        // left that could have loaded the pointer; `T` is `Send` and `Sync`, so any thread may.
        unsafe { guard.defer_unchecked(move || drop(Arc::from_raw(old.as_raw()))) };
        guard.flush();
    }
}

impl<T> Default for Published<T> {
    fn default() -> Self {
        Self {
            current: Atomic::null(),
        }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // SAFETY: `&mut self` says that nobody else reads or replaces it.
        let guard = unsafe { crossbeam_epoch::unprotected() };
        let current = self.current.load(Ordering::Relaxed, guard);
        if !current.is_null() {
            // SAFETY: by the invariant, one count of this `Arc` is ours.
            drop(unsafe { Arc::from_raw(current.as_raw()) });
        }
    }
}

#[cfg(test)]
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
            crossbeam_epoch::pin().flush();
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
