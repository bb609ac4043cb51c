//! Terms as words: the form in which the table keeps ids.
//!
//! Two terms are `=:=` exactly when they have the same shape and words. A term that is not made of
//! the kinds below, all the way down, is kept as a copy of the VM's instead ([`Copied`]): local and
//! external references, external pids and ports, funs, bitstrings that are not binaries, integers
//! of more than 64 bits, and what is nested more than [`DEPTH`] deep.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::mem::MaybeUninit;
use std::num::NonZeroU64;

use once_cell::sync::{Lazy, OnceCell};
use registry_table::{Id, Opaque};
use rustler::sys::{
    ErlNifMapIterator, ErlNifMapIteratorEntry, enif_get_tuple, enif_is_identical, enif_make_double,
    enif_map_iterator_create, enif_map_iterator_destroy, enif_map_iterator_get_pair,
    enif_map_iterator_next,
};
use rustler::{Binary, Env, Term, TermType};
use smallvec::SmallVec;

use crate::copied::Copied;
use crate::words::*;

/// Room for the words of an id; usual ids need no allocation.
pub struct Words {
    few: [u64; FEW],
    many: Many,
}

type Many = SmallVec<[u64; 16]>;

impl Words {
    /// No words yet.
    #[inline]
    pub fn new() -> Self {
        Self {
            few: [0; FEW],
            many: Many::new(),
        }
    }
}

/// The id's words take more room than the limit allows: too long for a normal scheduler.
pub struct TooLarge;

/// The VM's hash is the same in every VM but for its salt: this makes it as little foreseeable as
/// the table's own.
static SALT: Lazy<u64> = Lazy::new(|| u64::from(RandomState::new().build_hasher().finish() as u32));

/// How deep nested terms are followed.
const DEPTH: usize = 32;

/// The form in which the table knows `term`, with room for its words from `words`.
#[inline]
pub fn to_id<'w, 't: 'w>(
    term: Term<'t>,
    words: &'w mut Words,
    limit: usize,
) -> Result<Id<'w, Term<'t>>, TooLarge> {
    let word = term_word(term);
    match NonZeroU64::new(word) {
        Some(word) if is_immediate(word.get()) => Ok(Id::Word(word)),
        _ => compound(term, words, limit),
    }
}

#[inline]
fn compound<'w, 't: 'w>(
    term: Term<'t>,
    words: &'w mut Words,
    limit: usize,
) -> Result<Id<'w, Term<'t>>, TooLarge> {
    let few = &mut words.few;
    // The questions to the VM are in the order in which usual ids need the fewest of them.
    let (shape, words) = if let Some(elements) = elements(term) {
        if elements.len() <= TUPLE_MAX && elements.iter().all(|word| is_immediate(*word)) {
            (TUPLE + elements.len() as u8, elements)
        } else if let [first, second] = *elements
            && is_immediate(first)
            // SAFETY: `second` is an element of a tuple in that environment.
            && let Some(bytes) = bytes(unsafe { Term::new(term.get_env(), to_raw(second)) })
            && bytes.len() <= PAIR_MAX
        {
            few[0] = first;
            let used = 1 + fill(&mut few[1..], bytes);
            (PAIR + bytes.len() as u8, &few[..used])
        } else {
            return nested(term, &mut words.many, limit);
        }
    } else if let Some(bytes) = bytes(term) {
        if bytes.len() > BINARY_MAX {
            return nested(term, &mut words.many, limit);
        }
        let used = fill(few, bytes);
        (BINARY + bytes.len() as u8, &few[..used])
    } else if let Ok(number) = term.decode::<i64>() {
        few[0] = number as u64;
        (SIGNED, &few[..1])
    } else if term.is_map() {
        return nested(term, &mut words.many, limit);
    } else if let Ok(number) = term.decode::<u64>() {
        few[0] = number;
        (UNSIGNED, &few[..1])
    } else if let Ok(number) = term.decode::<f64>() {
        few[0] = float(number, term.get_env());
        (FLOAT, &few[..1])
    } else {
        return nested(term, &mut words.many, limit);
    };
    Ok(Id::Words { shape, words })
}

/// The bytes of a binary, which stay where they are for as long as its environment.
#[inline]
fn bytes(term: Term<'_>) -> Option<&[u8]> {
    Some(Binary::from_term(term).ok()?.as_slice())
}

/// Writes bytes as words, the last one with zeros, and answers how many words these are.
#[inline]
fn fill(words: &mut [u64], bytes: &[u8]) -> usize {
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, chunk) in words.iter_mut().zip(whole) {
        *word = u64::from_le_bytes(*chunk);
    }
    if rest.is_empty() {
        return whole.len();
    }
    words[whole.len()] = match bytes.last_chunk::<8>() {
        // The last eight bytes, less those that the word before has.
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        None => rest
            .iter()
            .rfold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    whole.len() + 1
}

/// A float's word. Up to OTP 26 the two zeros are one term for `=:=`.
fn float(number: f64, env: Env<'_>) -> u64 {
    let merged = number == 0.0 && zeros_are_identical(env);
    if merged { 0 } else { number.to_bits() }
}

fn nested<'w, 't: 'w>(
    term: Term<'t>,
    words: &'w mut Many,
    limit: usize,
) -> Result<Id<'w, Term<'t>>, TooLarge> {
    let mut flattener = Flattener {
        words,
        limit,
        exact: true,
    };
    flattener.nested(term, DEPTH)?;
    if flattener.exact {
        let shape = NESTED;
        return Ok(Id::Words { shape, words });
    }
    let hash = term.hash_internal(*SALT);
    Ok(Id::Opaque { hash, probe: term })
}

struct Flattener<'w> {
    words: &'w mut Many,
    /// How many words there may be.
    limit: usize,
    /// Whether the words hold all that there is. If not, the walk goes on, to see how large it is.
    exact: bool,
}

impl Flattener<'_> {
    /// Flattens a term inside an id, so that it tells its own end.
    fn nested(&mut self, term: Term<'_>, depth: usize) -> Result<(), TooLarge> {
        if self.words.len() > self.limit {
            return Err(TooLarge);
        }
        let word = term_word(term);
        if is_immediate(word) {
            self.words.push(word);
            return Ok(());
        }
        let Some(deeper) = depth.checked_sub(1) else {
            return self.opaque_of_unknown_size();
        };
        match term.get_type() {
            TermType::Float => {
                let number = term.decode().unwrap_or_default();
                let word = float(number, term.get_env());
                self.words.extend([Header::Float.word(0), word]);
            }
            TermType::Integer => {
                if let Ok(number) = term.decode::<i64>() {
                    self.words.extend([Header::Signed.word(0), number as u64]);
                } else if let Ok(number) = term.decode::<u64>() {
                    self.words.extend([Header::Unsigned.word(0), number]);
                } else if is_huge(term) {
                    return self.opaque_of_unknown_size();
                } else {
                    self.exact = false;
                }
            }
            TermType::Binary => {
                let Some(bytes) = bytes(term) else {
                    return self.opaque_of_unknown_size();
                };
                if self.words.len() + bytes.len() / 8 > self.limit {
                    return Err(TooLarge);
                }
                self.words.push(Header::Binary.word(bytes.len()));
                let start = self.words.len();
                self.words.resize(start + bytes.len().div_ceil(8), 0);
                fill(&mut self.words[start..], bytes);
            }
            TermType::Tuple => {
                let elements = elements(term).unwrap_or_default();
                self.words.push(Header::Tuple.word(elements.len()));
                for &element in elements {
                    // SAFETY: an element of a tuple is of the tuple's environment.
                    let element = unsafe { Term::new(term.get_env(), to_raw(element)) };
                    self.nested(element, deeper)?;
                }
            }
            TermType::List => self.list(term, deeper)?,
            TermType::Map => self.map(term, deeper)?,
            TermType::Fun => return self.opaque_of_unknown_size(),
            _ => self.exact = false,
        }
        Ok(())
    }

    fn list(&mut self, term: Term<'_>, deeper: usize) -> Result<(), TooLarge> {
        let start = self.words.len();
        self.words.push(0);
        let mut count = 0;
        let mut rest = term;
        while let Ok((head, tail)) = rest.list_get_cell() {
            self.nested(head, deeper)?;
            count += 1;
            rest = tail;
        }
        self.nested(rest, deeper)?;
        self.words[start] = Header::List.word(count);
        Ok(())
    }

    /// Equal maps give their pairs in any order: the words are in the order of the pairs' words.
    fn map(&mut self, term: Term<'_>, deeper: usize) -> Result<(), TooLarge> {
        let Some(mut pairs) = Pairs::new(term) else {
            return self.opaque_of_unknown_size();
        };
        let start = self.words.len();
        self.words.push(0);
        let mut ends = SmallVec::<[usize; 8]>::new();
        while let Some((key, value)) = pairs.next() {
            self.nested(key, deeper)?;
            self.nested(value, deeper)?;
            ends.push(self.words.len());
        }
        self.words[start] = Header::Map.word(ends.len());

        let unsorted = Many::from_slice(&self.words[start + 1..]);
        let mut from = 0;
        let mut pairs: SmallVec<[&[u64]; 8]> = SmallVec::new();
        for end in ends {
            pairs.push(&unsorted[from..end - start - 1]);
            from = end - start - 1;
        }
        pairs.sort_unstable();
        self.words.truncate(start + 1);
        pairs
            .iter()
            .for_each(|pair| self.words.extend_from_slice(pair));
        Ok(())
    }

    /// The VM will have to hash and compare something that may be of any size.
    fn opaque_of_unknown_size(&mut self) -> Result<(), TooLarge> {
        self.exact = false;
        if self.limit == usize::MAX {
            Ok(())
        } else {
            Err(TooLarge)
        }
    }
}

/// The pairs of a map. The iterator of rustler, which also goes backwards, takes twice the time.
struct Pairs<'a> {
    env: Env<'a>,
    iterator: ErlNifMapIterator,
}

impl<'a> Pairs<'a> {
    /// `None` if it is no map.
    fn new(map: Term<'a>) -> Option<Self> {
        let env = map.get_env();
        let mut iterator = MaybeUninit::uninit();
        let first = ErlNifMapIteratorEntry::ERL_NIF_MAP_ITERATOR_HEAD;
        // SAFETY: the map is of `env`.
        let made = unsafe {
            let iterator = iterator.as_mut_ptr();
            enif_map_iterator_create(env.as_c_arg(), map.as_c_arg(), iterator, first) != 0
        };
        made.then(|| {
            // SAFETY: the VM says that it has made it.
            let iterator = unsafe { iterator.assume_init() };
            Self { env, iterator }
        })
    }

    fn next(&mut self) -> Option<(Term<'a>, Term<'a>)> {
        let env = self.env.as_c_arg();
        let iterator = &mut self.iterator;
        let mut key = MaybeUninit::uninit();
        let mut value = MaybeUninit::uninit();
        // SAFETY: `new` made the iterator in this environment. Key and value are written if the
        // answer is not zero, and they are of the map's environment.
        unsafe {
            if enif_map_iterator_get_pair(env, iterator, key.as_mut_ptr(), value.as_mut_ptr()) == 0
            {
                return None;
            }
            enif_map_iterator_next(env, iterator);
            let term = |term| Term::new(self.env, term);
            Some((term(key.assume_init()), term(value.assume_init())))
        }
    }
}

impl Drop for Pairs<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` made it in this environment.
        unsafe { enif_map_iterator_destroy(self.env.as_c_arg(), &mut self.iterator) };
    }
}

/// The elements of a tuple, as words; `None` if it is none.
#[inline]
fn elements<'a>(tuple: Term<'a>) -> Option<&'a [u64]> {
    let mut arity = 0;
    let mut first = std::ptr::null();
    // SAFETY: the VM answers a pointer to that many terms inside the tuple, which stays where it is
    // for as long as its environment; a term is a word.
    unsafe {
        let env = tuple.get_env().as_c_arg();
        if enif_get_tuple(env, tuple.as_c_arg(), &mut arity, &mut first) == 0 {
            return None;
        }
        if arity == 0 {
            return Some(&[]);
        }
        Some(std::slice::from_raw_parts(first.cast(), arity as usize))
    }
}

/// Whether an integer has more than 2040 bits. The VM compares such by their sizes first, so that
/// takes no time.
fn is_huge(integer: Term<'_>) -> bool {
    static LIMITS: OnceCell<Option<[Copied; 2]>> = OnceCell::new();
    let env = integer.get_env();
    let limits = LIMITS.get_or_init(|| {
        let limit = |sign| {
            // The external format: a big integer of 255 bytes.
            let mut external = [u8::MAX; 4 + 255];
            external[..4].copy_from_slice(&[131, 110, 255, sign]);
            env.binary_to_term(&external)
                .map(|(term, _)| Copied::keep(term))
        };
        Some([limit(1)?, limit(0)?])
    });
    let Some([lowest, highest]) = limits else {
        return true;
    };
    lowest.term(env) > integer || integer > highest.term(env)
}

fn zeros_are_identical(env: Env<'_>) -> bool {
    static IDENTICAL: OnceCell<bool> = OnceCell::new();
    // SAFETY: both terms are of `env`.
    *IDENTICAL.get_or_init(|| unsafe {
        let zero = |sign: f64| enif_make_double(env.as_c_arg(), 0.0_f64.copysign(sign));
        enif_is_identical(zero(1.0), zero(-1.0)) != 0
    })
}
