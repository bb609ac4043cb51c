//! What words stand for: terms that are their own value, and the marks in the words of an id.

use registry_table::Pid;
use rustler::sys::{ErlNifPid, ErlNifTerm, enif_make_pid};
use rustler::{Env, LocalPid, Term};

/// A term as the VM has it, as a word.
#[inline]
fn to_word(term: ErlNifTerm) -> u64 {
    // SAFETY: `ErlNifTerm` is a transparent wrapper of a word, which may have any bits.
    (unsafe { std::mem::transmute::<ErlNifTerm, usize>(term) }) as u64
}

/// A word as the VM takes it for a term.
#[inline]
pub fn to_raw(word: u64) -> ErlNifTerm {
    // SAFETY: as in `to_word`; it is `Term::new` that asks for a valid one.
    unsafe { std::mem::transmute::<usize, ErlNifTerm>(word as usize) }
}

/// The term that an immediate's word stands for.
#[inline]
pub fn from_word(env: Env<'_>, word: u64) -> Term<'_> {
    // SAFETY: only words of immediates and of local pids come here. They hold no pointer: such a
    // term is valid in every environment for as long as the VM runs.
    unsafe { Term::new(env, to_raw(word)) }
}

/// The term that a word of a compound term of this environment is.
#[inline]
pub fn term_of(env: Env<'_>, word: u64) -> Term<'_> {
    // SAFETY: only words come here that `elements` gave of a tuple of this environment.
    unsafe { Term::new(env, to_raw(word)) }
}

/// Whether a term is its own value rather than a pointer to it: small integers, atoms, `[]`, and
/// the pids and ports of this node. `tags.rs` makes sure that this VM agrees.
#[inline]
pub fn is_immediate(word: u64) -> bool {
    word & 3 == 3
}

/// Whether a term is a pointer to a header word, by which [`guess`] goes.
pub fn is_boxed(word: u64) -> bool {
    word & 3 == 2
}

/// The low bits of a pointer that are not the address's: as many as the size of a word leaves.
const TAGS: usize = size_of::<usize>() - 1;

/// What a term probably is.
pub enum Guess {
    Tuple,
    Binary,
    Integer,
    Map,
    List,
    /// A reference, or a pid or port of another node.
    Name,
    None,
}

/// Guesses what a term is. The VM knows better, but takes longer to say.
#[inline]
pub fn guess(term: Term<'_>) -> Guess {
    let word = term_word(term);
    if !is_boxed(word) {
        return Guess::List;
    }
    // SAFETY: such a term points to its header, a word, which is there for as long as the term's
    // environment. `tags.rs` has seen that this VM's terms are like that.
    let header = unsafe { *((word as usize & !TAGS) as *const usize) };
    match header & 0x3F {
        0x00 => Guess::Tuple,
        0x08 | 0x0C => Guess::Integer,
        0x10 | 0x30 | 0x34 | 0x38 => Guess::Name,
        0x20 | 0x24 | 0x28 => Guess::Binary,
        0x3C => Guess::Map,
        _ => Guess::None,
    }
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

/// A pid as the VM's functions take it.
#[inline]
pub fn pid_to_local(pid: Pid) -> LocalPid {
    // SAFETY: `ErlNifPid` is documented as a structure of one term, the pid's. A word that is no
    // local pid's, which `pid_from_local` never gives, would be one of a process that is not there.
    LocalPid::from_c_arg(unsafe {
        std::mem::transmute::<ErlNifTerm, ErlNifPid>(to_raw(pid.word()))
    })
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

/// As many words as the table holds in place.
pub const FEW: usize = 6;

// Shapes. Those that count upwards leave room for the counts that follow them.
pub const NESTED: u8 = 0;
pub const FLOAT: u8 = 1;
pub const SIGNED: u8 = 2;
pub const UNSIGNED: u8 = 3;
/// A map of this many pairs of immediates.
pub const MAP: u8 = 4;
pub const MAP_MAX: usize = FEW / 2;
/// A tuple of this many immediates.
pub const TUPLE: u8 = 8;
pub const TUPLE_MAX: usize = FEW;
/// A binary of this many bytes.
pub const BINARY: u8 = 16;
pub const BINARY_MAX: usize = 8 * FEW;
/// A pair of an immediate and a binary of this many bytes.
pub const PAIR: u8 = 80;
pub const PAIR_MAX: usize = 8 * (FEW - 1);

/// What a word in a nested id starts, if it is not an immediate: its low two bits are zero, the
/// next ones say what follows, and those from the eighth on, how much.
#[derive(Clone, Copy)]
pub enum Header {
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
    pub fn word(self, count: usize) -> u64 {
        (count as u64) << 8 | (self as u64) << 2
    }

    pub fn parse(word: u64) -> (Self, usize) {
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
