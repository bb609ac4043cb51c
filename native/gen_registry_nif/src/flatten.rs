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
    ErlNifMapIterator, ErlNifMapIteratorEntry, enif_get_list_cell, enif_get_tuple,
    enif_is_identical, enif_make_double, enif_map_iterator_create, enif_map_iterator_destroy,
    enif_map_iterator_get_pair, enif_map_iterator_next,
};
use rustler::{Binary, Env, Term, TermType};
use smallvec::SmallVec;

use crate::copied::Copied;
use crate::hot::LARGEST;
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

/// The id's words take more room than the limit allows.
pub struct TooLarge;

/// The VM's hash is the same in every VM but for its salt: this makes it as little foreseeable as
/// the table's own.
static SALT: Lazy<u64> = Lazy::new(|| u64::from(RandomState::new().build_hasher().finish() as u32));

/// Maps of up to so many pairs give them in one order if they are equal: the VM itself compares such
/// maps pair by pair. Of larger ones that is not known.
const SMALL_MAP: usize = 32;

/// How deep nested terms are followed.
const DEPTH: usize = 32;

/// The form in which the table knows an immediate; `None` if the term is none.
#[inline(always)]
pub fn immediate<'a>(term: Term<'a>) -> Option<Id<'static, Term<'a>>> {
    let word = NonZeroU64::new(term_word(term))?;
    is_immediate(word.get()).then_some(Id::Word(word))
}

/// What a term is like.
enum Form<'w> {
    /// It is made of these words.
    InPlace(u8, &'w [u64]),
    /// It is made of the first so many of the few words.
    Few(u8, usize),
    /// There is more in it than fits into the few.
    Nested,
    /// It is of another kind than was asked.
    Other,
}

/// The form in which the table knows a term that is no immediate, with room for its words from
/// `words`.
#[inline(always)]
pub fn compound<'w, 't: 'w>(
    term: Term<'t>,
    words: &'w mut Words,
    limit: usize,
) -> Result<Id<'w, Term<'t>>, TooLarge> {
    let few = &mut words.few;
    // Each question to the VM costs some nanoseconds: so first the one that it will say yes to.
    let mut form = match guess(term) {
        Guess::Tuple => tuple(term, few),
        Guess::Binary => binary(term, few),
        Guess::Integer => integer(term, few),
        Guess::Map => map(term, few),
        Guess::None => Form::Other,
    };
    // The form must not depend on the guess.
    if let Form::Other = form {
        form = ask_all(term, few);
    }
    match form {
        Form::InPlace(shape, words) => Ok(Id::Words { shape, words }),
        Form::Few(shape, used) => Ok(Id::Words {
            shape,
            words: &words.few[..used],
        }),
        Form::Nested | Form::Other => nested(term, &mut words.many, limit),
    }
}

#[cold]
fn ask_all<'t>(term: Term<'t>, few: &mut [u64; FEW]) -> Form<'t> {
    let kinds = [tuple, binary, integer, map, float_alone];
    let mut forms = kinds.into_iter().map(|ask| ask(term, few));
    forms
        .find(|form| !matches!(form, Form::Other))
        .unwrap_or(Form::Other)
}

#[inline(always)]
fn tuple<'t>(term: Term<'t>, few: &mut [u64; FEW]) -> Form<'t> {
    let Some(elements) = elements(term) else {
        return Form::Other;
    };
    if elements.len() <= TUPLE_MAX && elements.iter().all(|word| is_immediate(*word)) {
        return Form::InPlace(TUPLE + elements.len() as u8, elements);
    }
    if let [first, second] = *elements
        && is_immediate(first)
        // SAFETY: `second` is an element of a tuple in that environment.
        && let Some(bytes) = bytes(unsafe { Term::new(term.get_env(), to_raw(second)) })
        && bytes.len() <= PAIR_MAX
    {
        few[0] = first;
        let used = 1 + fill(&mut few[1..], bytes);
        return Form::Few(PAIR + bytes.len() as u8, used);
    }
    Form::Nested
}

#[inline(always)]
fn binary<'t>(term: Term<'t>, few: &mut [u64; FEW]) -> Form<'t> {
    match bytes(term) {
        None => Form::Other,
        Some(bytes) if bytes.len() > BINARY_MAX => Form::Nested,
        Some(bytes) => Form::Few(BINARY + bytes.len() as u8, fill(few, bytes)),
    }
}

#[inline(always)]
fn integer<'t>(term: Term<'t>, few: &mut [u64; FEW]) -> Form<'t> {
    if let Ok(number) = term.decode::<i64>() {
        few[0] = number as u64;
        Form::Few(SIGNED, 1)
    } else if let Ok(number) = term.decode::<u64>() {
        few[0] = number;
        Form::Few(UNSIGNED, 1)
    } else {
        Form::Other
    }
}

#[inline(always)]
fn map<'t>(term: Term<'t>, few: &mut [u64; FEW]) -> Form<'t> {
    let Some(mut pairs) = Pairs::new(term) else {
        return Form::Other;
    };
    let mut count = 0;
    while let Some((key, value)) = pairs.next() {
        let (key, value) = (term_word(key), term_word(value));
        if count == MAP_MAX || !is_immediate(key) || !is_immediate(value) {
            return Form::Nested;
        }
        few[2 * count] = key;
        few[2 * count + 1] = value;
        count += 1;
    }
    Form::Few(MAP + count as u8, 2 * count)
}

fn float_alone<'t>(term: Term<'t>, few: &mut [u64; FEW]) -> Form<'t> {
    let Ok(number) = term.decode::<f64>() else {
        return Form::Other;
    };
    few[0] = float(number, term.get_env());
    Form::Few(FLOAT, 1)
}

/// The bytes of a binary, which stay where they are for as long as its environment.
#[inline(always)]
fn bytes(term: Term<'_>) -> Option<&[u8]> {
    Some(Binary::from_term(term).ok()?.as_slice())
}

/// Writes bytes as words, the last one with zeros, and answers how many words these are.
#[inline(always)]
fn fill(words: &mut [u64], bytes: &[u8]) -> usize {
    let (whole, rest) = bytes.as_chunks::<8>();
    if whole.len() > FEW {
        for (word, chunk) in words.iter_mut().zip(whole) {
            *word = u64::from_le_bytes(*chunk);
        }
    } else {
        // In steps of fixed sizes: the call of a function that copies any number costs more.
        let mut left = (&mut *words, whole);
        left = copy::<4>(left);
        left = copy::<2>(left);
        copy::<1>(left);
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

/// Writes the first `N` words, if there are so many, and answers what is left.
#[inline(always)]
fn copy<'w, 'b, const N: usize>(
    (words, chunks): (&'w mut [u64], &'b [[u8; 8]]),
) -> (&'w mut [u64], &'b [[u8; 8]]) {
    match (chunks.split_first_chunk::<N>(), words.len() >= N) {
        (Some((chunks, rest)), true) => {
            let (words, left) = words.split_at_mut(N);
            for (word, chunk) in words.iter_mut().zip(chunks) {
                *word = u64::from_le_bytes(*chunk);
            }
            (left, rest)
        }
        _ => (words, chunks),
    }
}

/// A float's word. Up to OTP 26 the two zeros are one term for `=:=`.
fn float(number: f64, env: Env<'_>) -> u64 {
    let merged = number == 0.0 && zeros_are_identical(env);
    if merged { 0 } else { number.to_bits() }
}

#[inline(never)]
fn nested<'w, 't: 'w>(
    term: Term<'t>,
    words: &'w mut Many,
    limit: usize,
) -> Result<Id<'w, Term<'t>>, TooLarge> {
    let mut flattener = Flattener {
        words,
        limit,
        exact: true,
        sized: true,
    };
    flattener.nested(term, DEPTH)?;
    if flattener.exact {
        let shape = NESTED;
        return Ok(Id::Words { shape, words });
    }
    let hash = term.hash_internal(*SALT);
    let words = if flattener.sized {
        u32::try_from(flattener.words.len()).unwrap_or(u32::MAX)
    } else {
        u32::MAX
    };
    Ok(Id::Opaque {
        hash,
        words,
        probe: term,
    })
}

struct Flattener<'w> {
    words: &'w mut Many,
    /// How many words there may be.
    limit: usize,
    /// Whether the words hold all that there is. If not, the walk goes on, to see how large it is.
    exact: bool,
    /// Whether the words are at least as many as the term's own.
    sized: bool,
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
            return self.deep(term);
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
                    // It has up to 32 words, but asking for its size takes longer than they do.
                    self.opaque(32);
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
            _ => self.opaque(1),
        }
        Ok(())
    }

    /// The VM will have to hash and compare something that is about as large as so many words. They
    /// stand for it, lest a list of many such take no room and any time.
    fn opaque(&mut self, words: usize) {
        self.exact = false;
        self.words.resize(self.words.len() + words, 0);
    }

    /// What is too deep to be followed by calls is opaque, but how large it is has to be known too.
    fn deep(&mut self, term: Term<'_>) -> Result<(), TooLarge> {
        self.exact = false;
        let mut left = vec![term];
        while let Some(term) = left.pop() {
            let env = term.get_env();
            if let Some(elements) = elements(term) {
                if self.words.len() + left.len() + elements.len() > self.limit {
                    return Err(TooLarge);
                }
                self.opaque(1);
                // SAFETY: an element of a tuple is of the tuple's environment.
                let element = |&word| unsafe { Term::new(env, to_raw(word)) };
                left.extend(elements.iter().map(element));
            } else if let Some((head, tail)) = cell(term) {
                self.opaque(1);
                left.extend([tail, head]);
            } else if let Some(mut pairs) = Pairs::new(term) {
                self.opaque(1);
                while let Some((key, value)) = pairs.next() {
                    if self.words.len() + left.len() > self.limit {
                        return Err(TooLarge);
                    }
                    left.extend([key, value]);
                }
            } else {
                self.nested(term, 1)?;
            }
            if self.words.len() > self.limit {
                return Err(TooLarge);
            }
        }
        Ok(())
    }

    fn list(&mut self, term: Term<'_>, deeper: usize) -> Result<(), TooLarge> {
        let start = self.words.len();
        self.words.push(0);
        let mut count = 0;
        let mut rest = term;
        while let Some((head, tail)) = cell(rest) {
            self.nested(head, deeper)?;
            count += 1;
            rest = tail;
        }
        self.nested(rest, deeper)?;
        self.words[start] = Header::List.word(count);
        Ok(())
    }

    /// Equal small maps give their pairs in the same order, see [`SMALL_MAP`]. The words of large
    /// ones are in the order of the pairs' words.
    fn map(&mut self, term: Term<'_>, deeper: usize) -> Result<(), TooLarge> {
        let Some(mut pairs) = Pairs::new(term) else {
            return self.opaque_of_unknown_size();
        };
        let start = self.words.len();
        self.words.push(0);
        let mut ends = SmallVec::<[usize; SMALL_MAP]>::new();
        while let Some((key, value)) = pairs.next() {
            self.nested(key, deeper)?;
            self.nested(value, deeper)?;
            ends.push(self.words.len());
        }
        self.words[start] = Header::Map.word(ends.len());
        if ends.len() > SMALL_MAP {
            self.sort(start + 1, &ends);
        }
        Ok(())
    }

    /// Puts the words from `start` on, which are in runs with these ends, in the order of the runs.
    fn sort(&mut self, start: usize, ends: &[usize]) {
        let unsorted = Many::from_slice(&self.words[start..]);
        let mut from = 0;
        let mut runs = Vec::with_capacity(ends.len());
        for end in ends {
            runs.push(&unsorted[from..end - start]);
            from = end - start;
        }
        runs.sort_unstable();
        self.words.truncate(start);
        for run in runs {
            self.words.extend_from_slice(run);
        }
    }

    /// The VM will have to hash and compare something that may be of any size.
    fn opaque_of_unknown_size(&mut self) -> Result<(), TooLarge> {
        self.opaque(1);
        self.sized = false;
        if self.limit < LARGEST {
            Err(TooLarge)
        } else {
            Ok(())
        }
    }
}

/// The pairs of a map, in the order in which the VM has them. The iterator of rustler, which also goes backwards, takes twice the time.
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

/// The head and the tail of a list, if it has any. The error that rustler's answers is the larger part
/// of what that takes.
#[inline]
pub fn cell(list: Term<'_>) -> Option<(Term<'_>, Term<'_>)> {
    let env = list.get_env();
    let mut head = MaybeUninit::uninit();
    let mut tail = MaybeUninit::uninit();
    // SAFETY: both are written if the answer is not zero, and are of the list's environment.
    unsafe {
        let (head, tail) = (head.as_mut_ptr(), tail.as_mut_ptr());
        if enif_get_list_cell(env.as_c_arg(), list.as_c_arg(), head, tail) == 0 {
            return None;
        }
        Some((Term::new(env, *head), Term::new(env, *tail)))
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
