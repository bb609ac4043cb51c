//! Ids as terms again, for those who list them.

use registry_table::Stored;
use rustler::{Encoder, Env, NewBinary, Term};

use crate::copied::Copied;
use crate::words::*;

/// About how many words [`to_term`] has to handle.
pub fn size(stored: &Stored<'_, Copied>) -> usize {
    match stored {
        Stored::Word(_) => 1,
        Stored::Words { words, .. } => words.len(),
        Stored::Opaque { words, .. } => *words as usize,
    }
}

/// The term that was kept.
pub fn to_term<'a>(env: Env<'a>, stored: Stored<'_, Copied>) -> Term<'a> {
    match stored {
        Stored::Word(word) => from_word(env, word),
        Stored::Opaque { kept, .. } => kept.term(env),
        Stored::Words { shape, words } => {
            let mut reader = Reader { env, words };
            match shape {
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
            }
        }
    }
}

struct Reader<'w, 'a> {
    env: Env<'a>,
    words: &'w [u64],
}

impl<'a> Reader<'_, 'a> {
    fn next(&mut self) -> u64 {
        let (first, rest) = self.words.split_first().unwrap_or((&0, &[]));
        self.words = rest;
        *first
    }

    fn nested(&mut self) -> Term<'a> {
        let word = self.next();
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

    fn terms(&mut self, count: usize) -> Vec<Term<'a>> {
        (0..count).map(|_| self.nested()).collect()
    }

    fn map(&mut self, count: usize) -> Term<'a> {
        let terms = self.terms(count * 2);
        let (pairs, _) = terms.as_chunks::<2>();
        let pairs: Vec<_> = pairs.iter().map(|[key, value]| (*key, *value)).collect();
        Term::map_from_pairs(self.env, &pairs).unwrap_or_else(|_| Term::map_new(self.env))
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
        let mut binary = NewBinary::new(self.env, bytes);
        for chunk in binary.as_mut_slice().chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        binary.into()
    }
}
