//! Terms as words and back: the form in which the table keeps ids.
//!
//! Two terms are `=:=` exactly when they have the same shape and words. A term that is not made of
//! the kinds below, all the way down, is kept as a copy of the VM's instead ([`Copied`]): local and
//! external references, external pids and ports, funs, bitstrings that are not binaries, integers
//! of more than 64 bits, and what is nested more than [`DEPTH`] deep.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU64;

use once_cell::sync::{Lazy, OnceCell};
use registry_table::{Id, Opaque, Pid, Stored};
use rustler::sys::*;
use rustler::{Binary, Encoder, Env, LocalPid, MapIterator, NewBinary, Term, TermType};
use smallvec::SmallVec;

use crate::copied::Copied;

/// Room for the words of an id; usual ids need no allocation.
pub struct Words {
    few: [u64; FEW],
    many: Many,
}

/// As many words as the table holds in place.
const FEW: usize = 6;

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

// Shapes. Those that count upwards leave room for the counts that follow them.
const NESTED: u8 = 0;
const FLOAT: u8 = 1;
const SIGNED: u8 = 2;
const UNSIGNED: u8 = 3;
/// A tuple of this many immediates.
const TUPLE: u8 = 8;
const TUPLE_MAX: usize = FEW;
/// A binary of this many bytes.
const BINARY: u8 = 16;
const BINARY_MAX: usize = 8 * FEW;
/// A pair of an immediate and a binary of this many bytes.
const PAIR: u8 = 80;
const PAIR_MAX: usize = 8 * (FEW - 1);

/// What a word in a nested id starts, if it is not an immediate: its low two bits are zero, the
/// next ones say what follows, and those from the eighth on, how much.
#[derive(Clone, Copy)]
enum Header {
    Float,
    Signed,
    Unsigned,
    Binary,
    Tuple,
    /// So many elements, then the tail.
    List,
    Map,
}

impl Header {
    fn word(self, count: usize) -> u64 {
        (count as u64) << 8 | (self as u64) << 2
    }

    fn parse(word: u64) -> (Self, usize) {
        let header = match word >> 2 & 0x3F {
            0 => Self::Float,
            1 => Self::Signed,
            2 => Self::Unsigned,
            3 => Self::Binary,
            4 => Self::Tuple,
            5 => Self::List,
            _ => Self::Map,
        };
        (header, (word >> 8) as usize)
    }
}

#[inline]
fn to_word(term: ErlNifTerm) -> u64 {
    // SAFETY: `ErlNifTerm` is a transparent wrapper of a word, which may have any bits.
    (unsafe { std::mem::transmute::<ErlNifTerm, usize>(term) }) as u64
}

#[inline]
fn to_raw(word: u64) -> ErlNifTerm {
    // SAFETY: as in `to_word`; it is `Term::new` that asks for a valid one.
    unsafe { std::mem::transmute::<usize, ErlNifTerm>(word as usize) }
}

/// The term that an immediate's word stands for.
#[inline]
fn from_word(env: Env<'_>, word: u64) -> Term<'_> {
    // SAFETY: only words of immediates and of local pids come here. They hold no pointer: such a
    // term is valid in every environment for as long as the VM runs.
    unsafe { Term::new(env, to_raw(word)) }
}

/// Whether a term is its own value rather than a pointer to it: small integers, atoms, `[]`, and
/// the pids and ports of this node. [`check_immediates`] makes sure that this VM agrees.
#[inline]
fn is_immediate(word: u64) -> bool {
    word & 3 == 3
}

/// Whether this VM tells immediates from pointers as [`is_immediate`] does.
///
/// The VM does not document its tags. They have been these since the nineties; should that ever
/// change, the library refuses to load rather than to confuse ids.
pub fn check_immediates(immediates: &[Term<'_>], pointers: &[Term<'_>]) -> bool {
    let immediate = |term: &Term<'_>| is_immediate(term_word(*term));
    immediates.iter().all(immediate) && !pointers.iter().any(immediate)
}

/// The pid in a term, if it is one of this node.
pub fn pid_from_term(term: Term<'_>) -> Option<Pid> {
    pid_from_local(term.decode().ok()?)
}

/// A pid as a term.
#[inline]
pub fn pid_to_term(env: Env<'_>, pid: Pid) -> Term<'_> {
    from_word(env, pid.word())
}

/// A pid as the VM's functions take it; `None` is for words that never were a pid's.
#[inline]
pub fn pid_to_local(env: Env<'_>, pid: Pid) -> Option<LocalPid> {
    pid_to_term(env, pid).decode().ok()
}

/// A pid as the VM's functions give it.
pub fn pid_from_local(pid: LocalPid) -> Option<Pid> {
    // SAFETY: this function reads the term in the pid and nothing else.
    Pid::new(to_word(unsafe {
        enif_make_pid(std::ptr::null_mut(), *pid.as_c_arg())
    }))
}

/// A term's word. An atom's names it for as long as the VM runs, and no other term has the same.
#[inline]
pub fn term_word(term: Term<'_>) -> u64 {
    to_word(term.as_c_arg())
}

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
        let Some(pairs) = MapIterator::new(term) else {
            return self.opaque_of_unknown_size();
        };
        let start = self.words.len();
        self.words.push(0);
        let mut ends = SmallVec::<[usize; 8]>::new();
        for (key, value) in pairs {
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

/// About how many words [`to_term`] has to handle.
pub fn size(stored: &Stored<'_, Copied>) -> usize {
    match stored {
        Stored::Word(_) => 1,
        Stored::Words { words, .. } => words.len(),
        Stored::Opaque(_) => 32,
    }
}

/// The term that was kept.
pub fn to_term<'a>(env: Env<'a>, stored: Stored<'_, Copied>) -> Term<'a> {
    match stored {
        Stored::Word(word) => from_word(env, word),
        Stored::Opaque(copied) => copied.term(env),
        Stored::Words { shape, words } => {
            let mut reader = Reader { env, words };
            match shape {
                FLOAT => reader.float(),
                SIGNED => reader.signed(),
                UNSIGNED => reader.unsigned(),
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
            Header::Map => {
                let pairs = self.terms(count * 2);
                let pairs: Vec<_> = pairs
                    .chunks_exact(2)
                    .map(|pair| (pair[0], pair[1]))
                    .collect();
                Term::map_from_pairs(self.env, &pairs).unwrap_or_else(|_| Term::map_new(self.env))
            }
        }
    }

    fn terms(&mut self, count: usize) -> Vec<Term<'a>> {
        (0..count).map(|_| self.nested()).collect()
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
