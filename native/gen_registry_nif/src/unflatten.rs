//! Ids as terms again, for those who list them.

use registry_table::Stored;
use rustler::{Encoder, Env, NewBinary, Term};
use smallvec::SmallVec;

use crate::copied::Copied;
use crate::timeslice::{VM_WORD, WORD};
use crate::words::*;

/// The terms in a term. Most have few.
type Terms<'a> = SmallVec<[Term<'a>; 8]>;

/// A word of nested terms may take as long to handle as so many others.
const NESTED_WORD: usize = 4;

// About how many nanoseconds it takes to make parts of a nested term.

/// A term, besides what is in it.
const MADE: usize = 25;
/// A tuple, list or map besides that.
const CONTAINER: usize = 100;
/// A pair of a map besides its two terms.
const MADE_PAIR: usize = 100;

/// About how many words [`to_term`] has to handle, at the most.
pub fn size(stored: &Stored<'_, Copied>) -> usize {
    match *stored {
        Stored::Word(_) => 1,
        Stored::Words { shape, words } if shape == NESTED => NESTED_WORD * words.len(),
        Stored::Words { words, .. } => words.len(),
        Stored::Opaque { words, .. } => words as usize,
    }
}

/// The term that was kept. Adds to `nanoseconds` about how long that has taken.
pub fn to_term<'a>(env: Env<'a>, stored: Stored<'_, Copied>, nanoseconds: &mut usize) -> Term<'a> {
    let (shape, words) = match stored {
        Stored::Word(word) => return from_word(env, word),
        Stored::Opaque { kept, words } => {
            *nanoseconds += VM_WORD * words as usize;
            return kept.term(env);
        }
        Stored::Words { shape, words } => (shape, words),
    };
    let mut reader = Reader {
        env,
        words,
        nanoseconds: 0,
    };
    let term = match shape {
        FLOAT => reader.float(),
        SIGNED => reader.signed(),
        UNSIGNED => reader.unsigned(),
        MAP..TUPLE => reader.map(usize::from(shape - MAP)),
        TUPLE..BINARY => reader.tuple(usize::from(shape - TUPLE)),
        BINARY..PAIR => reader.binary(usize::from(shape - BINARY)),
        PAIR.. => {
            let first = from_word(env, reader.next());
            let second = reader.binary(usize::from(shape - PAIR));
            rustler::types::tuple::make_tuple(env, &[first, second])
        }
        _ => reader.nested(),
    };
    *nanoseconds += reader.nanoseconds;
    term
}

struct Reader<'w, 'a> {
    env: Env<'a>,
    words: &'w [u64],
    /// About how long it has taken.
    nanoseconds: usize,
}

impl<'a> Reader<'_, 'a> {
    fn next(&mut self) -> u64 {
        let (first, rest) = self.words.split_first().unwrap_or((&0, &[]));
        self.words = rest;
        *first
    }

    fn nested(&mut self) -> Term<'a> {
        let word = self.next();
        self.nanoseconds += MADE;
        if is_immediate(word) {
            return from_word(self.env, word);
        }
        let (header, count) = Header::parse(word);
        match header {
            Header::Float => self.float(),
            Header::Signed => self.signed(),
            Header::Unsigned => self.unsigned(),
            Header::Binary => self.binary(count),
            Header::Tuple => self.tuple(count),
            Header::List => {
                let heads = self.terms(count);
                let tail = self.nested();
                heads
                    .iter()
                    .rfold(tail, |tail, head| tail.list_prepend(*head))
            }
            Header::Map => self.map(count),
        }
    }

    fn terms(&mut self, count: usize) -> Terms<'a> {
        self.nanoseconds += CONTAINER;
        (0..count).map(|_| self.nested()).collect()
    }

    fn map(&mut self, count: usize) -> Term<'a> {
        self.nanoseconds += MADE_PAIR * count;
        let terms = self.terms(count * 2);
        let (pairs, _) = terms.as_chunks::<2>();
        let (keys, values): (Terms<'a>, Terms<'a>) = pairs.iter().map(|&[k, v]| (k, v)).unzip();
        Term::map_from_term_arrays(self.env, &keys, &values)
            .unwrap_or_else(|_| Term::map_new(self.env))
    }

    fn tuple(&mut self, count: usize) -> Term<'a> {
        let elements = self.terms(count);
        rustler::types::tuple::make_tuple(self.env, &elements)
    }

    fn float(&mut self) -> Term<'a> {
        f64::from_bits(self.next()).encode(self.env)
    }

    fn signed(&mut self) -> Term<'a> {
        (self.next() as i64).encode(self.env)
    }

    fn unsigned(&mut self) -> Term<'a> {
        self.next().encode(self.env)
    }

    fn binary(&mut self, bytes: usize) -> Term<'a> {
        self.nanoseconds += CONTAINER + WORD * (bytes / 8);
        let mut binary = NewBinary::new(self.env, bytes);
        for chunk in binary.as_mut_slice().chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        binary.into()
    }
}
