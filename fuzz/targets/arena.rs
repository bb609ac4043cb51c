//! Terms in environments, which look like the VM's.
//!
//! Immediates, lists and pointers to headers have the VM's tags, for the library goes by them. What
//! is behind a header is laid out otherwise, which nobody sees who asks the VM.

use std::ffi::c_void;
use std::mem::offset_of;

use crate::values::{Integer, Value};

/// The kinds of what is behind a header.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
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
    Resource,
}

/// In the order of their numbers.
const KINDS: [Kind; 11] = [
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
    Kind::Resource,
];

impl Kind {
    /// The low bits of its header in the VM.
    fn header(self) -> u64 {
        match self {
            Self::Tuple => 0x00,
            Self::Positive => 0x08,
            Self::Negative => 0x0C,
            Self::Reference | Self::Resource => 0x10,
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
    /// What is there for as long as a term refers to it.
    resources: Vec<*mut Resource>,
    /// What all headers say instead of the truth, for nothing may depend on that but the time.
    pub lie: Option<u8>,
    /// How far the pairs of large maps are turned around: nobody knows their order.
    pub turn: usize,
}

pub const NIL: u64 = 0x3B;

/// The words of what is behind a header: the header, its kind, how much it has, and that.
const START: usize = 3;

impl Arena {
    pub fn add(&mut self, words: Vec<u64>) -> u64 {
        self.blocks.push(words.into());
        self.blocks.last().map_or(0, |block| block.as_ptr() as u64)
    }

    pub fn boxed(&mut self, kind: Kind, count: usize, rest: impl IntoIterator<Item = u64>) -> u64 {
        let header = self.lie.map_or(kind.header(), |lie| u64::from(lie) & 0x3F);
        let mut words = vec![(count as u64) << 6 | header, kind as u64, count as u64];
        words.extend(rest);
        self.add(words) | 2
    }

    pub fn bytes(&mut self, kind: Kind, bytes: &[u8], rest: u64) -> u64 {
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
            Value::Fun(n, environment) => {
                let words = self.all(environment);
                let number = u64::from(*n);
                self.boxed(Kind::Fun, words.len(), [number].into_iter().chain(words))
            }
            Value::RemotePid(n) => self.boxed(Kind::RemotePid, 1, [(*n).into()]),
        }
    }
}

/// A resource of the library's.
pub struct Resource {
    /// By how many it is held.
    holders: usize,
    pub memory: [u64; 4],
}

impl Resource {
    /// One with memory for so many bytes, held by who asked.
    pub fn allocate(bytes: usize) -> *mut Self {
        let (holders, memory) = (1, [0; 4]);
        assert!(bytes <= size_of_val(&memory));
        Box::into_raw(Box::new(Self { holders, memory }))
    }

    /// The one that has this memory.
    pub fn of(memory: *const c_void) -> *mut Self {
        let start = memory.cast_mut().cast::<u8>();
        start.wrapping_sub(offset_of!(Self, memory)).cast()
    }

    /// # Safety
    ///
    /// It is held.
    pub unsafe fn hold(this: *mut Self) {
        // SAFETY: by the contract above; one thread has all resources.
        unsafe { (*this).holders += 1 }
    }

    /// # Safety
    ///
    /// It is held, by whom this is one less.
    pub unsafe fn release(this: *mut Self) {
        // SAFETY: by the contract above, and `allocate` made it.
        unsafe {
            (*this).holders -= 1;
            if (*this).holders == 0 {
                drop(Box::from_raw(this));
            }
        }
    }
}

impl Arena {
    /// A term that refers to a resource.
    ///
    /// # Safety
    ///
    /// The resource is held.
    pub unsafe fn refer(&mut self, resource: *mut Resource) -> u64 {
        // SAFETY: by the contract above.
        unsafe { Resource::hold(resource) };
        self.resources.push(resource);
        self.boxed(Kind::Resource, 1, [resource as u64])
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for resource in self.resources.drain(..) {
            // SAFETY: `refer` holds it.
            unsafe { Resource::release(resource) };
        }
    }
}

/// What is behind a header, or `None` for other terms.
pub struct Boxed<'a> {
    pub kind: Kind,
    pub count: usize,
    /// As many words as there are, and what is behind them is not to be read.
    pub words: &'a [u64],
}

impl<'a> Boxed<'a> {
    /// # Safety
    ///
    /// The term is one of an [`Arena`] that is there for as long as this is used.
    pub unsafe fn of(term: u64) -> Option<Self> {
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
                Kind::Fun => 1 + count,
                Kind::Reference | Kind::Float | Kind::RemotePid | Kind::Resource => 1,
            };
            let words = std::slice::from_raw_parts(start.add(START), words);
            Some(Self { kind, count, words })
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
        bytes.take(self.count).collect()
    }
}

/// The head and the tail of a list.
///
/// # Safety
///
/// As for [`Boxed::of`].
pub unsafe fn cell(term: u64) -> Option<[u64; 2]> {
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
            Kind::Fun => Value::Fun(boxed.words[0] as u8, all(&boxed.words[1..])),
            Kind::RemotePid => Value::RemotePid(last),
            Kind::Resource => panic!("no id has one in it"),
        }
    }
}
