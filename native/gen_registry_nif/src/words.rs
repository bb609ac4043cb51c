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

/// Room for the words of an id; those of usual ids fit without an allocation.
pub type Words = SmallVec<[u64; 16]>;

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
const TUPLE_MAX: usize = 6;
/// A binary of this many bytes.
const BINARY: u8 = 16;
const BINARY_MAX: usize = 48;
/// A pair of an immediate and a binary of this many bytes.
const PAIR: u8 = 80;
const PAIR_MAX: usize = 40;

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

fn compound<'w, 't: 'w>(
    term: Term<'t>,
    words: &'w mut Words,
    limit: usize,
) -> Result<Id<'w, Term<'t>>, TooLarge> {
    let mut flattener = Flattener {
        words,
        limit,
        exact: true,
    };
    let shape = flattener.shape(term)?;
    if flattener.exact {
        return Ok(Id::Words { shape, words });
    }
    let hash = term.hash_internal(*SALT);
    Ok(Id::Opaque { hash, probe: term })
}

struct Flattener<'w> {
    words: &'w mut Words,
    /// How many words there may be.
    limit: usize,
    /// Whether the words hold all that there is. If not, the walk goes on, to see how large it is.
    exact: bool,
}

impl Flattener<'_> {
    /// Flattens a whole id and answers its shape.
    #[inline]
    fn shape(&mut self, term: Term<'_>) -> Result<u8, TooLarge> {
        match term.get_type() {
            TermType::Binary => {
                if let Ok(bytes) = Binary::from_term(term)
                    && bytes.len() <= BINARY_MAX
                {
                    self.bytes(&bytes);
                    return Ok(BINARY + bytes.len() as u8);
                }
            }
            TermType::Tuple => {
                let elements = elements(term);
                let shape = match elements {
                    [first, second] if is_immediate(*first) && !is_immediate(*second) => {
                        self.pair(term.get_env(), *first, *second)
                    }
                    _ => self.tuple(elements),
                };
                if let Some(shape) = shape {
                    return Ok(shape);
                }
            }
            TermType::Integer => {
                if let Ok(number) = term.decode::<i64>() {
                    self.words.push(number as u64);
                    return Ok(SIGNED);
                }
                if let Ok(number) = term.decode::<u64>() {
                    self.words.push(number);
                    return Ok(UNSIGNED);
                }
            }
            TermType::Float => {
                self.float(term);
                return Ok(FLOAT);
            }
            _ => {}
        }
        self.nested(term, DEPTH)?;
        Ok(NESTED)
    }

    fn tuple(&mut self, elements: &[u64]) -> Option<u8> {
        let fits = elements.len() <= TUPLE_MAX && elements.iter().all(|word| is_immediate(*word));
        fits.then(|| {
            self.words.extend_from_slice(elements);
            TUPLE + elements.len() as u8
        })
    }

    fn pair(&mut self, env: Env<'_>, first: u64, second: u64) -> Option<u8> {
        // SAFETY: `second` is an element of a tuple in `env`.
        let second = unsafe { Term::new(env, to_raw(second)) };
        let bytes = Binary::from_term(second).ok()?;
        (bytes.len() <= PAIR_MAX).then(|| {
            self.words.push(first);
            self.bytes(&bytes);
            PAIR + bytes.len() as u8
        })
    }

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
                self.words.push(Header::Float.word(0));
                self.float(term);
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
                let Ok(bytes) = Binary::from_term(term) else {
                    return self.opaque_of_unknown_size();
                };
                if self.words.len() + bytes.len() / 8 > self.limit {
                    return Err(TooLarge);
                }
                self.words.push(Header::Binary.word(bytes.len()));
                self.bytes(&bytes);
            }
            TermType::Tuple => {
                let elements = elements(term);
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

        let unsorted = Words::from_slice(&self.words[start + 1..]);
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

    fn float(&mut self, term: Term<'_>) {
        let float = term.decode::<f64>().unwrap_or_default();
        // Up to OTP 26 the two zeros are one term for `=:=`.
        let merged = float == 0.0 && zeros_are_identical(term.get_env());
        self.words.push(if merged { 0 } else { float.to_bits() });
    }

    /// The bytes of a binary; their number is known from elsewhere.
    fn bytes(&mut self, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<8>();
        self.words
            .extend(whole.iter().map(|chunk| u64::from_le_bytes(*chunk)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.words.push(u64::from_le_bytes(last));
        }
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

/// The elements of a tuple, as words.
#[inline]
fn elements<'a>(tuple: Term<'a>) -> &'a [u64] {
    let mut arity = 0;
    let mut first = std::ptr::null();
    // SAFETY: the VM answers a pointer to that many terms inside the tuple, which stays where it is
    // for as long as its environment; a term is a word.
    unsafe {
        let env = tuple.get_env().as_c_arg();
        if enif_get_tuple(env, tuple.as_c_arg(), &mut arity, &mut first) == 0 || arity == 0 {
            return &[];
        }
        std::slice::from_raw_parts(first.cast(), arity as usize)
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
