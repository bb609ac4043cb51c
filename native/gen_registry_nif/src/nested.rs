//! Ids of many words: terms in terms.

use std::time::Instant;

use registry_table::Id;
use rustler::{ResourceArc, Term};
use smallvec::SmallVec;

use crate::asked::{Kind, Pairs, cell, kind};
use crate::flatten::{fill, opaque};
use crate::measured::Measured;
use crate::timeslice::{BOXED, PAIR, TERM, WORD, charge};
use crate::weigh::{BIG, NAME, Unfit, Weight, weigh};
use crate::words::*;

/// Room for any number of words.
pub type Many = SmallVec<[u64; 16]>;

/// Maps of up to so many pairs give them in one order if they are equal: the VM itself compares such
/// maps pair by pair. Of larger ones that is not known.
const SMALL_MAP: usize = 32;

/// How deep nested terms are followed by calls.
const DEPTH: usize = 32;

/// The form in which the table knows a term of any number of words.
#[inline(never)]
pub fn nested<'w, 't: 'w>(
    term: Term<'t>,
    words: &'w mut Many,
    limit: usize,
) -> Result<Id<'w, Term<'t>>, Unfit> {
    if let Guess::List = guess(term)
        && let Some((head, id)) = cell(term)
        && let Ok(measured) = head.decode::<ResourceArc<Measured>>()
    {
        let Weight { refers, .. } = weigh(id, limit, |_| Ok(()))?;
        return opaque(id, measured.words, refers, limit);
    }
    let mut flattener = Flattener {
        words,
        opaque: 0,
        pointers: 0,
        refers: false,
        limit,
        nanoseconds: 0,
    };
    let flattened = flattener.nested(term, DEPTH);
    let Flattener {
        words,
        opaque: more,
        pointers,
        refers,
        nanoseconds,
        ..
    } = flattener;
    charge(term.get_env(), nanoseconds + WORD * words.len());
    flattened?;
    if more > 0 {
        return opaque(term, words.len() + more + pointers, refers, limit);
    }
    let shape = NESTED;
    Ok(Id::Words { shape, words })
}

struct Flattener<'w> {
    words: &'w mut Many,
    /// How many words the opaque parts have. If there are any, the walk goes on to see how large
    /// all of it is.
    opaque: usize,
    /// How many words the VM's form of the term has besides these.
    pointers: usize,
    /// Whether there is a reference among them.
    refers: bool,
    /// How many words there may be.
    limit: usize,
    /// About how long the walk has taken.
    nanoseconds: usize,
}

impl Flattener<'_> {
    /// How many words there may still be.
    fn left(&self) -> Result<usize, Unfit> {
        let left = self.limit.checked_sub(self.words.len() + self.opaque);
        left.ok_or(Unfit::TooLarge)
    }

    /// Flattens a term inside an id, so that it tells its own end.
    fn nested(&mut self, term: Term<'_>, depth: usize) -> Result<(), Unfit> {
        let left = self.left()?;
        self.nanoseconds += TERM;
        let word = term_word(term);
        if is_immediate(word) {
            self.words.push(word);
            return Ok(());
        }
        self.pointers += 1;
        self.nanoseconds += BOXED;
        let Some(deeper) = depth.checked_sub(1) else {
            let deep = weigh(term, left, |_| Err(Unfit::Sealed));
            let words = deep.as_ref().map_or(left, |deep| deep.words);
            self.refers |= deep.as_ref().is_ok_and(|deep| deep.refers);
            self.nanoseconds += TERM * words;
            self.opaque += words;
            return deep.map(|_| ());
        };
        match kind(term) {
            Kind::Float(word) => self.words.extend([Header::Float.word(0), word]),
            Kind::Signed(number) => self.words.extend([Header::Signed.word(0), number as u64]),
            Kind::Unsigned(number) => self.words.extend([Header::Unsigned.word(0), number]),
            Kind::Binary(bytes) => {
                if bytes.len() / 8 > left {
                    return Err(Unfit::TooLarge);
                }
                self.words.push(Header::Binary.word(bytes.len()));
                let start = self.words.len();
                self.words.resize(start + bytes.len().div_ceil(8), 0);
                fill(&mut self.words[start..], bytes);
            }
            Kind::Tuple(elements) => {
                self.words.push(Header::Tuple.word(elements.len()));
                for &element in elements {
                    self.nested(term_of(term.get_env(), element), deeper)?;
                }
            }
            Kind::List(..) => self.list(term, deeper)?,
            Kind::Map(pairs) => self.map(pairs, deeper)?,
            Kind::Big => self.opaque += BIG,
            Kind::Name => {
                self.opaque += NAME;
                self.refers |= term.is_ref();
            }
            Kind::Sealed => return Err(Unfit::Sealed),
        }
        Ok(())
    }

    fn list(&mut self, term: Term<'_>, deeper: usize) -> Result<(), Unfit> {
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
        self.pointers += count;
        self.words[start] = Header::List.word(count);
        Ok(())
    }

    /// Equal small maps give their pairs in the same order, see [`SMALL_MAP`]. The words of large
    /// ones are in the order of the pairs' words.
    fn map(&mut self, mut pairs: Pairs<'_>, deeper: usize) -> Result<(), Unfit> {
        let start = self.words.len();
        self.words.push(0);
        let mut ends = SmallVec::<[usize; SMALL_MAP]>::new();
        while let Some((key, value)) = pairs.next() {
            self.nested(key, deeper)?;
            self.nested(value, deeper)?;
            ends.push(self.words.len());
        }
        self.nanoseconds += PAIR * ends.len();
        self.words[start] = Header::Map.word(ends.len());
        if ends.len() > SMALL_MAP {
            // By the clock: keys may have much in common.
            let begun = Instant::now();
            self.sort(start + 1, &ends);
            self.nanoseconds += usize::try_from(begun.elapsed().as_nanos()).unwrap_or(0);
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
}
