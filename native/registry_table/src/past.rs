//! The ids of processes that have none any more: of those that were retired, until they are removed,
//! and of those that were removed last.
//!
//! Whoever is told of a process's end by its pid can so still learn whose end that was, although the
//! entry is gone: as gone as it would be otherwise, for what is kept here no lookup, count or scan
//! comes to.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

use crate::boxed::{Boxed, Kept};
use crate::id::{Opaque, Pid};
use crate::sync::{Mutex, sized};

/// By pids, so that processes that end at once seldom wait for one another.
const SHARDS: usize = sized(64, 1);

/// How much each shard keeps of those that were removed: as many ids that fit into a slot, fewer of
/// larger ones, and none that has all the room for itself. It is looked through from the newest on.
const KEPT: usize = sized(256, 2);

/// How a process loses its id.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Leaving {
    /// It is known for a while yet.
    Retired,
    /// It has given it up, and may take another: it is kept for nobody.
    Released,
    /// It is known no more.
    Removed,
}

pub(crate) struct Past<O> {
    shards: [Mutex<Shard<O>>; SHARDS],
}

struct Shard<O> {
    retired: HashMap<Pid, Kept<O>, FixedState>,
    /// The oldest first.
    pids: VecDeque<Pid>,
    /// Those of `pids`.
    ids: VecDeque<Kept<O>>,
    /// Of these ids. Invariant: no more than `KEPT`.
    weight: usize,
}

impl<O: Opaque> Past<O> {
    pub(crate) fn new() -> Self {
        let shards = [(); SHARDS].map(|()| {
            Mutex::new(Shard {
                retired: HashMap::with_hasher(FixedState::default()),
                pids: VecDeque::new(),
                ids: VecDeque::new(),
                weight: 0,
            })
        });
        Self { shards }
    }

    /// Keeps the id that a process is about to lose. Answers what is forgotten for it, to be dropped
    /// without a lock: that may run the code of an `Opaque`.
    pub(crate) fn keep(&self, pid: Pid, id: Kept<O>, leaving: Leaving) -> Vec<Kept<O>> {
        let mut shard = self.shard(pid).lock();
        match leaving {
            Leaving::Removed => shard.push(pid, id),
            Leaving::Retired => shard.retired.insert(pid, id).into_iter().collect(),
            Leaving::Released => vec![id],
        }
    }

    /// The same for a process that may have been retired before.
    pub(crate) fn leave(&self, pid: Pid, leaving: Leaving) -> Vec<Kept<O>> {
        let mut shard = self.shard(pid).lock();
        if leaving != Leaving::Removed {
            return Vec::new();
        }
        let Some(id) = shard.retired.remove(&pid) else {
            return Vec::new();
        };
        if shard.retired.is_empty() {
            // What there was room for, once.
            shard.retired.shrink_to_fit();
        }
        shard.push(pid, id)
    }

    /// The id of a process that was retired and not removed.
    pub(crate) fn retired(&self, pid: Pid) -> Option<Kept<O>> {
        self.shard(pid).lock().retired.get(&pid).cloned()
    }

    /// The id of a process that was removed.
    pub(crate) fn removed(&self, pid: Pid) -> Option<Kept<O>> {
        let shard = self.shard(pid).lock();
        let nth = shard.pids.iter().rposition(|there| *there == pid)?;
        shard.ids.get(nth).cloned()
    }

    /// How much memory it takes, but for ids that fit into no slot.
    pub(crate) fn bytes(&self) -> usize {
        let shards = self.shards.iter().map(|shard| {
            let shard = shard.lock();
            let retired = shard.retired.capacity() * 8 / 7 * (size_of::<(Pid, Kept<O>)>() + 1);
            let removed = shard.pids.capacity() * size_of::<Pid>();
            retired + removed + shard.ids.capacity() * size_of::<Kept<O>>()
        });
        shards.sum()
    }

    fn shard(&self, pid: Pid) -> &Mutex<Shard<O>> {
        let hash = pid.word().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl<O: Opaque> Shard<O> {
    fn push(&mut self, pid: Pid, id: Kept<O>) -> Vec<Kept<O>> {
        let mut forgotten = Vec::new();
        let added = weight(&id);
        if added > KEPT {
            return vec![id];
        }
        while self.weight + added > KEPT
            && let Some(oldest) = self.ids.pop_front()
        {
            self.pids.pop_front();
            self.weight -= weight(&oldest);
            // Others are nothing but words.
            if let Kept::Boxed(..) = oldest {
                forgotten.push(oldest);
            }
        }
        self.weight += added;
        self.pids.push_back(pid);
        self.ids.push_back(id);
        forgotten
    }
}

/// How many ids that fit into slots have the room of this one.
fn weight<O>(id: &Kept<O>) -> usize {
    let Kept::Boxed(_, boxed) = id else {
        return 1;
    };
    match &**boxed {
        Boxed::Words(words) => 1 + words.len() / 8,
        // An environment of the VM is larger than what is in it.
        Boxed::Opaque(_, words) => *words as usize / 8 + 8,
    }
}
