//! Ids and pids as the table sees them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU64;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use once_cell::sync::Lazy;

/// A process, as one word that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pid(NonZeroU64);

impl Pid {
    /// The pid made of `word`, unless that is zero.
    #[inline]
    pub fn new(word: u64) -> Option<Self> {
        NonZeroU64::new(word).map(Self)
    }

    /// The word this pid is made of.
    #[inline]
    pub fn word(self) -> u64 {
        self.0.get()
    }
}

/// What cannot be written as words: kept whole, and compared by its own rules.
pub trait Opaque: Send + Sync + 'static {
    /// A borrowed form, to look up with.
    type Probe<'a>: Copy;

    /// A copy to keep.
    fn keep(probe: Self::Probe<'_>) -> Self;

    /// Whether `probe` is the same id as this one.
    fn is(&self, probe: Self::Probe<'_>) -> bool;
}

/// An id to look up or to insert; `P` is the [`Opaque::Probe`] of the table.
///
/// Ids of different variants or different shapes are different ids. Two `Words` of one shape are
/// the same id when their words are, not counting zeros at the end: the shape, or the words
/// themselves, must tell how many there are.
#[derive(Clone, Copy, Debug)]
pub enum Id<'a, P> {
    /// One word, not zero: the form that takes the least room.
    Word(NonZeroU64),
    /// Any number of words.
    Words {
        /// Tells apart ids of different kinds that have the same words.
        shape: u8,
        /// The id's words.
        words: &'a [u64],
    },
    /// An id of which only a hash is known here.
    Opaque {
        /// Equal for equal ids.
        hash: u64,
        /// The id itself.
        probe: P,
    },
}

/// An id as the table holds it.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a, O> {
    /// What was inserted as [`Id::Word`].
    Word(u64),
    /// What was inserted as [`Id::Words`], perhaps with zeros added at the end.
    Words {
        /// As inserted.
        shape: u8,
        /// As inserted, then zeros.
        words: &'a [u64],
    },
    /// What was inserted as [`Id::Opaque`].
    Opaque(&'a O),
}

/// An [`Id`] with its hash.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a, P> {
    pub(crate) id: Id<'a, P>,
    pub(crate) hash: u64,
}

impl<'a, P> Key<'a, P> {
    /// Hashes `id`.
    #[inline]
    pub fn new(id: Id<'a, P>) -> Self {
        let hash = match &id {
            Id::Word(word) => hash_word(word.get()),
            Id::Words { shape, words } => hash_words(*shape, words),
            Id::Opaque { hash, .. } => hash_word(*hash),
        };
        Self { id, hash }
    }
}

/// Ids come from users, who must not be able to choose ids whose hashes collide: the hash is keyed
/// with what the operating system's randomness gave this process.
static HASHER: Lazy<SeedableRandomState> = Lazy::new(|| {
    let random = || RandomState::new().build_hasher().finish();
    let shared = Box::leak(Box::new(SharedSeed::from_u64(random())));
    SeedableRandomState::with_seed(random(), shared)
});

#[inline]
pub(crate) fn hash_word(word: u64) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write_u64(word);
    hasher.finish()
}

#[inline]
fn hash_words(shape: u8, words: &[u64]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write_u8(shape);
    for &word in words {
        hasher.write_u64(word);
    }
    hasher.finish()
}
