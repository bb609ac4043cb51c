//! Terms as plain values, and their external format.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::OnceLock;

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
    /// With what it was made with.
    Fun(u8, Vec<Value>),
    RemotePid(u8),
}

/// An integer of any size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Integer {
    pub negative: bool,
    /// The lowest byte first, and the highest is not zero.
    pub magnitude: Vec<u8>,
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

    pub fn small(&self) -> Option<i128> {
        let mut bytes = [0; 16];
        bytes
            .get_mut(..self.magnitude.len())?
            .copy_from_slice(&self.magnitude);
        let magnitude = i128::try_from(u128::from_le_bytes(bytes)).ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    pub fn compare(&self, other: &Self) -> Ordering {
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
            Self::Fun(number, environment) => Self::Fun(number, all(environment)),
            Self::List(elements, tail) => Self::List(all(elements), Box::new(tail.normal())),
            Self::Map(pairs) => {
                let pairs = pairs.into_iter();
                Self::Map(pairs.map(|(k, v)| (k.normal(), v.normal())).collect())
            }
            other => other,
        }
    }
}

// The external format: tags, then numbers of bytes or values, then those. The VM's own is that of large
// integers, for the library writes such; no one looks into the others.
const BIG: u8 = 110;
const HUGE: u8 = 111;

impl Value {
    /// Writes its external format, but for the byte that says so.
    pub fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Atom(n) => to.extend([b'A', *n]),
            Self::Pid(n) => to.extend([b'P', *n]),
            Self::Port(n) => to.extend([b'O', *n]),
            Self::Reference(n) => to.extend([b'R', *n]),
            Self::RemotePid(n) => to.extend([b'Q', *n]),
            Self::Nil => to.push(b'N'),
            Self::Float(bits) => {
                to.push(b'F');
                to.extend(bits.to_le_bytes());
            }
            Self::Integer(integer) => {
                match u8::try_from(integer.magnitude.len()) {
                    Ok(count) => to.extend([BIG, count]),
                    Err(_) => count(to, HUGE, integer.magnitude.len()),
                }
                to.push(integer.negative.into());
                to.extend(&integer.magnitude);
            }
            Self::Binary(bytes) => {
                count(to, b'B', bytes.len());
                to.extend(bytes);
            }
            Self::Bitstring(bytes, bits) => {
                count(to, b'S', bytes.len());
                to.push(*bits);
                to.extend(bytes);
            }
            Self::Tuple(elements) => {
                count(to, b'T', elements.len());
                elements.iter().for_each(|element| element.write(to));
            }
            Self::List(elements, tail) => {
                count(to, b'L', elements.len());
                elements.iter().for_each(|element| element.write(to));
                tail.write(to);
            }
            Self::Map(pairs) => {
                count(to, b'M', pairs.len());
                for (key, value) in pairs {
                    key.write(to);
                    value.write(to);
                }
            }
            Self::Fun(n, environment) => {
                count(to, b'U', environment.len());
                to.push(*n);
                environment.iter().for_each(|value| value.write(to));
            }
        }
    }

    /// Reads what [`Value::write`] wrote, and leaves what follows it.
    pub fn read(from: &mut &[u8]) -> Option<Self> {
        let tag = byte(from)?;
        let counted = match tag {
            BIG => byte(from)?.into(),
            HUGE | b'B' | b'S' | b'T' | b'L' | b'M' | b'U' => {
                let count = take(from, 4)?.try_into().ok()?;
                u32::from_le_bytes(count) as usize
            }
            _ => 0,
        };
        let all = |from: &mut _| -> Option<_> { (0..counted).map(|_| Self::read(from)).collect() };
        Some(match tag {
            b'A' => Self::Atom(byte(from)?),
            b'P' => Self::Pid(byte(from)?),
            b'O' => Self::Port(byte(from)?),
            b'R' => Self::Reference(byte(from)?),
            b'Q' => Self::RemotePid(byte(from)?),
            b'N' => Self::Nil,
            b'F' => Self::Float(u64::from_le_bytes(take(from, 8)?.try_into().ok()?)),
            BIG | HUGE => {
                let negative = byte(from)? == 1;
                Self::Integer(Integer::new(negative, take(from, counted)?.to_vec()))
            }
            b'B' => Self::Binary(take(from, counted)?.to_vec()),
            b'S' => {
                let bits = byte(from)?;
                Self::Bitstring(take(from, counted)?.to_vec(), bits)
            }
            b'T' => Self::Tuple(all(from)?),
            b'L' => Self::List(all(from)?, Box::new(Self::read(from)?)),
            b'M' => {
                let pairs = (0..counted).map(|_| Some((Self::read(from)?, Self::read(from)?)));
                Self::Map(pairs.collect::<Option<_>>()?)
            }
            b'U' => Self::Fun(byte(from)?, all(from)?),
            _ => return None,
        })
    }
}

fn count(to: &mut Vec<u8>, tag: u8, count: usize) {
    to.push(tag);
    to.extend((count as u32).to_le_bytes());
}

fn take<'b>(from: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(taken)
}

fn byte(from: &mut &[u8]) -> Option<u8> {
    take(from, 1).map(|taken| taken[0])
}
