//! What this library takes for granted of the VM's terms, checked when it is loaded.
//!
//! The VM does not document its tags. They have been these since the nineties; should that ever
//! change, the library refuses to load rather than to confuse ids.

use rustler::{Encoder, Env, Term};

use crate::asked::cell;
use crate::atoms;
use crate::words::*;

/// Whether this VM tells immediates, lists and pointers to headers apart as this library does, and
/// whether a pid of this node is its word. `ports` are some of this node.
pub fn are_known<'a>(env: Env<'a>, ports: Term<'a>) -> bool {
    let own = env.pid().encode(env);
    let Some(strangers) = strangers(env) else {
        return false;
    };
    let immediates = [
        atoms::ok().to_term(env),
        (-1_i8).encode(env),
        Term::list_new_empty(env),
        own,
    ];
    let boxed = [
        u64::MAX.encode(env),
        0.5_f64.encode(env),
        "binary".encode(env),
        (1, 2).encode(env),
        Term::map_new(env),
    ];
    let list = term_word([1].encode(env));
    let ports = std::iter::successors(cell(ports), |(_, rest)| cell(*rest)).map(|(port, _)| port);
    let is_pointer = |term: &Term<'_>| is_boxed(term_word(*term));

    immediates
        .into_iter()
        .chain(ports)
        .all(|term| is_immediate(term_word(term)))
        && boxed.iter().chain(&strangers).all(is_pointer)
        && !is_immediate(list)
        && !is_boxed(list)
        && is_its_word(own)
        && strangers.iter().all(|term| pid_from_term(*term).is_none())
}

/// Whether a pid, that of a process which is alive, is still that as a word.
fn is_its_word(pid: Term<'_>) -> bool {
    let env = pid.get_env();
    pid_from_term(pid).is_some_and(|word| {
        word.word() == term_word(pid)
            && pid_to_term(env, word) == pid
            && env.is_process_alive(pid_to_local(word))
    })
}

/// A pid and a port of another node.
fn strangers(env: Env<'_>) -> Option<[Term<'_>; 2]> {
    // Only atoms that are there are decoded.
    atoms::no_node();
    // The external format: tags, a node's name of seven bytes, numbers, and the node's creation.
    let pid = b"\x83\x58\x77\x07no@node\0\0\0\x01\0\0\0\0\0\0\0\x01";
    let port = b"\x83\x59\x77\x07no@node\0\0\0\x01\0\0\0\x01";
    Some([env.binary_to_term(pid)?.0, env.binary_to_term(port)?.0])
}
