//! A stand-in for the VM: the functions of its that the encoder of ids calls, over terms that look
//! like the VM's.
//!
//! Immediates, lists and pointers to headers have the VM's tags, for the library goes by them. What
//! is behind a header is laid out otherwise, which nobody sees who asks the VM.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_long, c_uint, c_ulong, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use rustler::sys::{ErlNifBinary, ErlNifTermType};

/// What a term is, whoever holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Atom(u8),
    Pid(u8),
    Port(u8),
    Nil,
    Integer(Integer),
    /// As bits.
    Float(u64),
    Binary(Vec<u8>),
    /// With the number of bits in the last byte: one that is no binary.
    Bitstring(Vec<u8>, u8),
    Tuple(Vec<Value>),
    /// Its elements, of which there are some, and its tail, which is no list.
    List(Vec<Value>, Box<Value>),
    Map(BTreeMap<Value, Value>),
    Reference(u8),
    Fun(u8),
    RemotePid(u8),
}

/// An integer of any size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Integer {
    negative: bool,
    /// The lowest byte first, and the highest is not zero.
    magnitude: Vec<u8>,
}

impl Integer {
    pub fn new(negative: bool, mut magnitude: Vec<u8>) -> Self {
        while magnitude.last() == Some(&0) {
            magnitude.pop();
        }
        let negative = negative && !magnitude.is_empty();
        Self {
            negative,
            magnitude,
        }
    }

    fn small(&self) -> Option<i128> {
        let mut bytes = [0; 16];
        bytes
            .get_mut(..self.magnitude.len())?
            .copy_from_slice(&self.magnitude);
        let magnitude = i128::try_from(u128::from_le_bytes(bytes)).ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let size = |it: &Self| {
            let highest_first: Vec<u8> = it.magnitude.iter().rev().copied().collect();
            (it.magnitude.len(), highest_first)
        };
        match (self.negative, other.negative) {
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
            (mine, others) => others.cmp(&mine),
        }
    }
}

impl From<i128> for Integer {
    fn from(number: i128) -> Self {
        let magnitude = number.unsigned_abs().to_le_bytes().to_vec();
        Self::new(number < 0, magnitude)
    }
}

/// Whether the two zeros are one, as up to OTP 26: if the environment variable `ONE_ZERO` is there.
fn one_zero() -> bool {
    static ONE_ZERO: OnceLock<bool> = OnceLock::new();
    *ONE_ZERO.get_or_init(|| std::env::var_os("ONE_ZERO").is_some())
}

impl Value {
    /// The same for all values that are `=:=`.
    pub fn normal(self) -> Self {
        let all = |values: Vec<Self>| values.into_iter().map(Self::normal).collect();
        match self {
            Self::Float(bits) if f64::from_bits(bits) == 0.0 && one_zero() => Self::Float(0),
            Self::Tuple(elements) => Self::Tuple(all(elements)),
            Self::List(elements, tail) => Self::List(all(elements), Box::new(tail.normal())),
            Self::Map(pairs) => {
                let pairs = pairs.into_iter();
                Self::Map(pairs.map(|(k, v)| (k.normal(), v.normal())).collect())
            }
            other => other,
        }
    }
}

/// The kinds of what is behind a header.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tuple,
    Negative,
    Positive,
    Reference,
    Fun,
    Float,
    Binary,
    Bitstring,
    RemotePid,
    Map,
}

/// In the order of their numbers.
const KINDS: [Kind; 10] = [
    Kind::Tuple,
    Kind::Negative,
    Kind::Positive,
    Kind::Reference,
    Kind::Fun,
    Kind::Float,
    Kind::Binary,
    Kind::Bitstring,
    Kind::RemotePid,
    Kind::Map,
];

impl Kind {
    /// The low bits of its header in the VM.
    fn header(self) -> u64 {
        match self {
            Self::Tuple => 0x00,
            Self::Positive => 0x08,
            Self::Negative => 0x0C,
            Self::Reference => 0x10,
            Self::Fun => 0x14,
            Self::Float => 0x18,
            Self::Binary => 0x24,
            Self::Bitstring => 0x28,
            Self::RemotePid => 0x30,
            Self::Map => 0x3C,
        }
    }
}

/// An environment: what is in it lives as long as it does.
#[derive(Default)]
pub struct Arena {
    blocks: Vec<Box<[u64]>>,
    /// What all headers say instead of the truth, for nothing may depend on that but the time.
    pub lie: Option<u8>,
    /// How far the pairs of large maps are turned around: nobody knows their order.
    pub turn: usize,
}

const NIL: u64 = 0x3B;

/// The words of what is behind a header: the header, its kind, how much it has, and that.
const START: usize = 3;

impl Arena {
    fn add(&mut self, words: Vec<u64>) -> u64 {
        self.blocks.push(words.into());
        self.blocks.last().map_or(0, |block| block.as_ptr() as u64)
    }

    fn boxed(&mut self, kind: Kind, count: usize, rest: impl IntoIterator<Item = u64>) -> u64 {
        let header = self.lie.map_or(kind.header(), |lie| u64::from(lie) & 0x3F);
        let mut words = vec![(count as u64) << 6 | header, kind as u64, count as u64];
        words.extend(rest);
        self.add(words) | 2
    }

    fn bytes(&mut self, kind: Kind, bytes: &[u8], rest: u64) -> u64 {
        let words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let words: Vec<u64> = words.chain([rest]).collect();
        self.boxed(kind, bytes.len(), words)
    }

    fn all<'v>(&mut self, values: impl IntoIterator<Item = &'v Value>) -> Vec<u64> {
        values.into_iter().map(|value| self.write(value)).collect()
    }

    /// The term that is this value.
    pub fn write(&mut self, value: &Value) -> u64 {
        match value {
            Value::Atom(n) => u64::from(*n) << 6 | 0x0B,
            Value::Pid(n) => u64::from(*n) << 4 | 0x3,
            Value::Port(n) => u64::from(*n) << 4 | 0x7,
            Value::Nil => NIL,
            Value::Integer(integer) => match integer.small() {
                Some(small) if (-1 << 59..1 << 59).contains(&small) => {
                    ((small as i64) << 4 | 0xF) as u64
                }
                _ if integer.negative => self.bytes(Kind::Negative, &integer.magnitude, 0),
                _ => self.bytes(Kind::Positive, &integer.magnitude, 0),
            },
            Value::Float(bits) => self.boxed(Kind::Float, 1, [*bits]),
            Value::Binary(bytes) => self.bytes(Kind::Binary, bytes, 0),
            Value::Bitstring(bytes, bits) => self.bytes(Kind::Bitstring, bytes, (*bits).into()),
            Value::Tuple(elements) => {
                let words = self.all(elements);
                self.boxed(Kind::Tuple, elements.len(), words)
            }
            Value::List(elements, tail) => {
                let tail = self.write(tail);
                let heads = self.all(elements);
                let cell = |tail, head| self.add(vec![head, tail]) | 1;
                heads.into_iter().rev().fold(tail, cell)
            }
            Value::Map(pairs) => {
                let mut keys = self.all(pairs.keys());
                let mut values = self.all(pairs.values());
                if pairs.len() > 32 {
                    let turn = self.turn % pairs.len();
                    keys.rotate_left(turn);
                    values.rotate_left(turn);
                }
                keys.extend(values);
                self.boxed(Kind::Map, pairs.len(), keys)
            }
            Value::Reference(n) => self.boxed(Kind::Reference, 1, [(*n).into()]),
            Value::Fun(n) => self.boxed(Kind::Fun, 1, [(*n).into()]),
            Value::RemotePid(n) => self.boxed(Kind::RemotePid, 1, [(*n).into()]),
        }
    }
}

/// What is behind a header, or `None` for other terms.
struct Boxed<'a> {
    kind: Kind,
    count: usize,
    /// As many words as there are, and what is behind them is not to be read.
    words: &'a [u64],
}

impl Boxed<'_> {
    /// # Safety
    ///
    /// The term is one of an [`Arena`] that is there for as long as this is used.
    unsafe fn of(term: u64) -> Option<Self> {
        if term & 3 != 2 {
            return None;
        }
        // SAFETY: such a term points to what `Arena::boxed` made.
        unsafe {
            let start = (term & !7) as *const u64;
            let (kind, count) = (KINDS[*start.add(1) as usize], *start.add(2) as usize);
            let words = match kind {
                Kind::Tuple => count,
                Kind::Map => 2 * count,
                Kind::Negative | Kind::Positive | Kind::Binary | Kind::Bitstring => {
                    count.div_ceil(8) + 1
                }
                Kind::Reference | Kind::Fun | Kind::Float | Kind::RemotePid => 1,
            };
            let words = std::slice::from_raw_parts(start.add(START), words);
            Some(Self { kind, count, words })
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
        bytes.take(self.count).collect()
    }
}

/// The head and the tail of a list.
///
/// # Safety
///
/// As for [`Boxed::of`].
unsafe fn cell(term: u64) -> Option<[u64; 2]> {
    // SAFETY: such a term points to what `Arena::write` made of a list.
    (term & 3 == 1).then(|| unsafe { *((term & !7) as *const [u64; 2]) })
}

/// What a term is.
///
/// # Safety
///
/// As for [`Boxed::of`].
pub unsafe fn read(term: u64) -> Value {
    // SAFETY: what is inside a term is of the same arena.
    unsafe {
        let all = |words: &[u64]| words.iter().map(|word| read(*word)).collect::<Vec<_>>();
        if let Some([head, mut tail]) = cell(term) {
            let mut elements = vec![read(head)];
            while let Some([head, rest]) = cell(tail) {
                elements.push(read(head));
                tail = rest;
            }
            return Value::List(elements, Box::new(read(tail)));
        }
        let Some(boxed) = Boxed::of(term) else {
            return match term & 0xF {
                0xF => Value::Integer(i128::from(term as i64 >> 4).into()),
                0x3 => Value::Pid((term >> 4) as u8),
                0x7 => Value::Port((term >> 4) as u8),
                _ if term == NIL => Value::Nil,
                _ => Value::Atom((term >> 6) as u8),
            };
        };
        let last = boxed.words.last().map_or(0, |word| *word as u8);
        match boxed.kind {
            Kind::Tuple => Value::Tuple(all(boxed.words)),
            Kind::Map => {
                let (keys, values) = boxed.words.split_at(boxed.count);
                Value::Map(all(keys).into_iter().zip(all(values)).collect())
            }
            Kind::Negative => Value::Integer(Integer::new(true, boxed.bytes())),
            Kind::Positive => Value::Integer(Integer::new(false, boxed.bytes())),
            Kind::Float => Value::Float(boxed.words[0]),
            Kind::Binary => Value::Binary(boxed.bytes()),
            Kind::Bitstring => Value::Bitstring(boxed.bytes(), last),
            Kind::Reference => Value::Reference(last),
            Kind::Fun => Value::Fun(last),
            Kind::RemotePid => Value::RemotePid(last),
        }
    }
}

/// Declares functions as the VM has them. Each gives what it has through pointers, and answers
/// whether it has it.
///
/// # Safety
///
/// What the caller gives is of arenas that are there, and may be read or written: as the
/// documentation of `erl_nif` asks.
macro_rules! vm {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $answer:ty)? $body:block)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) $(-> $answer)? {
            // SAFETY: by the contract above.
            #[allow(unused_unsafe)]
            unsafe { $body }
        }
    )*};
}

/// Writes an answer, if there is one, and answers whether there was.
unsafe fn give<T>(to: *mut T, value: Option<T>) -> c_int {
    let given = value.is_some();
    if let Some(value) = value {
        // SAFETY: the caller of the VM says that it may be written.
        unsafe { to.write(value) };
    }
    given.into()
}

/// An integer that is not too large, if the term is one.
///
/// # Safety
///
/// As for [`Boxed::of`].
unsafe fn integer(term: u64) -> Option<i128> {
    // SAFETY: by the contract above.
    match unsafe { Boxed::of(term) } {
        None => (term & 0xF == 0xF).then_some(i128::from(term as i64 >> 4)),
        Some(boxed) => match boxed.kind {
            Kind::Negative => Integer::new(true, boxed.bytes()).small(),
            Kind::Positive => Integer::new(false, boxed.bytes()).small(),
            _ => None,
        },
    }
}

vm! {
    fn enif_alloc_env() -> *mut Arena { Box::into_raw(Box::default()) }

    fn enif_free_env(arena: *mut Arena) { drop(Box::from_raw(arena)) }

    fn enif_make_copy(arena: *mut Arena, term: u64) -> u64 { (*arena).write(&read(term)) }

    fn enif_is_identical(one: u64, other: u64) -> c_int {
        (read(one).normal() == read(other).normal()).into()
    }

    fn enif_compare(one: u64, other: u64) -> c_int {
        let (Value::Integer(one), Value::Integer(other)) = (read(one), read(other)) else {
            panic!("only integers are compared");
        };
        one.compare(&other) as c_int
    }

    // So few that ids of the same hash are met.
    fn enif_hash(_kind: c_uint, term: u64, salt: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        read(term).normal().hash(&mut hasher);
        (hasher.finish() ^ salt) & 0xF
    }

    fn enif_term_type(_arena: *mut Arena, term: u64) -> ErlNifTermType {
        use ErlNifTermType::*;
        let Some(boxed) = Boxed::of(term) else {
            return match term & 0xF {
                0xF => ERL_NIF_TERM_TYPE_INTEGER,
                0x3 => ERL_NIF_TERM_TYPE_PID,
                0x7 => ERL_NIF_TERM_TYPE_PORT,
                _ if term & 3 == 1 || term == NIL => ERL_NIF_TERM_TYPE_LIST,
                _ => ERL_NIF_TERM_TYPE_ATOM,
            };
        };
        match boxed.kind {
            Kind::Tuple => ERL_NIF_TERM_TYPE_TUPLE,
            Kind::Negative | Kind::Positive => ERL_NIF_TERM_TYPE_INTEGER,
            Kind::Reference => ERL_NIF_TERM_TYPE_REFERENCE,
            Kind::Fun => ERL_NIF_TERM_TYPE_FUN,
            Kind::Float => ERL_NIF_TERM_TYPE_FLOAT,
            Kind::Binary | Kind::Bitstring => ERL_NIF_TERM_TYPE_BITSTRING,
            Kind::RemotePid => ERL_NIF_TERM_TYPE_PID,
            Kind::Map => ERL_NIF_TERM_TYPE_MAP,
        }
    }

    fn enif_get_long(_arena: *mut Arena, term: u64, to: *mut c_long) -> c_int {
        give(to, integer(term).and_then(|number| number.try_into().ok()))
    }

    fn enif_get_ulong(_arena: *mut Arena, term: u64, to: *mut c_ulong) -> c_int {
        give(to, integer(term).and_then(|number| number.try_into().ok()))
    }

    fn enif_get_double(_arena: *mut Arena, term: u64, to: *mut f64) -> c_int {
        let float = Boxed::of(term).filter(|boxed| boxed.kind == Kind::Float);
        give(to, float.map(|boxed| f64::from_bits(boxed.words[0])))
    }

    fn enif_inspect_binary(_arena: *mut Arena, term: u64, to: *mut ErlNifBinary) -> c_int {
        let Some(boxed) = Boxed::of(term).filter(|boxed| boxed.kind == Kind::Binary) else { return 0 };
        (*to).size = boxed.count;
        (*to).data = boxed.words.as_ptr().cast_mut().cast();
        1
    }

    fn enif_get_tuple(
        _arena: *mut Arena, term: u64, arity: *mut c_int, elements: *mut *const u64
    ) -> c_int {
        let Some(boxed) = Boxed::of(term).filter(|boxed| boxed.kind == Kind::Tuple) else { return 0 };
        give(arity, Some(boxed.count as c_int));
        // As the VM has it, there is nothing to point at in `{}`.
        give(elements, Some(if boxed.count == 0 { std::ptr::null() } else { boxed.words.as_ptr() }))
    }

    fn enif_get_list_cell(
        _arena: *mut Arena, term: u64, head: *mut u64, tail: *mut u64
    ) -> c_int {
        let Some([first, rest]) = cell(term) else { return 0 };
        give(head, Some(first));
        give(tail, Some(rest))
    }

    fn enif_map_iterator_create(
        _arena: *mut Arena, map: u64, to: *mut [u64; 2], _entry: c_uint
    ) -> c_int {
        let map = Boxed::of(map).filter(|boxed| boxed.kind == Kind::Map).map(|_| [map, 0]);
        give(to, map)
    }

    fn enif_map_iterator_get_pair(
        _arena: *mut Arena, iterator: *mut [u64; 2], key: *mut u64, value: *mut u64
    ) -> c_int {
        let [map, at] = *iterator;
        let Some(boxed) = Boxed::of(map).filter(|boxed| (at as usize) < boxed.count) else {
            return 0;
        };
        give(key, Some(boxed.words[at as usize]));
        give(value, Some(boxed.words[boxed.count + at as usize]))
    }

    fn enif_map_iterator_next(_arena: *mut Arena, iterator: *mut [u64; 2]) -> c_int {
        (*iterator)[1] += 1;
        1
    }

    fn enif_map_iterator_destroy(_arena: *mut Arena, _iterator: *mut [u64; 2]) {}

    fn enif_make_long(arena: *mut Arena, number: c_long) -> u64 {
        (*arena).write(&Value::Integer(i128::from(number).into()))
    }

    fn enif_make_ulong(arena: *mut Arena, number: c_ulong) -> u64 {
        (*arena).write(&Value::Integer(i128::from(number).into()))
    }

    fn enif_make_double(arena: *mut Arena, number: f64) -> u64 {
        (*arena).write(&Value::Float(number.to_bits()))
    }

    fn enif_make_tuple_from_array(
        arena: *mut Arena, elements: *const u64, arity: c_uint
    ) -> u64 {
        let elements = words(elements, arity as usize).to_vec();
        (*arena).boxed(Kind::Tuple, elements.len(), elements)
    }

    fn enif_make_list_cell(arena: *mut Arena, head: u64, tail: u64) -> u64 {
        (*arena).add(vec![head, tail]) | 1
    }

    fn enif_make_new_map(arena: *mut Arena) -> u64 { (*arena).write(&Value::Map(BTreeMap::new())) }

    fn enif_make_map_from_arrays(
        arena: *mut Arena, keys: *const u64, values: *const u64, pairs: usize, to: *mut u64
    ) -> c_int {
        let all = |from| words(from, pairs).iter().map(|term| read(*term));
        let map: BTreeMap<_, _> = all(keys).zip(all(values)).collect();
        let whole = map.len() == pairs;
        give(to, whole.then(|| (*arena).write(&Value::Map(map))))
    }

    fn enif_make_new_binary(arena: *mut Arena, size: usize, to: *mut u64) -> *mut c_void {
        let term = (*arena).bytes(Kind::Binary, &vec![0; size], 0);
        give(to, Some(term));
        Boxed::of(term).map_or(std::ptr::null_mut(), |boxed| {
            boxed.words.as_ptr().cast_mut().cast()
        })
    }

    // Only what the library makes of it: a large integer.
    fn enif_binary_to_term(
        arena: *mut Arena, bytes: *const u8, size: usize, to: *mut u64, _options: c_uint
    ) -> usize {
        let [131, 110, count, sign, magnitude @ ..] = std::slice::from_raw_parts(bytes, size) else {
            panic!("another format");
        };
        assert_eq!(magnitude.len(), usize::from(*count));
        let integer = Integer::new(*sign == 1, magnitude.to_vec());
        give(to, Some((*arena).write(&Value::Integer(integer))));
        size
    }
}

unsafe fn words<'a>(from: *const u64, count: usize) -> &'a [u64] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller of the VM says that so many are there.
    unsafe { std::slice::from_raw_parts(from, count) }
}
