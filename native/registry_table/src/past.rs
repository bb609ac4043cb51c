//! The ids of the processes that were removed last.
//!
//! Whoever is told of a process's end by its pid can so still learn whose end that was, although the
//! entry is gone: as gone as it would be otherwise, for what is kept here no lookup, count or scan
//! comes to.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::boxed::{Boxed, Kept};
use crate::id::{Opaque, Pid, Remembered};
use crate::sync::{Mutex, sized};

/// By pids, so that processes that end at once seldom wait for one another.
const SHARDS: usize = sized(64, 1);

/// How much each shard keeps: as many ids that fit into a slot, fewer of larger ones, and none that
/// has all the room for itself. It is looked through from the newest on.
const KEPT: usize = sized(256, 2);

/// As many bytes as these are the room of one id that fits into a slot.
const PORTION: usize = 64;

pub(crate) struct Past<O> {
    shards: [Mutex<Shard<O>>; SHARDS],
}

struct Shard<O> {
    /// The oldest first.
    pids: VecDeque<Pid>,
    /// Those of `pids`.
    ids: VecDeque<Last<O>>,
    /// Of these ids. Invariant: no more than `KEPT`.
    weight: usize,
}

/// What is kept of an id: words or bytes, never an [`Opaque`], which may hold anything in memory.
pub(crate) enum Last<O> {
    Words(Kept<O>),
    Flat(Arc<Vec<u8>>),
}

impl<O: Opaque> Last<O> {
    /// What is to be kept of an id, if anything.
    pub(crate) fn of(id: &Kept<O>) -> Option<Self> {
        if let Kept::Boxed(_, boxed) = id
            && let Boxed::Opaque(opaque, _) = &**boxed
        {
            return opaque.flat().map(Self::Flat);
        }
        Some(Self::Words(id.clone()))
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(Remembered<'_, O>) -> R) -> R {
        match self {
            Self::Words(kept) => kept.with(|stored| f(Remembered::Whole(stored))),
            Self::Flat(bytes) => f(Remembered::Flat(bytes)),
        }
    }

    /// How many ids that fit into slots have the room of this one.
    fn weight(&self) -> usize {
        1 + self.bytes() / PORTION
    }

    /// How much memory it takes beside its own value.
    fn bytes(&self) -> usize {
        match self {
            Self::Words(kept) => kept.bytes() - size_of::<Kept<O>>(),
            Self::Flat(bytes) => bytes.len(),
        }
    }
}

impl<O> Clone for Last<O> {
    fn clone(&self) -> Self {
        match self {
            Self::Words(kept) => Self::Words(kept.clone()),
            Self::Flat(bytes) => Self::Flat(Arc::clone(bytes)),
        }
    }
}

impl<O: Opaque> Past<O> {
    pub(crate) fn new() -> Self {
        let shards = [(); SHARDS].map(|()| {
            Mutex::new(Shard {
                pids: VecDeque::new(),
                ids: VecDeque::new(),
                weight: 0,
            })
        });
        Self { shards }
    }

    /// Keeps the id of a process that is about to be removed.
    pub(crate) fn keep(&self, pid: Pid, id: Last<O>) {
        let added = id.weight();
        if added > KEPT {
            return;
        }
        let mut shard = self.shard(pid).lock();
        while shard.weight + added > KEPT
            && let Some(oldest) = shard.ids.pop_front()
        {
            shard.pids.pop_front();
            shard.weight -= oldest.weight();
        }
        shard.weight += added;
        shard.pids.push_back(pid);
        shard.ids.push_back(id);
    }

    /// The id of a process that was removed.
    pub(crate) fn get(&self, pid: Pid) -> Option<Last<O>> {
        let shard = self.shard(pid).lock();
        let nth = shard.pids.iter().rposition(|there| *there == pid)?;
        shard.ids.get(nth).cloned()
    }

    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let shards = self.shards.iter().map(|shard| {
            let shard = shard.lock();
            let places = shard.pids.capacity() * size_of::<Pid>()
                + shard.ids.capacity() * size_of::<Last<O>>();
            places + shard.weight * PORTION
        });
        shards.sum()
    }

    fn shard(&self, pid: Pid) -> &Mutex<Shard<O>> {
        let hash = pid.word().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}
