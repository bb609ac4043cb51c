//! Any two terms as ids: the table must take them for one exactly if they are `=:=`, and what is read
//! back must be what was put in.
//!
//! The encoder is the NIF's own. The VM that it asks is a stand-in: see `vm.rs`.

#![no_main]
// Of the NIF's files some functions are not needed here.
#![allow(dead_code, unused_imports, unused_macros)]

macro_rules! point {
    ($name:expr) => {};
}

mod arena;
#[path = "../../native/gen_registry_nif/src/asked.rs"]
mod asked;
#[path = "../../native/gen_registry_nif/src/copied.rs"]
mod copied;
#[path = "../../native/gen_registry_nif/src/flatten.rs"]
mod flatten;
#[path = "../../native/gen_registry_nif/src/hot.rs"]
mod hot;
#[path = "../../native/gen_registry_nif/src/measured.rs"]
mod measured;
#[path = "../../native/gen_registry_nif/src/nested.rs"]
mod nested;
#[path = "../../native/gen_registry_nif/src/timeslice.rs"]
mod timeslice;
#[path = "../../native/gen_registry_nif/src/unflatten.rs"]
mod unflatten;
mod values;
mod vm;
#[path = "../../native/gen_registry_nif/src/weigh.rs"]
mod weigh;
#[path = "../../native/gen_registry_nif/src/words.rs"]
mod words;

mod atoms {
    rustler::atoms! { nif_panicked, not_found, sealed }
}

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

use libfuzzer_sys::fuzz_target;
use once_cell::sync::Lazy;
use registry_table::{Conflict, Cursor, Id, Pid, Remembered, Table, Worker, collect, pin};
use rustler::codegen_runtime::{ResourceRegistration, inventory};
use rustler::{Encoder, Env, Nif, Term};

use arena::{Arena, read};
use copied::Copied;
use hot::Failed;
use values::{Integer, Value};

/// Makes terms of bytes. Where they end, it goes on with zeros.
struct Maker<'b> {
    bytes: &'b [u8],
    /// How many more terms there may be.
    left: usize,
}

impl Maker<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        *first
    }

    fn many(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn float(bits: u64) -> Value {
        // The VM has no others.
        let finite = f64::from_bits(bits).is_finite();
        Value::Float(if finite { bits } else { 1.5_f64.to_bits() })
    }

    fn values(&mut self, most: u8) -> Vec<Value> {
        let count = self.byte() % (most + 1);
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Value {
        let Some(left) = self.left.checked_sub(1) else {
            return Value::Nil;
        };
        self.left = left;
        let signed = |number: i128| Value::Integer(number.into());
        match self.byte() % 24 {
            0 => Value::Atom(self.byte()),
            1 => Value::Pid(self.byte()),
            2 => Value::Port(self.byte()),
            3 => Value::Nil,
            4 => signed((self.byte() as i8).into()),
            // Around where another form begins.
            5 => {
                let near = i128::from(self.byte() as i8);
                let edge = [-1 << 63, -1 << 59, 1 << 59, 1 << 63, 1 << 64];
                signed(edge[usize::from(self.byte()) % edge.len()] + near)
            }
            6 => signed((self.word() as i64).into()),
            7 => {
                let (negative, bytes) = (self.byte() & 1 == 1, self.byte() % 24);
                Value::Integer(Integer::new(negative, self.many(bytes.into())))
            }
            8 => {
                let (negative, bytes) = (self.byte() & 1 == 1, 250 + usize::from(self.byte() % 12));
                let mut magnitude = vec![u8::MAX; bytes];
                magnitude[0] = self.byte();
                Value::Integer(Integer::new(negative, magnitude))
            }
            9 => Self::float(f64::from(self.byte() as i8).to_bits()),
            10 => Self::float(self.word()),
            11 => Self::float(u64::from(self.byte() & 1) << 63),
            12 => {
                let bytes = usize::from(self.byte() % 64);
                Value::Binary(self.many(bytes))
            }
            13 => {
                let mut bytes = vec![self.byte(); 4 * usize::from(self.byte())];
                bytes.push(self.byte());
                Value::Binary(bytes)
            }
            14 => {
                let (bits, bytes) = (1 + self.byte() % 7, 1 + self.byte() % 9);
                let mut bytes = self.many(bytes.into());
                let last = bytes.len() - 1;
                bytes[last] &= u8::MAX << (8 - bits);
                Value::Bitstring(bytes, bits)
            }
            15 | 16 => Value::Tuple(self.values(9)),
            17 => match self.values(9) {
                elements if elements.is_empty() => Value::Nil,
                elements => Value::List(elements, Box::new(Value::Nil)),
            },
            18 => {
                let (head, tail) = (self.value(), self.value());
                match tail {
                    Value::List(mut elements, tail) => {
                        elements.insert(0, head);
                        Value::List(elements, tail)
                    }
                    tail => Value::List(vec![head], Box::new(tail)),
                }
            }
            19 => {
                let count = self.byte() % 5;
                let mut pair = || (self.value().normal(), self.value());
                Value::Map((0..count).map(|_| pair()).collect())
            }
            20 => {
                // About as many pairs as a small map may have.
                let count = 30 + i128::from(self.byte() % 6);
                let mut map: BTreeMap<_, _> =
                    (0..count).map(|n| (signed(n), signed(n / 3))).collect();
                map.insert(self.value().normal(), self.value());
                Value::Map(map)
            }
            21 => match self.byte() % 3 {
                0 => Value::Reference(self.byte()),
                1 => Value::Fun(self.byte(), self.values(3)),
                _ => Value::RemotePid(self.byte()),
            },
            // About as deep as is followed.
            22 => {
                let depth = 28 + self.byte() % 8;
                let inner = self.value();
                (0..depth).fold(inner, |inner, _| Value::Tuple(vec![inner]))
            }
            _ => Value::Tuple(vec![Value::Atom(self.byte() % 4), self.value()]),
        }
    }
}

fn value(bytes: &[u8]) -> Value {
    Maker { bytes, left: 200 }.value()
}

/// Runs `f` with the id that a term is, as the NIF and Elixir do: if it is too large, once more,
/// elsewhere, and if the NIF cannot look into it, once more, measured.
fn with_id<R>(term: Term<'_>, f: impl Fn(&Id<'_, Term<'_>>) -> R) -> R {
    let anywhere = |term| match hot::with_id(term, hot::NORMAL, &f) {
        Err(Failed::TooLarge) => hot::with_id(term, usize::MAX, &f),
        done => done,
    };
    let done = match anywhere(term) {
        Err(Failed::Sealed) => anywhere(measured(term)),
        done => done,
    };
    done.unwrap_or_else(|_| panic!("a small term is no id"))
}

/// An id with its size before it, as in `lib/gen_registry/sealed.ex`.
fn measured(id: Term<'_>) -> Term<'_> {
    let env = id.get_env();
    let (mut words, mut terms) = (0, vec![id]);
    while !terms.is_empty() {
        let asked = call(env, c"measure", &[terms.encode(env), words.encode(env)]);
        let sealed: Vec<Term<'_>>;
        (words, sealed) = asked.decode().expect("a sum and a list");
        terms.clear();
        for part in sealed {
            // SAFETY: the environment is an arena, and the term is of it.
            unsafe {
                match read(words::term_word(part)) {
                    Value::Fun(_, environment) => terms.extend(environment.iter().map(|value| {
                        let arena = env.as_c_arg().cast::<Arena>();
                        Term::new(env, words::to_raw((*arena).write(value)))
                    })),
                    leaf @ (Value::Integer(_) | Value::Bitstring(..)) => {
                        let mut external = Vec::new();
                        leaf.write(&mut external);
                        words += external.len() / 8;
                    }
                    other => panic!("the NIF can look into {other:?}"),
                }
            }
        }
    }
    id.list_prepend(call(env, c"measured", &[words.encode(env)]))
}

/// Calls a function of the NIF as the VM does.
fn call<'a>(env: Env<'a>, name: &CStr, arguments: &[Term<'a>]) -> Term<'a> {
    let arguments: Vec<_> = arguments.iter().map(Term::as_c_arg).collect();
    // SAFETY: the names are string literals, and the arguments are of `env`.
    unsafe {
        let mut nifs = inventory::iter::<Nif>.into_iter();
        let nif = nifs.find(|nif| CStr::from_ptr(nif.name) == name);
        let nif = nif.expect("it is there");
        assert_eq!(nif.arity as usize, arguments.len());
        let result = (nif.raw_func)(env.as_c_arg(), nif.arity as i32, arguments.as_ptr());
        Term::new(env, result)
    }
}

/// What the library has the VM know when it is loaded.
fn load() {
    let mut arena = Arena::default();
    // SAFETY: the arena is as the functions in `vm.rs` take it.
    let env = unsafe { Env::new_init_env(&(), (&raw mut arena).cast()) };
    ResourceRegistration::register_all_collected(env).expect("there is nothing to fail");
}

/// One for all runs, each of which leaves it empty: to make one takes longer than a run.
static TABLE: Lazy<Table<Copied>> = Lazy::new(Table::new);

/// A pid that no run before had, so that what is remembered by it is of this run.
fn new_pid() -> Option<Pid> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    // Relaxed: the number is all that counts.
    Pid::new(1 + LAST.fetch_add(1, Ordering::Relaxed))
}

fuzz_target!(init: load(), |bytes: &[u8]| {
    // The second term is of the same bytes but for one, so that it is much like the first.
    let [lie, turn, place, other, rest @ ..] = bytes else {
        return;
    };
    let mut changed = rest.to_vec();
    if !rest.is_empty() {
        changed[usize::from(*place) % rest.len()] = *other;
    }
    let values = [value(rest), value(&changed)];
    let [first, second] = values.clone().map(Value::normal);
    let same = first == second;

    let (mut truthful, mut lying, mut read_into) = Default::default();
    let arenas: [&mut Arena; 3] = [&mut truthful, &mut lying, &mut read_into];
    arenas[1].lie = Some(*lie);
    arenas[1].turn = (*turn).into();
    let words = [
        arenas[0].write(&values[0]),
        arenas[1].write(&values[0]),
        arenas[1].write(&values[1]),
    ];
    let [truthful, lying, read_into] = arenas.map(std::ptr::from_mut);
    let [one, two] = [new_pid(), new_pid()];
    let orphan = |pid: Option<Pid>| Worker {
        pid: pid.expect("it is not zero"),
        parent: None,
    };

    // SAFETY: the arenas are as the functions in `vm.rs` take them, the terms are theirs, and both
    // live to the end.
    let (original, again, near) = unsafe {
        let [truthful, lying] = [truthful, lying].map(|arena| Env::new(&(), arena.cast()));
        let term = |env, word| Term::new(env, words::to_raw(word));
        (
            term(truthful, words[0]),
            term(lying, words[1]),
            term(lying, words[2]),
        )
    };
    let table = &*TABLE;
    let get = |term| with_id(term, |id| table.get(id, &pin()));
    let insert = |term, pid| with_id(term, |id| table.insert(id, orphan(pid)));

    assert_eq!(insert(original, one), Ok(()));
    assert_eq!(get(original), one);
    assert_eq!(get(again), one, "the form depends on the header");
    assert_eq!(get(near).is_some(), same, "{first:?} and {second:?}");
    let inserted = insert(near, two);
    assert_eq!(inserted.is_ok(), !same);
    if same {
        assert_eq!(
            inserted,
            one.map_or(Ok(()), |pid| Err(Conflict::IdTaken(pid)))
        );
    }

    // SAFETY: as above.
    let env = unsafe { Env::new(&(), read_into.cast()) };
    // SAFETY: as above.
    let value_of = |term| unsafe { read(words::term_word(term)) }.normal();
    let expected = |pid| if Some(pid) == one { &first } else { &second };
    let mut met = 0;
    let mut next = Some(Cursor::START);
    while let Some(cursor) = next {
        next = table.scan(cursor, 1_000, |stored, pid| {
            assert_eq!(&value_of(unflatten::to_term(env, stored)), expected(pid));
            met += 1;
        });
    }
    assert_eq!(met, if same { 1 } else { 2 });
    for pid in [one, two].into_iter().flatten() {
        table.remove(pid);
        table.last_id_of(pid, |id| {
            let term = match id {
                Remembered::Whole(stored) => unflatten::to_term(env, stored),
                Remembered::Flat(bytes) => env.binary_to_term(bytes).expect("it is whole").0,
            };
            assert_eq!(&value_of(term), expected(pid));
        });
    }
    assert_eq!(get(original), None);
    // What was copied is freed while there is someone to notice.
    collect();
});
