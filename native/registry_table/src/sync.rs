//! Atomics, locks, and what is made of them: the usual ones, or with `--cfg registry_table_loom`
//! those of loom, which plays through the orders in which threads may meet (see `models.rs`).
//! Nothing else in the crate names either.

#[cfg(not(registry_table_loom))]
pub(crate) use usual::*;

#[cfg(registry_table_loom)]
pub(crate) use modelled::*;

/// For what has an owner more than its slot. Loom's would make its models longer, and std's has been
/// modelled elsewhere.
pub(crate) use std::sync::Arc as Counted;

/// The first number; the second where loom has to play through everything.
pub(crate) const fn sized(usual: usize, modelled: usize) -> usize {
    if cfg!(registry_table_loom) {
        modelled
    } else {
        usual
    }
}

#[cfg(not(registry_table_loom))]
mod usual {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence,
    };

    pub(crate) use once_cell::race::OnceBox;
    pub(crate) use parking_lot::{Mutex, MutexGuard};

    macro_rules! statics {
        ($($(#[$attribute:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
            $($(#[$attribute])* static $name: $type = $value;)*
        };
    }

    macro_rules! locals {
        ($($(#[$attribute:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
            std::thread_local! {
                $($(#[$attribute])* static $name: $type = const { $value };)*
            }
        };
    }

    /// The right one. The wrong one is a fault that the models must find.
    macro_rules! planted {
        ($name:literal, $wrong:expr, $right:expr) => {
            $right
        };
        ($name:literal, $wrong:expr) => {};
    }

    /// Loom's atomics are not made at compile time.
    macro_rules! const_unless_modelled {
        ($(#[$attribute:meta])* pub $($function:tt)*) => {
            $(#[$attribute])* pub const $($function)*
        };
    }

    pub(crate) use {const_unless_modelled, locals, planted, statics};

    /// Tells loom who reads a piece of memory, and that it is freed. Here it is nothing.
    #[derive(Default)]
    pub(crate) struct Lifetime;

    impl Lifetime {
        #[inline(always)]
        pub(crate) fn read(&self) {}

        #[inline(always)]
        pub(crate) fn end(&self) {}
    }

    /// Makes so many values out of zeros, which they are already.
    ///
    /// # Safety
    ///
    /// There are so many zeroed ones, and zeros are a value of this type.
    #[inline(always)]
    pub(crate) unsafe fn make<T: Default>(_first: *mut T, _count: usize) {}
}

#[cfg(registry_table_loom)]
mod modelled {
    use std::sync::OnceLock;

    use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::Arc;
    use loom::sync::Mutex as LoomMutex;
    pub(crate) use loom::sync::MutexGuard;
    use loom::sync::atomic;
    pub(crate) use loom::sync::atomic::{Ordering, fence};
    pub(crate) use std::sync::atomic::compiler_fence;

    /// Of each atomic, loom 0.7 remembers the last access only when it looks for what else might
    /// have come first. So it does not try a store before another thread's load if the storing thread
    /// itself loaded the value in between, as writers here do under their lock. A store to `clash`,
    /// which nobody loads and which therefore orders nothing, makes every access meet every other.
    macro_rules! atomics {
        ($($name:ident $(<$parameter:ident>)?: $value:ty, { $($number:tt)* })*) => {$(
            pub(crate) struct $name $(<$parameter>)? {
                value: atomic::$name $(<$parameter>)?,
                clash: atomic::AtomicBool,
            }

            #[allow(dead_code, reason = "not all have all of the calls")]
            impl $(<$parameter>)? $name $(<$parameter>)? {
                pub(crate) fn new(value: $value) -> Self {
                    Self {
                        value: atomic::$name::new(value),
                        clash: atomic::AtomicBool::new(false),
                    }
                }

                fn value(&self) -> &atomic::$name $(<$parameter>)? {
                    self.clash.store(true, Ordering::Relaxed);
                    &self.value
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    self.value().load(order)
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    self.value().store(value, order);
                }

                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.value().swap(value, order)
                }

                pub(crate) fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.value().compare_exchange(current, new, success, failure)
                }

                /// Loom's does not fail for nothing either.
                pub(crate) fn compare_exchange_weak(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.compare_exchange(current, new, success, failure)
                }

                $($number)*
            }
        )*};
    }

    macro_rules! numbers {
        ($($name:ident: $value:ty;)*) => {
            atomics! {$(
                $name: $value, {
                    pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                        self.value().fetch_add(value, order)
                    }

                    pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                        self.value().fetch_sub(value, order)
                    }
                }
            )*}

            $(impl Default for $name {
                fn default() -> Self {
                    Self::new(0)
                }
            })*
        };
    }

    numbers! { AtomicU32: u32; AtomicU64: u64; AtomicUsize: usize; }

    atomics! { AtomicBool: bool, {} AtomicPtr<T>: *mut T, {} }

    impl Default for AtomicBool {
        fn default() -> Self {
            Self::new(false)
        }
    }

    impl<T> Default for AtomicPtr<T> {
        fn default() -> Self {
            Self::new(std::ptr::null_mut())
        }
    }

    /// Loom's statics begin anew with each execution.
    macro_rules! statics {
        ($($(#[$attribute:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
            loom::lazy_static! { $($(#[$attribute])* static ref $name: $type = $value;)* }
        };
    }

    macro_rules! locals {
        ($($(#[$attribute:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
            loom::thread_local! { $($(#[$attribute])* static $name: $type = $value;)* }
        };
    }

    macro_rules! planted {
        ($name:literal, $wrong:expr, $right:expr) => {
            if $crate::sync::is_planted($name) {
                $wrong
            } else {
                $right
            }
        };
        ($name:literal, $wrong:expr) => {
            planted!($name, $wrong, ())
        };
    }

    macro_rules! const_unless_modelled {
        ($(#[$attribute:meta])* pub $($function:tt)*) => {
            $(#[$attribute])* pub $($function)*
        };
    }

    pub(crate) use {const_unless_modelled, locals, planted, statics};

    /// Whether the models are to find this fault.
    pub(crate) fn is_planted(name: &str) -> bool {
        static NAME: OnceLock<Option<String>> = OnceLock::new();
        let planted = NAME.get_or_init(|| std::env::var("REGISTRY_TABLE_PLANTED").ok());
        planted.as_deref() == Some(name)
    }

    /// A piece of memory, of which loom sees whether one may read it when another frees it.
    #[derive(Default)]
    pub(crate) struct Lifetime {
        ended: UnsafeCell<bool>,
    }

    // SAFETY: it may be used from any thread, since loom panics where that is wrong.
    unsafe impl Sync for Lifetime {}

    impl Lifetime {
        pub(crate) fn read(&self) {
            // SAFETY: loom panics if `end` may run beside this.
            self.ended
                .with(|ended| assert!(!unsafe { *ended }, "read after it was freed"));
        }

        pub(crate) fn end(&self) {
            self.ended.with_mut(|ended| {
                // SAFETY: as in `read`.
                let ended = unsafe { &mut *ended };
                assert!(!*ended, "freed twice");
                *ended = true;
            });
        }
    }

    /// Loom's atomics are not made of zeros.
    ///
    /// # Safety
    ///
    /// There is room for so many, and nothing to drop there.
    pub(crate) unsafe fn make<T: Default>(first: *mut T, count: usize) {
        for nth in 0..count {
            // SAFETY: by the contract above.
            unsafe { first.add(nth).write(T::default()) };
        }
    }

    /// As parking_lot's, which does not know of poison.
    pub(crate) struct Mutex<T>(LoomMutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(LoomMutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a model that panics is over")
        }
    }

    /// As once_cell's.
    #[derive(Default)]
    pub(crate) struct OnceBox<T> {
        place: AtomicPtr<T>,
    }

    impl<T> OnceBox<T> {
        pub(crate) fn new() -> Self {
            let place = AtomicPtr::default();
            Self { place }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            // SAFETY: null, or what `get_or_init` leaked.
            unsafe { self.place.load(Ordering::Acquire).as_ref() }
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> Box<T>) -> &T {
            if let Some(there) = self.get() {
                return there;
            }
            let new = Box::into_raw(make());
            let (acq_rel, acquire) = (Ordering::AcqRel, Ordering::Acquire);
            let null = std::ptr::null_mut();
            let there = match self.place.compare_exchange(null, new, acq_rel, acquire) {
                Ok(_) => new,
                Err(there) => there,
            };
            // SAFETY: it was leaked, here or by whoever came first.
            unsafe { &*there }
        }
    }
}
