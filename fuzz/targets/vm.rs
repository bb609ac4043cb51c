//! A stand-in for the VM: the functions of its that the encoder of ids calls, over the terms of
//! `arena.rs`.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};

use rustler::sys::ErlNifBinary;

use crate::arena::{Arena, Boxed, Kind, NIL, Resource, cell, read};
use crate::values::{Integer, Value};

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

    fn enif_is_number(_arena: *mut Arena, term: u64) -> c_int {
        let numbers = [Kind::Negative, Kind::Positive, Kind::Float];
        is(term, 0xF, &numbers)
    }

    fn enif_is_pid(_arena: *mut Arena, term: u64) -> c_int { is(term, 0x3, &[Kind::RemotePid]) }

    fn enif_is_port(_arena: *mut Arena, term: u64) -> c_int { is(term, 0x7, &[]) }

    fn enif_is_ref(_arena: *mut Arena, term: u64) -> c_int {
        Boxed::of(term)
            .is_some_and(|boxed| [Kind::Reference, Kind::Resource].contains(&boxed.kind))
            .into()
    }

    fn enif_is_list(_arena: *mut Arena, term: u64) -> c_int {
        (term == NIL || cell(term).is_some()).into()
    }

    fn enif_is_empty_list(_arena: *mut Arena, term: u64) -> c_int { (term == NIL).into() }

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

    fn enif_make_int(arena: *mut Arena, number: c_int) -> u64 {
        (*arena).write(&Value::Integer(i128::from(number).into()))
    }

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

    fn enif_make_list_from_array(arena: *mut Arena, elements: *const u64, count: c_uint) -> u64 {
        let elements = words(elements, count as usize).iter();
        elements.rfold(NIL, |tail, head| (*arena).add(vec![*head, tail]) | 1)
    }

    fn enif_term_to_binary(_arena: *mut Arena, term: u64, to: *mut ErlNifBinary) -> c_int {
        let mut external = vec![EXTERNAL];
        read(term).write(&mut external);
        (*to).size = external.len();
        (*to).data = Box::into_raw(external.into_boxed_slice()).cast();
        1
    }

    fn enif_release_binary(binary: *mut ErlNifBinary) {
        let bytes = std::ptr::slice_from_raw_parts_mut((*binary).data, (*binary).size);
        drop(Box::from_raw(bytes))
    }

    fn enif_binary_to_term(
        arena: *mut Arena, bytes: *const u8, size: usize, to: *mut u64, _options: c_uint
    ) -> usize {
        let Some((&EXTERNAL, mut rest)) = std::slice::from_raw_parts(bytes, size).split_first()
        else {
            return 0;
        };
        let value = Value::read(&mut rest);
        if give(to, value.map(|value| (*arena).write(&value))) == 0 { 0 } else { size - rest.len() }
    }

    fn enif_consume_timeslice(_arena: *mut Arena, percent: c_int) -> c_int {
        assert!((1..=100).contains(&percent));
        0
    }

    // There is one type of resources.
    fn enif_open_resource_type_x(
        _arena: *mut Arena, _name: *const c_char, _init: *const c_void, _flags: c_int,
        _tried: *mut c_int
    ) -> *const c_void { std::ptr::NonNull::dangling().as_ptr() }

    fn enif_alloc_resource(_type: *const c_void, bytes: usize) -> *mut c_void {
        (&raw mut (*Resource::allocate(bytes)).memory).cast()
    }

    fn enif_keep_resource(memory: *const c_void) { Resource::hold(Resource::of(memory)) }

    fn enif_release_resource(memory: *const c_void) { Resource::release(Resource::of(memory)) }

    fn enif_make_resource(arena: *mut Arena, memory: *const c_void) -> u64 {
        (*arena).refer(Resource::of(memory))
    }

    fn enif_get_resource(
        _arena: *mut Arena, term: u64, _type: *const c_void, to: *mut *mut c_void
    ) -> c_int {
        let resource = Boxed::of(term).filter(|boxed| boxed.kind == Kind::Resource);
        let memory = |boxed: Boxed<'_>| {
            let resource = boxed.words[0] as *mut Resource;
            (&raw mut (*resource).memory).cast()
        };
        give(to, resource.map(memory))
    }

    // As on a dirty scheduler, which then is at once.
    fn enif_schedule_nif(
        arena: *mut Arena, _name: *const c_char, _flags: c_int, nif: Nif, arity: c_int,
        arguments: *const u64
    ) -> u64 { nif(arena, arity, arguments) }

    // A NIF that fails here is a fault, and else the library makes no atoms.
    fn enif_make_atom_len(_arena: *mut Arena, _name: *const c_char, _bytes: usize) -> u64 {
        panic!("an atom")
    }

    fn enif_is_exception(_arena: *mut Arena, _term: u64) -> c_int { panic!("an exception") }

    fn enif_make_badarg(_arena: *mut Arena) -> u64 { panic!("a bad argument") }

    fn enif_raise_exception(_arena: *mut Arena, _reason: u64) -> u64 { panic!("a NIF panicked") }
}

/// How the VM calls a function of the library.
type Nif = unsafe extern "C" fn(*mut Arena, c_int, *const u64) -> u64;

/// What the external format begins with.
const EXTERNAL: u8 = 131;

/// Whether a term is an immediate of this tag, or of one of these kinds.
///
/// # Safety
///
/// As for [`Boxed::of`].
unsafe fn is(term: u64, tag: u64, kinds: &[Kind]) -> c_int {
    // SAFETY: by the contract above.
    let boxed = unsafe { Boxed::of(term) };
    boxed
        .map_or(term & 0xF == tag, |boxed| kinds.contains(&boxed.kind))
        .into()
}

unsafe fn words<'a>(from: *const u64, count: usize) -> &'a [u64] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller of the VM says that so many are there.
    unsafe { std::slice::from_raw_parts(from, count) }
}
