//! From the name of a registry to its slot, in a couple of nanoseconds.

use crate::sync::{AtomicU64, OnceBox, Ordering, const_unless_modelled, planted, sized};

/// How many names the first block holds; each further block holds twice as many.
const FIRST: usize = sized(256, 1);

/// How many places of a block a name may take.
const WINDOW: usize = sized(8, 2);

/// A map from names to slots that only grows: a name's slot is never freed and never moves, so
/// finding it takes no lock, no count of references, and two loads in the usual case.
///
/// Names are atoms of the VM, which are never freed either.
pub struct Names<S: 'static> {
    first: OnceBox<Block<S>>,
}

struct Block<S: 'static> {
    places: Box<[Place<S>]>,
    next: OnceBox<Block<S>>,
}

#[derive(Default)]
struct Place<S> {
    /// Invariant: goes from zero, a free place, to a name once, and stays.
    name: AtomicU64,
    slot: S,
}

impl<S: Default + Sync> Names<S> {
    const_unless_modelled! {
        /// No names yet.
        pub fn new() -> Self {
            Self {
                first: OnceBox::new(),
            }
        }
    }

    /// The slot of `name`, which is not zero, if it was ever claimed.
    #[inline]
    pub fn get(&'static self, name: u64) -> Option<&'static S> {
        let place = self.first.get()?.place(name, 0);
        // Relaxed: the slot was made with its block, whose pointer was acquired above.
        if place.name.load(Ordering::Relaxed) == name {
            return Some(&place.slot);
        }
        self.search(name)
    }

    #[cold]
    fn search(&'static self, name: u64) -> Option<&'static S> {
        let mut block = self.first.get();
        while let Some(here) = block {
            for nth in 0..WINDOW {
                let place = here.place(name, nth);
                // Relaxed: as in `get`.
                match place.name.load(Ordering::Relaxed) {
                    taken if taken == name => return Some(&place.slot),
                    0 => return None,
                    _ => {}
                }
            }
            block = here.next.get();
        }
        None
    }

    /// The slots of all names.
    pub fn slots(&'static self) -> impl Iterator<Item = &'static S> {
        let blocks = std::iter::successors(self.first.get(), |block| block.next.get());
        // Relaxed: as in `get`.
        let is_claimed = |place: &&Place<S>| place.name.load(Ordering::Relaxed) != 0;
        let places = blocks.flat_map(|block| &block.places);
        places.filter(is_claimed).map(|place| &place.slot)
    }

    /// The slot of `name`, made if need be. `name` is not zero.
    pub fn claim(&'static self, name: u64) -> &'static S {
        assert_ne!(name, 0, "zero marks a free place");
        let mut block = self.first.get_or_init(|| Block::new(FIRST));
        loop {
            for nth in 0..WINDOW {
                let place = block.place(name, nth);
                // Relaxed: as in `get`, the name is all that is written here.
                match place
                    .name
                    .compare_exchange(0, name, Ordering::Relaxed, Ordering::Relaxed)
                {
                    Ok(_) => return &place.slot,
                    Err(_) if planted!("place taken twice", true, false) => return &place.slot,
                    Err(taken) if taken == name => return &place.slot,
                    Err(_) => {}
                }
            }
            let places = block.places.len() * 2;
            block = block.next.get_or_init(|| Block::new(places));
        }
    }
}

impl<S: Default + Sync> Default for Names<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Default> Block<S> {
    fn new(places: usize) -> Box<Self> {
        Box::new(Self {
            places: std::iter::repeat_with(Place::default)
                .take(places)
                .collect(),
            next: OnceBox::new(),
        })
    }

    /// The nth place where this name may be.
    #[inline]
    fn place(&self, name: u64, nth: usize) -> &Place<S> {
        // Names are the application's own, so a plain multiplicative hash will do.
        let home = (name.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
        &self.places[(home + nth) & (self.places.len() - 1)]
    }
}

#[cfg(all(test, not(registry_table_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_name_keeps_its_own_slot() {
        static NAMES: Names<AtomicUsize> = Names::new();
        let names = 1..=5_000_u64;

        assert!(NAMES.get(1).is_none());
        for name in names.clone() {
            NAMES.claim(name).store(name as usize, Ordering::Relaxed);
        }
        for name in names {
            let slot = NAMES.get(name).expect("claimed above");
            assert_eq!(slot.load(Ordering::Relaxed), name as usize);
            assert!(std::ptr::eq(slot, NAMES.claim(name)));
        }
        assert!(NAMES.get(5_001).is_none());
        let mut slots: Vec<_> = NAMES
            .slots()
            .map(|slot| slot.load(Ordering::Relaxed))
            .collect();
        slots.sort_unstable();
        assert!(slots.into_iter().eq(1..=5_000));
    }

    #[test]
    fn racing_claims_agree() {
        static NAMES: Names<AtomicUsize> = Names::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for name in 1..=2_000 {
                        NAMES.claim(name).fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        for name in 1..=2_000 {
            let slot = NAMES.get(name).expect("claimed above");
            assert_eq!(slot.load(Ordering::Relaxed), 4, "name {name}");
        }
    }
}
