//! How large terms are, whatever they are made of.

use rustler::Term;

use crate::asked::{Kind, Pairs, kind};
use crate::words::{is_immediate, term_of, term_word};

/// As many words as a reference, or a pid or port of another node, takes at the most.
pub const NAME: usize = 8;

/// As many words as an integer of 2040 bits takes. Asking for the size of a smaller one takes longer
/// than they do.
pub const BIG: usize = 33;

/// Why a term has no words.
pub enum Unfit {
    /// It has more than the limit allows.
    TooLarge,
    /// The NIF cannot look into a part of it.
    Sealed,
}

/// What a term weighs.
#[derive(Clone, Copy)]
pub struct Weight {
    /// How many words it has.
    pub words: usize,
    /// Whether there may be a reference in it.
    pub refers: bool,
}

/// What a term weighs. What it shares counts each time that it is met, and `sealed` takes the parts
/// that the NIF cannot look into.
pub fn weigh<'a>(
    term: Term<'a>,
    limit: usize,
    mut sealed: impl FnMut(Term<'a>) -> Result<(), Unfit>,
) -> Result<Weight, Unfit> {
    let env = term.get_env();
    let mut words = 0;
    let mut refers = false;
    // Not by calls, for which a term may be too deep.
    let mut left = vec![term];
    while let Some(term) = left.pop() {
        if words + left.len() >= limit {
            return Err(Unfit::TooLarge);
        }
        words += 1;
        if is_immediate(term_word(term)) {
            continue;
        }
        match kind(term) {
            Kind::Float(_) | Kind::Signed(_) | Kind::Unsigned(_) => words += 2,
            Kind::Big => words += BIG,
            Kind::Name => {
                words += NAME;
                refers |= term.is_ref();
            }
            Kind::Binary(bytes) => words += bytes.len().div_ceil(8),
            Kind::Tuple(elements) => {
                if elements.len() > limit {
                    return Err(Unfit::TooLarge);
                }
                left.extend(elements.iter().map(|&element| term_of(env, element)));
            }
            Kind::List(head, tail) => left.extend([tail, head]),
            Kind::Map(pairs) => extend(&mut left, pairs, limit)?,
            Kind::Sealed => {
                words += NAME;
                refers |= term.is_fun();
                sealed(term)?;
            }
        }
    }
    if words > limit {
        return Err(Unfit::TooLarge);
    }
    Ok(Weight { words, refers })
}

fn extend<'a>(left: &mut Vec<Term<'a>>, mut pairs: Pairs<'a>, limit: usize) -> Result<(), Unfit> {
    while let Some((key, value)) = pairs.next() {
        if left.len() > limit {
            return Err(Unfit::TooLarge);
        }
        left.extend([key, value]);
    }
    Ok(())
}
