//! Ids of the shapes that people use, as the NIF makes words of them.

// Each benchmark is a crate of its own, and not both use everything.
#![allow(dead_code)]

use std::num::NonZeroU64;

use registry_table::{Id, Opaque, Pid};

/// The ids of one shape.
pub struct Shape<const WORDS: usize> {
    pub name: &'static str,
    /// As the table knows it; zero for ids that are one bare word.
    pub tag: u8,
    pub make: fn(u64) -> [u64; WORDS],
}

pub const INTEGER: Shape<1> = shape("integer", 0, |n| [small(n)]);
pub const SNOWFLAKE: Shape<1> = shape("snowflake", 1, |n| [1 << 60 | n << 22]);
pub const ATOM: Shape<1> = shape("atom", 0, |n| [n << 6 | 0xB]);
pub const STRING: Shape<2> = shape("11-byte string", 11, |n| [mixed(n), mixed(n) >> 40]);
pub const UUID: Shape<5> = shape("UUID", 36, |n| {
    let word = |place| mixed(n * 5 + place);
    [word(0), word(1), word(2), word(3), word(4) >> 32]
});
pub const USER_INT: Shape<2> = shape("{:user, int}", 100, |n| [USER, small(n)]);
pub const USER_STRING: Shape<3> =
    shape("{:user, string}", 101, |n| [USER, mixed(n), mixed(n) >> 40]);
pub const INTS: Shape<3> = shape("{int, int, int}", 102, |n| {
    [small(n), small(n + 1), small(n + 2)]
});
pub const MAP: Shape<5> = shape("small map", 103, |n| {
    [2, USER, small(n), USER + 64, small(n * 7)]
});

/// Some atom.
const USER: u64 = 0x9_4B0B;

const fn shape<const WORDS: usize>(
    name: &'static str,
    tag: u8,
    make: fn(u64) -> [u64; WORDS],
) -> Shape<WORDS> {
    Shape { name, tag, make }
}

/// A small integer as the VM writes it.
fn small(n: u64) -> u64 {
    n << 4 | 0xF
}

/// SplitMix64: of what does not count up.
pub fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

/// The table's form of an id.
pub fn id(tag: u8, words: &[u64]) -> Id<'_, ()> {
    match words {
        [word] if tag == 0 => Id::Word(NonZeroU64::new(*word).expect("no term is zero")),
        _ => Id::Words { shape: tag, words },
    }
}

/// The nth process.
pub fn pid(n: u64) -> Pid {
    Pid::new(n + 1).expect("not zero")
}

/// None of these ids is opaque.
pub enum Never {}

impl Opaque for Never {
    type Probe<'a> = ();

    fn keep((): ()) -> Self {
        unreachable!("no id is opaque")
    }

    fn is(&self, (): ()) -> bool {
        match *self {}
    }
}
