//! Terms as words: the form in which the table keeps ids.
//!
//! Two terms are `=:=` exactly when they have the same shape and words. A term that is not made of
//! immediates, floats, integers of up to 64 bits, binaries, tuples, lists and maps, all the way down,
//! is opaque: the VM keeps, hashes and compares it. So is what is nested too deep.
//!
//! Here are the ids of few words; `nested.rs` has the others.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU64;

use once_cell::sync::Lazy;
use registry_table::Id;
use rustler::Term;

use crate::asked::*;
use crate::nested::{Many, nested};
use crate::timeslice::{VM_WORD, charge};
use crate::weigh::{NAME, Unfit};
use crate::words::*;

/// Room for the words of an id; usual ids need no allocation.
pub struct Words {
    few: [u64; FEW],
    many: Many,
}

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

/// The VM's hash is the same in every VM but for its salt: this makes it as little foreseeable as
/// the table's own.
static SALT: Lazy<u64> = Lazy::new(|| RandomState::new().build_hasher().finish());

/// The form in which the table knows an immediate; `None` if the term is none.
#[inline(always)]
pub fn immediate<'a>(term: Term<'a>) -> Option<Id<'static, Term<'a>>> {
    let word = NonZeroU64::new(term_word(term))?;
    is_immediate(word.get()).then_some(Id::Word(word))
}

/// What a term is like.
#[derive(Clone, Copy)]
pub enum Form<'t> {
    /// It is made of these words.
    InPlace(u8, &'t [u64]),
    /// It is made of the first so many of the few words.
    Few(u8, usize),
    /// There is more in it than fits into the few.
    Nested,
    /// It is a name, which the VM has to compare.
    Name,
    /// It is of another kind than was asked.
    Other,
}

impl<'t> Form<'t> {
    /// What a term that is no immediate is like; `Other` if it does not look like a usual id, or is not
    /// what it looks like. `few` takes its words.
    #[inline(always)]
    pub fn of(term: Term<'t>, few: &mut [u64; FEW]) -> Self {
        // Each question to the VM costs some nanoseconds: so only the one that it will say yes to.
        match guess(term) {
            Guess::Tuple => tuple(term, few),
            Guess::Binary => binary(term, few),
            Guess::Integer => integer(term, few),
            Guess::Map => map(term, few),
            Guess::List if cell(term).is_some() => Self::Nested,
            Guess::Name if is_name(term) => Self::Name,
            Guess::List | Guess::Name | Guess::None => Self::Other,
        }
    }

    /// The form in which the table knows the term, if it is made of few words.
    #[inline(always)]
    pub fn id<'w>(self, few: &'w [u64; FEW]) -> Option<Id<'w, Term<'t>>>
    where
        't: 'w,
    {
        match self {
            Self::InPlace(shape, words) => Some(Id::Words { shape, words }),
            Self::Few(shape, used) => Some(Id::Words {
                shape,
                words: &few[..used],
            }),
            Self::Nested | Self::Name | Self::Other => None,
        }
    }
}

/// The form in which the table knows a term that is no immediate, with room for its words from
/// `words`.
#[inline(always)]
pub fn compound<'w, 't: 'w>(
    term: Term<'t>,
    words: &'w mut Words,
    limit: usize,
) -> Result<Id<'w, Term<'t>>, Unfit> {
    let form = Form::of(term, &mut words.few);
    compound_like(form, term, words, limit)
}

/// As `compound`, of a term that is like this as far as is known.
#[inline]
pub fn compound_like<'w, 't: 'w>(
    mut form: Form<'t>,
    term: Term<'t>,
    words: &'w mut Words,
    limit: usize,
) -> Result<Id<'w, Term<'t>>, Unfit> {
    // The form must not depend on the guess.
    if let Form::Other = form {
        form = ask_all(term, &mut words.few);
    }
    match (form.id(&words.few), form) {
        (Some(id), _) => Ok(id),
        (None, Form::Name) => opaque(term, NAME, term.is_ref(), limit),
        (None, _) => nested(term, &mut words.many, limit),
    }
}

/// What a term that is no immediate is like, whatever it looks like.
#[inline(never)]
fn ask_all<'t>(term: Term<'t>, few: &mut [u64; FEW]) -> Form<'t> {
    // What `Form::of` does not ask for comes first.
    let kinds = [float_alone, tuple, binary, integer, map, list, name];
    let mut forms = kinds.into_iter().map(|ask| ask(term, few));
    forms
        .find(|form| !matches!(form, Form::Other))
        .unwrap_or(Form::Other)
}

/// The form of a term of so many words that only the VM can compare. `refers` says whether there may
/// be a reference in it.
#[inline(never)]
pub fn opaque<'w, 't>(
    term: Term<'t>,
    words: usize,
    refers: bool,
    limit: usize,
) -> Result<Id<'w, Term<'t>>, Unfit> {
    if words > limit {
        return Err(Unfit::TooLarge);
    }
    charge(term.get_env(), VM_WORD * words);
    // The VM's own hash of a reference with one number or none, as the external term format may have,
    // takes in what lies behind it: equal ones have different hashes.
    let hash = match refers {
        true => u64::from(term.hash_phash2()),
        false => term.hash_internal(*SALT),
    };
    Ok(Id::Opaque {
        hash,
        words: words as u32,
        probe: term,
    })
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
        && let Some(bytes) = bytes(term_of(term.get_env(), second))
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
    let Some(word) = float(term) else {
        return Form::Other;
    };
    few[0] = word;
    Form::Few(FLOAT, 1)
}

fn list<'t>(term: Term<'t>, _few: &mut [u64; FEW]) -> Form<'t> {
    if cell(term).is_some() {
        Form::Nested
    } else {
        Form::Other
    }
}

fn name<'t>(term: Term<'t>, _few: &mut [u64; FEW]) -> Form<'t> {
    if is_name(term) {
        Form::Name
    } else {
        Form::Other
    }
}

/// Writes bytes as words, the last one with zeros, and returns how many words these are.
#[inline(always)]
pub fn fill(words: &mut [u64], bytes: &[u8]) -> usize {
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

/// Writes the first `N` words, if there are so many, and returns what is left.
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
