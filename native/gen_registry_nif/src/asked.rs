//! What a term is made of, by questions that the VM answers about any term.
//!
//! `enif_term_type` is not among them: about a kind of term that it does not know, as the native
//! records of OTP 29, it aborts the VM.

use std::mem::MaybeUninit;

use once_cell::sync::OnceCell;
use rustler::sys::{
    ErlNifMapIterator, ErlNifMapIteratorEntry, enif_get_double, enif_get_list_cell, enif_get_tuple,
    enif_is_identical, enif_make_double, enif_map_iterator_create, enif_map_iterator_destroy,
    enif_map_iterator_get_pair, enif_map_iterator_next,
};
use rustler::{Binary, Encoder, Env, Term};

use crate::copied::Copied;
use crate::words::{Guess, guess};

/// What a term that is no immediate is.
pub enum Kind<'a> {
    /// A float, as its word.
    Float(u64),
    Signed(i64),
    Unsigned(u64),
    /// An integer of more than 64 bits, and at most 2040.
    Big,
    Binary(&'a [u8]),
    /// A tuple's elements, as words.
    Tuple(&'a [u64]),
    /// A list's head and tail.
    List(Term<'a>, Term<'a>),
    Map(Pairs<'a>),
    /// A reference, or a pid or port of another node.
    Name,
    /// A term that the NIF cannot look into: a fun, a bitstring, an integer of more than 2040 bits,
    /// or of a kind that this library does not know.
    Sealed,
}

/// What a term that is no immediate is.
#[inline]
pub fn kind(term: Term<'_>) -> Kind<'_> {
    // Each question to the VM costs some nanoseconds: so first the one that it will say yes to.
    let guessed = match guess(term) {
        Guess::Tuple => elements(term).map(Kind::Tuple),
        Guess::Binary => bytes(term).map(Kind::Binary),
        Guess::Integer => integer(term),
        Guess::Map => Pairs::new(term).map(Kind::Map),
        Guess::List => list(term),
        Guess::Name => name(term),
        Guess::None => None,
    };
    // The kind must not depend on the guess.
    guessed.unwrap_or_else(|| ask_all(term))
}

#[cold]
fn ask_all(term: Term<'_>) -> Kind<'_> {
    float(term)
        .map(Kind::Float)
        .or_else(|| elements(term).map(Kind::Tuple))
        .or_else(|| bytes(term).map(Kind::Binary))
        .or_else(|| integer(term))
        .or_else(|| Pairs::new(term).map(Kind::Map))
        .or_else(|| list(term))
        .or_else(|| name(term))
        .unwrap_or(Kind::Sealed)
}

fn integer<'a>(term: Term<'a>) -> Option<Kind<'a>> {
    if let Ok(number) = term.decode() {
        return Some(Kind::Signed(number));
    }
    if let Ok(number) = term.decode() {
        return Some(Kind::Unsigned(number));
    }
    // What is a number and no float is an integer.
    let is_integer = term.is_number() && float(term).is_none();
    (is_integer && !is_huge(term)).then_some(Kind::Big)
}

fn list(term: Term<'_>) -> Option<Kind<'_>> {
    cell(term).map(|(head, tail)| Kind::List(head, tail))
}

fn name(term: Term<'_>) -> Option<Kind<'_>> {
    is_name(term).then_some(Kind::Name)
}

/// Whether a term names something: a reference, a pid or a port.
#[inline]
pub fn is_name(term: Term<'_>) -> bool {
    term.is_ref() || term.is_pid() || term.is_port()
}

/// The word of a float, if the term is one. Up to OTP 26 the two zeros are one term for `=:=`.
pub fn float(term: Term<'_>) -> Option<u64> {
    let mut number = 0.0;
    let env = term.get_env();
    // SAFETY: the term is of `env`, and the number is written if the result is not zero.
    let is_float = unsafe { enif_get_double(env.as_c_arg(), term.as_c_arg(), &mut number) != 0 };
    let merged = number == 0.0 && is_float && zeros_are_identical(env);
    is_float.then_some(if merged { 0 } else { number.to_bits() })
}

/// The bytes of a binary, which stay where they are for as long as its environment.
#[inline(always)]
pub fn bytes(term: Term<'_>) -> Option<&[u8]> {
    Some(Binary::from_term(term).ok()?.as_slice())
}

/// The pairs of a map, in the order in which the VM has them. The iterator of rustler, which also
/// goes backwards, takes twice the time.
pub struct Pairs<'a> {
    env: Env<'a>,
    iterator: ErlNifMapIterator,
}

impl<'a> Pairs<'a> {
    /// `None` if it is no map.
    pub fn new(map: Term<'a>) -> Option<Self> {
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

    pub fn next(&mut self) -> Option<(Term<'a>, Term<'a>)> {
        let env = self.env.as_c_arg();
        let iterator = &mut self.iterator;
        let mut key = MaybeUninit::uninit();
        let mut value = MaybeUninit::uninit();
        // SAFETY: `new` made the iterator in this environment. Key and value are written if the
        // result is not zero, and they are of the map's environment.
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

/// The head and the tail of a list, if it has any. The error that rustler's returns is the larger part
/// of what that takes.
#[inline]
pub fn cell(list: Term<'_>) -> Option<(Term<'_>, Term<'_>)> {
    let env = list.get_env();
    let mut head = MaybeUninit::uninit();
    let mut tail = MaybeUninit::uninit();
    // SAFETY: both are written if the result is not zero, and are of the list's environment.
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
pub fn elements<'a>(tuple: Term<'a>) -> Option<&'a [u64]> {
    let mut arity = 0;
    let mut first = std::ptr::null();
    // SAFETY: the VM returns a pointer to that many terms inside the tuple, which stays where it is
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

/// Whether an integer of more than 64 bits has more than 2040. The VM compares such by their sizes
/// first, so that takes no time.
fn is_huge(integer: Term<'_>) -> bool {
    static LIMITS: OnceCell<Option<[Copied; 2]>> = OnceCell::new();
    let env = integer.get_env();
    let limits = LIMITS.get_or_init(|| {
        let limit = |sign| {
            // The external format: a big integer of 255 bytes.
            let mut external = [u8::MAX; 4 + 255];
            external[..4].copy_from_slice(&[131, 110, 255, sign]);
            let decoded = env.binary_to_term(&external);
            decoded.map(|(term, _)| Copied::of(term))
        };
        Some([limit(1)?, limit(0)?])
    });
    match limits {
        Some([lowest, _]) if integer < 0.encode(env) => integer < lowest.term(env),
        Some([_, highest]) => integer > highest.term(env),
        None => true,
    }
}

fn zeros_are_identical(env: Env<'_>) -> bool {
    static IDENTICAL: OnceCell<bool> = OnceCell::new();
    // SAFETY: both terms are of `env`.
    *IDENTICAL.get_or_init(|| unsafe {
        let zero = |sign: f64| enif_make_double(env.as_c_arg(), 0.0_f64.copysign(sign));
        enif_is_identical(zero(1.0), zero(-1.0)) != 0
    })
}
