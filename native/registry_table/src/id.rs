//! Ids and pids as the table sees them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU64;
use std::sync::Arc;

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

/// What cannot be written as words: kept whole, and compared by its own rules. Only [`bytes`] and
/// [`flat`] run under locks of the table; all else may take long, and none of it may call the table.
///
/// [`bytes`]: Opaque::bytes
/// [`flat`]: Opaque::flat
pub trait Opaque: Send + Sync + 'static {
    /// A borrowed form, to look up with.
    type Probe<'a>: Copy;

    /// A copy to keep.
    fn keep(probe: Self::Probe<'_>) -> Self;

    /// Whether `probe` is the same id as this one.
    fn is(&self, probe: Self::Probe<'_>) -> bool;

    /// About how many bytes it takes beside its own value and its words, if their number is known.
    fn bytes(&self) -> usize {
        0
    }

    /// What to remember it by when its process is gone, if it is small: bytes, which hold nothing else
    /// in memory.
    fn flat(&self) -> Option<Arc<Vec<u8>>> {
        None
    }
}

/// An id to look up or to insert; `P` is the [`Opaque::Probe`] of the table.
///
/// Ids of different variants or different shapes are different ids. The words of one shape are
/// either always of one number, or tell their own end: for zeros may be added to them.
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
        /// About how many words it takes; as many as there can be if nobody knows.
        words: u32,
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
    Opaque {
        /// As inserted.
        words: u32,
        /// What was kept of it.
        kept: &'a O,
    },
}

/// An id that is remembered although its process is gone.
#[derive(Clone, Copy, Debug)]
pub enum Remembered<'a, O> {
    /// As the table held it. It is no opaque one.
    Whole(Stored<'a, O>),
    /// What [`Opaque::flat`] made of an opaque one.
    Flat(&'a [u8]),
}

/// What the hashes of a table depend on besides the ids.
///
/// Ids come from users, who must not be able to choose ids whose hashes collide: so it is made of
/// what the operating system's randomness gave this process, anew for each table. A hash is a
/// folded multiplication for each two words, as in foldhash and wyhash; those crates' hashers cost
/// three times as much here, for state that words of a known number do not need.
pub(crate) struct Seed {
    start: u64,
    factor: u64,
    /// For the words that fit into a slot: with keys of their own, their multiplications need not
    /// wait for one another.
    keys: [[u64; 2]; 3],
}

impl Seed {
    pub(crate) fn random() -> Self {
        if cfg!(registry_table_loom) {
            // Loom asks for the same in each execution; with these, the models choose the hashes.
            let (start, factor, keys) = (0, 1, [[0, 1]; 3]);
            return Self {
                start,
                factor,
                keys,
            };
        }
        let random = || RandomState::new().build_hasher().finish();
        Self {
            start: random(),
            // Not one of the few factors that mix badly: neither low nor high half are zeros.
            factor: random() | 1 << 63 | 1 << 31 | 1,
            keys: [(); 3].map(|()| [random(), random()]),
        }
    }

    #[inline(always)]
    pub(crate) fn hash<P>(&self, id: &Id<'_, P>) -> u64 {
        match id {
            Id::Word(word) => self.hash_word(word.get()),
            Id::Words { shape, words } => self.hash_words(*shape, words),
            Id::Opaque { hash, .. } => self.hash_word(*hash),
        }
    }

    #[inline]
    pub(crate) fn hash_word(&self, word: u64) -> u64 {
        finish(fold(self.start ^ word, self.factor))
    }

    #[inline(always)]
    fn hash_words(&self, shape: u8, words: &[u64]) -> u64 {
        let mut hash = self.start.rotate_left(u32::from(shape));
        let mut rest = words;
        for [first_key, second_key] in self.keys {
            rest = match *rest {
                [] => return finish(hash),
                [last] => return finish(hash ^ fold(last ^ first_key, second_key)),
                [first, second, ref rest @ ..] => {
                    hash ^= fold(first ^ first_key, second ^ second_key);
                    rest
                }
            };
        }
        let (pairs, last) = rest.as_chunks::<2>();
        for [first, second] in pairs {
            hash = fold(hash ^ first, self.factor ^ second);
        }
        finish(match last {
            [last] => fold(hash ^ last, self.factor),
            _ => hash,
        })
    }
}

/// Spreads what one folded multiplication leaves in rows: of ids that count up, one table in a
/// hundred would else have clusters of dozens of slots.
#[inline]
fn finish(hash: u64) -> u64 {
    hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
