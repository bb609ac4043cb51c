//! The workers of one registry: by id for everyone, by pid for those who clean up.

use crate::boxed::{Boxed, Compared, Kept, MIDDLE, WIDE, with_stored};
use crate::children::Children;
use crate::epoch::{Pinned, drop_later, pin};
use crate::id::{Id, Opaque, Pid, Remembered, Seed, Stored};
use crate::past::{Last, Past};
use crate::pids::Pids;
use crate::segment::{Slot, tag};
use crate::shard::{Apart, Parts, SHARD_BITS, Shard};
use crate::sync::{AtomicU64, AtomicUsize, Counted, MutexGuard, Ordering, planted, sized};

const SHARDS: usize = 1 << SHARD_BITS;

/// How many ids are fetched before the first of them is looked at.
const TOGETHER: usize = sized(32, 1);

/// The workers of one registry.
pub struct Table<O: Opaque> {
    /// As many as their number says, so that an index made of a hash needs no check.
    shards: Box<[Shard; SHARDS]>,
    /// What is known of each process, whether lookups see it or not.
    pids: Pids<Process<O>>,
    past: Past<O>,
    /// The room for workers that have a parent.
    children: Children,
    seed: Seed,
    count: Apart<AtomicUsize>,
    /// How many of those that are counted are guests.
    guests: Apart<AtomicUsize>,
    /// How many processes are known, but for guests that have no id.
    processes: Apart<AtomicUsize>,
    /// How many of those have no parent.
    parentless: Apart<AtomicUsize>,
    /// How many workers were entered, with a parent; how many of these were removed; and how many of those
    /// had nothing to do any more.
    started: Apart<AtomicU64>,
    ended: Apart<AtomicU64>,
    ended_idle: Apart<AtomicU64>,
    /// How many bytes the ids of retired processes take.
    retired: Apart<AtomicUsize>,
    random: Apart<AtomicU64>,
}

/// A process that belongs to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The process.
    pub pid: Pid,
    /// The process that started it, if it is a worker that was started. A guest, which nobody
    /// started here, is its own.
    pub parent: Option<Pid>,
}

impl Worker {
    /// A process that came by itself.
    pub fn guest(pid: Pid) -> Self {
        let parent = Some(pid);
        Self { pid, parent }
    }

    /// Whether it is a guest.
    pub fn is_guest(self) -> bool {
        self.parent == Some(self.pid)
    }
}

/// Why an insertion was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The id has this process.
    IdTaken(Pid),
    /// The process has another id, or is known otherwise.
    PidTaken,
}

/// Where a scan goes on; fits into 60 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(u64);

impl Cursor {
    /// Before the first entry.
    pub const START: Self = Self(0);

    /// As a number below 2^60.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// From what [`Cursor::to_bits`] gave. Any other number makes a cursor too, of no use.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << 60) - 1))
    }

    /// Two bits for the class; the hashes that scans stop at have no low bits to lose.
    fn new(class: u64, hash: u64) -> Self {
        Self(class << 58 | hash >> 6)
    }

    fn parts(self) -> (u64, u64) {
        (self.0 >> 58, self.0 << 6)
    }
}

/// What is known of a process.
struct Process<O> {
    record: Record,
    /// The id that it had until it was retired: whoever asks for it by the pid still learns it.
    retired: Option<Box<Kept<O>>>,
}

#[derive(Clone, Copy, PartialEq)]
struct Record {
    parent: Option<Pid>,
    /// The upper half of the id's hash.
    hash: u32,
    place: Place,
    /// Whether it has a place among the children.
    child: bool,
    /// Whether it was counted among those that started.
    started: bool,
}

impl<O> Process<O> {
    fn new(record: Record) -> Self {
        let retired = None;
        Self { record, retired }
    }
}

impl Record {
    fn worker(self, pid: Pid) -> Worker {
        let parent = self.parent;
        Worker { pid, parent }
    }

    /// One of a guest that is seen, and counted.
    fn is_guest(self, pid: Pid) -> bool {
        self.worker(pid).is_guest() && self.place != Place::Hidden
    }

    /// One of a guest that has given its id up, and may take another.
    fn is_free(self, pid: Pid) -> bool {
        self.worker(pid).is_guest() && self.place == Place::Hidden
    }
}

/// How a process loses its id.
#[derive(Clone, Copy, PartialEq)]
enum Leaving {
    /// It is known for a while yet.
    Retired,
    /// It has given it up, and may take another.
    Released,
    /// It is known no more.
    Removed,
}

/// Where a process's entry is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Narrow,
    Middle,
    Wide,
    /// Nowhere: lookups do not see it, or no more.
    Hidden,
}

/// Runs one piece of code with the segments, the place, the tag and the comparison of an id,
/// whichever class the id is of. `boxed` compares ids that fit into no slot.
macro_rules! by_class {
    (
        $shard:expr, $hash:expr, $id:expr, boxed = $boxed:expr,
        |$parts:ident, $place:ident, $tag:ident, $same:ident| $body:expr
    ) => {{
        let (shard, hash): (&Shard, u64) = ($shard, $hash);
        match $id {
            Id::Word(word) => {
                let ($parts, $place, $tag) = (&shard.narrow, Place::Narrow, word.get());
                let $same = |_: Slot<'_, 2>| true;
                $body
            }
            Id::Words { shape, words } if words.len() <= MIDDLE => {
                let ($parts, $place) = (&shard.middle, Place::Middle);
                let $tag = tag(hash, *shape, false);
                let $same = |slot: Slot<'_, 4>| same_words(slot, words);
                $body
            }
            Id::Words { shape, words } if words.len() <= WIDE => {
                let ($parts, $place) = (&shard.wide, Place::Wide);
                let $tag = tag(hash, *shape, false);
                let $same = |slot: Slot<'_, 8>| same_words(slot, words);
                $body
            }
            id @ (Id::Words { .. } | Id::Opaque { .. }) => {
                let ($parts, $place) = (&shard.middle, Place::Middle);
                let $tag = boxed_tag(hash, id);
                let $same = |slot: Slot<'_, 4>| $boxed(slot, id);
                $body
            }
        }
    }};
}

/// The tag of an id that fits into no slot.
#[inline(always)]
fn boxed_tag<P>(hash: u64, id: &Id<'_, P>) -> u64 {
    let shape = if let Id::Words { shape, .. } = id {
        *shape
    } else {
        0
    };
    tag(hash, shape, true)
}

/// Whether a slot's boxed id is this one. The slot had a tag that says so, under a guard.
#[inline(always)]
fn is_same<O: Opaque>(slot: Slot<'_, 4>, id: &Id<'_, O::Probe<'_>>) -> bool {
    // SAFETY: searches run under a guard that outlives them, and only look at slots with such a tag.
    unsafe { Boxed::<O>::of(slot) }.is(id)
}

/// Whether a slot's id words are `words` and then zeros.
#[inline]
fn same_words<const STRIDE: usize>(slot: Slot<'_, STRIDE>, words: &[u64]) -> bool {
    let word = |index| words.get(index).copied().unwrap_or(0);
    // All of them, without a branch between: they are on one cache line.
    let differences = slot
        .words()
        .enumerate()
        .map(|(index, there)| there ^ word(index));
    differences.fold(0, |all, difference| all | difference) == 0
}

impl<O: Opaque> Table<O> {
    /// An empty table.
    pub fn new() -> Self {
        Self::with_room_for(None)
    }

    /// An empty table with room for so many workers that have a parent: each of them needs a
    /// [promise](Table::promise), and has its place until it is removed.
    pub fn bounded(children: usize) -> Self {
        Self::with_room_for(Some(children))
    }

    fn with_room_for(children: Option<usize>) -> Self {
        let seed = Seed::random();
        // Not an array that is boxed: it would be made on the stack, which has no room to spare.
        let shards = std::iter::repeat_with(Shard::new).take(SHARDS);
        Self {
            shards: shards
                .collect::<Box<[Shard]>>()
                .try_into()
                .unwrap_or_else(|_| unreachable!("so many were made")),
            pids: Pids::new(children),
            past: Past::new(),
            children: Children::new(children),
            count: Apart(AtomicUsize::new(0)),
            guests: Apart(AtomicUsize::new(0)),
            processes: Apart(AtomicUsize::new(0)),
            parentless: Apart(AtomicUsize::new(0)),
            started: Apart(AtomicU64::new(0)),
            ended: Apart(AtomicU64::new(0)),
            ended_idle: Apart(AtomicU64::new(0)),
            retired: Apart(AtomicUsize::new(0)),
            random: Apart(AtomicU64::new(seed.hash_word(1))),
            seed,
        }
    }

    /// Whether there is room for one more child, if so many `others` have places too.
    pub fn has_room(&self, others: usize) -> bool {
        self.children.has_room(others)
    }

    /// Promises a place to the next worker that this parent has inserted, or keeps the promise that
    /// it has. Returns whether there was room, if so many `others` have places too.
    pub fn promise(&self, parent: Pid, others: usize) -> bool {
        self.children.promise(parent, others)
    }

    /// How many places are taken, promised ones too: without a bound as many as there are workers.
    pub fn taken(&self) -> usize {
        self.children.taken().unwrap_or_else(|| self.workers())
    }

    /// The place of this child is to be another's: when it is removed, it is kept, until it is
    /// [inherited](Table::inherit) or given back. Returns whether the child has one.
    pub fn leave(&self, child: Pid) -> bool {
        // Under the lock of the record, so that it is not removed meanwhile.
        let mut has = false;
        self.pids.change(child, |process| {
            has = process.record.child;
            if has {
                self.children.leave(child);
            }
        });
        has
    }

    /// As [`Table::promise`], of the place that a child has left.
    pub fn inherit(&self, child: Pid, parent: Pid) -> bool {
        self.children.inherit(child, parent)
    }

    /// Gives back the promise that a parent has not used, if it has one, or what a child has left.
    pub fn give_back(&self, parent: Pid) {
        self.children.give_back(parent);
    }

    /// The process of an id.
    #[inline(always)]
    pub fn get(&self, id: &Id<'_, O::Probe<'_>>, pinned: &Pinned) -> Option<Pid> {
        let hash = self.seed.hash(id);
        by_class!(
            self.shard(hash),
            hash,
            id,
            boxed = is_same::<O>,
            |parts, _place, tag, same| parts.get(hash, pinned)?.find(hash, tag, same)?.pid()
        )
    }

    /// The processes of these ids, in their order: as [`Table::get`] of each, but while one is waited
    /// for, the others are fetched too. There is a pid, or `None`, to write for each id.
    pub fn get_many(
        &self,
        ids: &[Id<'_, O::Probe<'_>>],
        pids: &mut [Option<Pid>],
        pinned: &Pinned,
    ) {
        let mut hashes = [0; TOGETHER];
        for (ids, pids) in ids.chunks(TOGETHER).zip(pids.chunks_mut(TOGETHER)) {
            for (id, hash) in ids.iter().zip(&mut hashes) {
                *hash = self.seed.hash(id);
                by_class!(
                    self.shard(*hash),
                    *hash,
                    id,
                    boxed = is_same::<O>,
                    |parts, _place, _tag, _same| {
                        if let Some(segment) = parts.get(*hash, pinned) {
                            segment.prefetch(*hash);
                        }
                    }
                );
            }
            for ((id, &hash), pid) in ids.iter().zip(&hashes).zip(pids) {
                *pid = by_class!(
                    self.shard(hash),
                    hash,
                    id,
                    boxed = is_same::<O>,
                    |parts, _place, tag, same| {
                        let segment = parts.get(hash, pinned);
                        let slot = segment.and_then(|segment| segment.find(hash, tag, same));
                        slot.and_then(Slot::pid)
                    }
                );
            }
        }
    }

    /// Takes the id of a process: of one that has it, or had it until it was retired and is not
    /// removed yet.
    pub fn id_of<R>(&self, pid: Pid, take: impl FnOnce(Stored<'_, O>) -> R) -> Option<R> {
        let pinned = &pin();
        let record = self.look(pid)?;
        let hash = u64::from(record.hash) << 32;
        let shard = self.shard(hash);
        let id = match record.place {
            Place::Narrow => shard.narrow.id_of(hash, pid, pinned),
            Place::Middle => shard.middle.id_of(hash, pid, pinned),
            Place::Wide => shard.wide.id_of(hash, pid, pinned),
            Place::Hidden => None,
        };
        // It may have been retired since its record was read.
        let retired = |process: &Process<O>| process.retired.as_deref().cloned();
        Some(id.or_else(|| self.pids.read(pid, retired)?)?.with(take))
    }

    /// Takes the id that a process had when it was removed, if that is one of the last removals: of
    /// those there are some thousand, see `past.rs`.
    ///
    /// After some time, a process that was made later may have the same pid.
    pub fn last_id_of<R>(&self, pid: Pid, take: impl FnOnce(Remembered<'_, O>) -> R) -> Option<R> {
        Some(self.past.get(pid)?.with(take))
    }

    /// Enters `worker` for an id that has none. If it has the id already, as a guest, it is one no
    /// more.
    pub fn insert(&self, id: &Id<'_, O::Probe<'_>>, worker: Worker) -> Result<(), Conflict> {
        let pinned = &pin();
        let hash = self.seed.hash(id);
        let shard = self.shard(hash);
        // Without the lock, for it may be the caller's code, and long. Dropped without it too, where it
        // is of no use: what is declared first is dropped last.
        let boxed = Boxed::<O>::keep(id);
        let compared = Compared::default();
        let writer = match &boxed {
            Some(_) => self.lock_compared(shard, hash, id, &compared, pinned),
            None => shard.writer.0.lock(),
        };
        let same_boxed = |slot: Slot<'_, 4>, _: &Id<'_, O::Probe<'_>>| compared.is::<4, O>(slot);
        by_class!(
            shard,
            hash,
            id,
            boxed = same_boxed,
            |parts, place, tag, same| {
                let old = parts.get(hash, pinned);
                let found = old.and_then(|old| old.find(hash, tag, same));
                if let Some(pid) = found.and_then(Slot::pid) {
                    if pid != worker.pid || !self.track(worker) {
                        return Err(Conflict::IdTaken(pid));
                    }
                    // Under the shard's lock: it has not been removed meanwhile.
                    self.pids.change(pid, |process| {
                        process.record.child = self.is_born(worker);
                        process.record.started = self.has_started(worker);
                    });
                    return Ok(());
                }
                // Known by pid before it is seen by id, so that whoever removes it finds both. From here
                // on nothing is refused.
                self.record(worker, hash, place)?;
                match (old, found) {
                    (Some(segment), Some(slot)) => {
                        segment.set_pid(slot, Some(worker.pid));
                    }
                    (old, _) => {
                        let segment = old
                            .filter(|old| old.has_room())
                            .or_else(|| parts.make_room(hash, old, &self.seed, pinned))
                            .unwrap_or_else(|| unreachable!("just made"));
                        let pointer = boxed.map(|boxed| {
                            let bytes = &shard.sums.0.boxed;
                            bytes.fetch_add(boxed.bytes(), Ordering::Relaxed);
                            [Counted::into_raw(boxed) as u64]
                        });
                        let words = match (&pointer, id) {
                            (Some(pointer), _) => &pointer[..],
                            (None, Id::Words { words, .. }) => words,
                            (None, _) => &[],
                        };
                        segment.fill(segment.vacant(hash), tag, words, worker.pid);
                    }
                }
            }
        );
        shard.sums.0.live.fetch_add(1, Ordering::Relaxed);
        self.count.0.fetch_add(1, Ordering::Relaxed);
        drop(writer);
        Ok(())
    }

    /// Forgets a process, and its entry if it has one: the process is dead.
    ///
    /// Answers whether it was known.
    pub fn remove(&self, pid: Pid) -> bool {
        self.hide(pid, |_| true, Leaving::Removed).is_ok()
    }

    /// Waits for other threads that take the entry of this id away at this moment: then the place of its
    /// process is free, if it had one.
    pub fn settle(&self, id: &Id<'_, O::Probe<'_>>) {
        let hash = u64::from(upper_half(self.seed.hash(id))) << 32;
        drop(self.shard(hash).writer.0.lock());
    }

    /// Takes the entry of an id out of sight. Its process stays known until it is removed. That of
    /// a guest stays where it is.
    pub fn retire(&self, id: &Id<'_, O::Probe<'_>>) -> Option<Worker> {
        let hash = upper_half(self.seed.hash(id));
        let pid = self.get(id, &pin())?;
        let wanted = |record: &Record| record.hash == hash && !record.is_guest(pid);
        let found = match self.hide(pid, wanted, Leaving::Retired) {
            Ok(record) => record,
            Err(other) => other.filter(|other| other.hash == hash)?,
        };
        (found.place != Place::Hidden).then_some(found.worker(pid))
    }

    /// Takes the entry of an id out of sight, if it is a guest's. Its process stays known until it
    /// is removed, and may be entered again. Answers whether it was.
    pub fn release(&self, id: &Id<'_, O::Probe<'_>>) -> bool {
        let hash = upper_half(self.seed.hash(id));
        let Some(pid) = self.get(id, &pin()) else {
            return false;
        };
        let wanted = |record: &Record| record.hash == hash && record.is_guest(pid);
        self.hide(pid, wanted, Leaving::Released).is_ok()
    }

    /// Makes a process known that has no entry, or is a guest: it counts among
    /// [`Table::processes`] until it is removed. Answers whether it did not yet.
    pub fn track(&self, worker: Worker) -> bool {
        self.record(worker, 0, Place::Hidden).is_ok()
    }

    /// Makes a process known that was started for an id that another has, and has to go. Until it is
    /// removed, it has the place that its parent was promised. Answers whether nothing was known of
    /// it: a guest, or who was one, is left alone.
    pub fn refuse(&self, worker: Worker) -> bool {
        self.pids.put(worker.pid, |known| {
            known.is_none().then(|| {
                let record = Record {
                    parent: worker.parent,
                    hash: 0,
                    place: Place::Hidden,
                    child: self.is_born(worker),
                    started: false,
                };
                self.came(worker.pid, record);
                Process::new(record)
            })
        })
    }

    /// What is known of a process that was entered or tracked, and not removed.
    pub fn known(&self, pid: Pid) -> Option<Worker> {
        Some(self.look(pid)?.worker(pid))
    }

    /// How many entries there are.
    #[inline]
    pub fn count(&self) -> usize {
        // Relaxed: it is one number, and callers who need an order have it by messages.
        self.count.0.load(Ordering::Relaxed)
    }

    /// About how many bytes it takes: slots, ids that fit into none, what is known of each process,
    /// and the ids of those that are not there any more. It is not in it what waits to be freed.
    ///
    /// Takes some tens of microseconds, however many entries there are.
    pub fn memory(&self) -> usize {
        let pinned = &pin();
        let entries: usize = self.shards.iter().map(|shard| shard.bytes(pinned)).sum();
        let own = size_of::<Self>() + size_of::<[Shard; SHARDS]>();
        let retired = self.retired.0.load(Ordering::Relaxed);
        own + entries + retired + self.pids.bytes() + self.past.bytes()
    }

    /// How many workers were entered with a parent, ever.
    pub fn started(&self) -> u64 {
        self.started.0.load(Ordering::Relaxed)
    }

    /// How many of these were removed.
    pub fn ended(&self) -> u64 {
        self.ended.0.load(Ordering::Relaxed)
    }

    /// How many of those had nothing to do any more, as [`Table::idle`] was told.
    pub fn ended_idle(&self) -> u64 {
        self.ended_idle.0.load(Ordering::Relaxed)
    }

    /// A worker has ended because it had nothing to do.
    pub fn idle(&self) {
        self.ended_idle.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many of them are guests'.
    pub fn guests(&self) -> usize {
        // Relaxed: as in `count`.
        self.guests.0.load(Ordering::Relaxed)
    }

    /// How many workers are known: processes with a parent, but for guests.
    pub fn workers(&self) -> usize {
        // Relaxed: as in `count`. Each number may be a moment older than the next one.
        let others = self.guests() + self.parentless.0.load(Ordering::Relaxed);
        let processes = self.processes.0.load(Ordering::Relaxed);
        processes.saturating_sub(others)
    }

    /// Whether no process is left that the table knows of, but for guests without an id.
    pub fn is_drained(&self) -> bool {
        // Acquire: see `remove`.
        self.processes.0.load(Ordering::Acquire) == 0
    }

    /// Every process that the table knows of but the guests, seen by lookups or not. Takes time in
    /// proportion to the number of all, and room in proportion to theirs.
    pub fn processes(&self) -> Vec<Worker> {
        let mut all = Vec::new();
        self.pids.each(|pid, process| {
            let worker = process.record.worker(pid);
            if !worker.is_guest() {
                all.push(worker);
            }
        });
        all
    }

    /// One entry, each as likely as the others when nothing changes meanwhile.
    pub fn sample<R>(&self, take: impl FnOnce(Stored<'_, O>, Pid) -> R) -> Option<R> {
        let pinned = &pin();
        let mut take = Some(take);
        // A round fails only if an entry went away while it was sought.
        for _ in 0..100 {
            if self.count() == 0 {
                break;
            }
            let live = |shard: &Shard| u64::from(shard.sums.0.live.load(Ordering::Relaxed));
            let total = self.shards.iter().map(live).sum::<u64>();
            let mut nth = below(total.max(1), self.random());
            let Some(shard) = self.shards.iter().find(|shard| {
                let here = live(shard);
                let found = nth < here;
                nth -= if found { 0 } else { here };
                found
            }) else {
                continue;
            };
            let found = self
                .pick(&shard.narrow, &mut nth, &mut take, pinned)
                .or_else(|| self.pick(&shard.middle, &mut nth, &mut take, pinned))
                .or_else(|| self.pick(&shard.wide, &mut nth, &mut take, pinned));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Visits the entries from `cursor` on, about `limit` slots of them, and returns where to go
    /// on, or `None` when all have been visited.
    ///
    /// An id that fits into no slot counts as as many slots as it would fill, so that a step is bounded
    /// in bytes too, but for a single id or those that have one hash.
    ///
    /// See the crate's documentation for what a scan meets while writers run.
    pub fn scan(
        &self,
        cursor: Cursor,
        limit: usize,
        mut visit: impl FnMut(Stored<'_, O>, Pid),
    ) -> Option<Cursor> {
        let pinned = &pin();
        let (class, mut from) = cursor.parts();
        let mut left = limit.max(1);
        while left > 0 {
            let shard = self.shard(from);
            let (seed, visit) = (&self.seed, &mut visit);
            let next = match class {
                0 => shard.narrow.scan(from, &mut left, visit, seed, pinned),
                1 => shard.middle.scan(from, &mut left, visit, seed, pinned),
                _ => shard.wide.scan(from, &mut left, visit, seed, pinned),
            };
            from = match next {
                Some(hash) => hash,
                None if class < 2 => return Some(Cursor::new(class + 1, 0)),
                None => return None,
            };
        }
        Some(Cursor::new(class, from))
    }

    /// Locks the shard of an id that fits into no slot, once it has been compared with all that it may
    /// be the same as.
    fn lock_compared<'s>(
        &self,
        shard: &'s Shard,
        hash: u64,
        id: &Id<'_, O::Probe<'_>>,
        compared: &Compared,
        pinned: &Pinned,
    ) -> MutexGuard<'s, ()> {
        let tag = boxed_tag(hash, id);
        loop {
            if let Some(segment) = shard.middle.get(hash, pinned) {
                // SAFETY: the guard outlives `compared`, and slots with this tag have a boxed id.
                segment.find(hash, tag, |slot| unsafe {
                    compared.compare::<_, O>(slot, id)
                });
            }
            let writer = shard.writer.0.lock();
            if let Some(segment) = shard.middle.get(hash, pinned) {
                segment.find(hash, tag, |slot| compared.is::<_, O>(slot));
            }
            // What came while they were compared is compared first.
            if !compared.has_missed() {
                return writer;
            }
        }
    }

    fn look(&self, pid: Pid) -> Option<Record> {
        self.pids.read(pid, |process| process.record)
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[(hash >> (u64::BITS - SHARD_BITS)) as usize]
    }

    fn record(&self, worker: Worker, hash: u64, place: Place) -> Result<(), Conflict> {
        let pid = worker.pid;
        let seen = place != Place::Hidden;
        let new = || Record {
            parent: worker.parent,
            hash: upper_half(hash),
            place,
            child: seen && self.is_born(worker),
            started: seen && self.has_started(worker),
        };
        let done = self
            .pids
            .put(pid, |known| match known.map(|known| known.record) {
                known if known.is_none_or(|known| known.is_free(pid)) => {
                    // First, for as soon as others know the process, they may remove it.
                    let new = new();
                    self.came(pid, new);
                    Some(Process::new(new))
                }
                // A guest that turns out to have a parent.
                Some(known) if known.is_guest(pid) && !worker.is_guest() && !seen => {
                    self.guests.0.fetch_sub(1, Ordering::Relaxed);
                    let parent = worker.parent;
                    if parent.is_none() {
                        self.parentless.0.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(Process::new(Record { parent, ..known }))
                }
                _ => None,
            });
        if done && seen && worker.is_guest() {
            self.guests.0.fetch_add(1, Ordering::Relaxed);
        }
        done.then_some(()).ok_or(Conflict::PidTaken)
    }

    /// Whether the parent has a place for it, which it takes. A guest is nobody's child: what it was
    /// promised is for those that it starts.
    fn is_born(&self, worker: Worker) -> bool {
        let parent = worker.parent.filter(|_| !worker.is_guest());
        parent.is_some_and(|parent| self.children.born(parent))
    }

    /// Whether it is a worker that was started here, which is counted.
    fn has_started(&self, worker: Worker) -> bool {
        let started = worker.parent.is_some() && !worker.is_guest();
        if started {
            self.started.0.fetch_add(1, Ordering::Relaxed);
        }
        started
    }

    /// Takes a process's entry, if it has one, out of sight, and notes how it leaves. Answers what was
    /// known of the process. Nothing happens if that is nothing or is not what is wanted, which is
    /// answered as the error.
    fn hide(
        &self,
        pid: Pid,
        wanted: impl Fn(&Record) -> bool,
        leaving: Leaving,
    ) -> Result<Record, Option<Record>> {
        let pinned = &pin();
        loop {
            let record = self.look(pid).ok_or(None)?;
            if !wanted(&record) {
                return Err(Some(record));
            }
            let hash = u64::from(record.hash) << 32;
            let shard = self.shard(hash);
            let writer = shard.writer.0.lock();
            // A record with a place changes that under its shard's lock only. One without may be
            // given one under the lock of another shard.
            if planted!("removal not checked", false, self.look(pid) != Some(record)) {
                continue;
            }
            let (seed, boxed) = (&self.seed, &shard.sums.0.boxed);
            // While it still has the id: whoever looks for that finds it here or there.
            let keep = |id| self.keep(pid, id, leaving);
            let hidden = match record.place {
                Place::Narrow => shard.narrow.hide(hash, pid, seed, boxed, pinned, keep),
                Place::Middle => shard.middle.hide(hash, pid, seed, boxed, pinned, keep),
                Place::Wide => shard.wide.hide(hash, pid, seed, boxed, pinned, keep),
                Place::Hidden => {
                    if leaving == Leaving::Removed {
                        let retired =
                            |process: &Process<O>| process.retired.as_deref().and_then(Last::of);
                        if let Some(last) = self.pids.read(pid, retired).flatten() {
                            self.past.keep(pid, last);
                        }
                    }
                    false
                }
            };
            if hidden {
                shard.sums.0.live.fetch_sub(1, Ordering::Relaxed);
                self.count.0.fetch_sub(1, Ordering::Relaxed);
            }
            if leaving != Leaving::Removed {
                self.pids.change(pid, |Process { record, .. }| {
                    // It may be one no more.
                    if record.is_guest(pid) {
                        self.guests.0.fetch_sub(1, Ordering::Relaxed);
                        self.went(pid, *record);
                    }
                    record.place = Place::Hidden;
                });
                return Ok(record);
            }
            let removed = self.pids.remove_if(pid, |now| {
                planted!("removed unseen", true, now.record == record)
            });
            if removed.is_some() {
                // Under the lock, for `settle`.
                self.removed(pid, record);
            }
            drop(writer);
            if let Some(process) = removed {
                // It may be the last that has the id, which may be large.
                if let Some(id) = process.retired {
                    self.retired.0.fetch_sub(id.bytes(), Ordering::Relaxed);
                    drop_later(id);
                }
                return Ok(record);
            }
        }
    }

    /// Keeps the id that a process is about to lose, for those who ask for it by the pid.
    fn keep(&self, pid: Pid, id: Kept<O>, leaving: Leaving) {
        match leaving {
            Leaving::Retired => {
                // Relaxed: nothing hangs on it.
                self.retired.0.fetch_add(id.bytes(), Ordering::Relaxed);
                let id = Box::new(id);
                self.pids.change(pid, |process| process.retired = Some(id));
            }
            Leaving::Removed => {
                if let Some(last) = Last::of(&id) {
                    self.past.keep(pid, last);
                }
            }
            Leaving::Released => {}
        }
    }

    /// Counts a process that is known no more.
    fn removed(&self, pid: Pid, record: Record) {
        if record.is_guest(pid) {
            self.guests.0.fetch_sub(1, Ordering::Relaxed);
        }
        if record.child {
            self.children.gone(pid);
        }
        if record.started {
            self.ended.0.fetch_add(1, Ordering::Relaxed);
        }
        self.went(pid, record);
    }

    /// Counts a process that is about to be known.
    fn came(&self, pid: Pid, record: Record) {
        if record.is_free(pid) {
            return;
        }
        self.processes.0.fetch_add(1, Ordering::Relaxed);
        if record.parent.is_none() {
            self.parentless.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a process that is known no more, or a guest that has given its id up.
    fn went(&self, pid: Pid, record: Record) {
        if record.is_free(pid) {
            return;
        }
        if record.parent.is_none() {
            self.parentless.0.fetch_sub(1, Ordering::Relaxed);
        }
        // Release, with the Acquire in `is_drained`: whoever sees the last one gone sees all
        // of it.
        self.processes.0.fetch_sub(1, Ordering::Release);
    }

    /// An entry of this class if `nth` is one of its live ones, else counts `nth` on.
    fn pick<const STRIDE: usize, const PARTS: usize, R>(
        &self,
        parts: &Parts<STRIDE, PARTS>,
        nth: &mut u64,
        take: &mut Option<impl FnOnce(Stored<'_, O>, Pid) -> R>,
        pinned: &Pinned,
    ) -> Option<R> {
        let segment = parts.segments(pinned).find(|segment| {
            let here = segment.live() as u64;
            let found = *nth < here;
            *nth -= if found { 0 } else { here };
            found
        })?;
        // One slot in eight is live at the least, so this ends after a few tries; the bound is for
        // a segment that empties meanwhile.
        (0..1_000).find_map(|_| {
            let slot = segment.slot(below(segment.slots() as u64, self.random()) as usize);
            let (tag, pid) = slot.entry()?;
            let take = take.take()?;
            Some(with_stored(slot, tag, |id| take(id, pid)))
        })
    }

    /// The next of a sequence that passes the usual tests of randomness (SplitMix64).
    fn random(&self) -> u64 {
        let state = self
            .random
            .0
            .fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
}

fn upper_half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// A number below `bound` from a random word.
fn below(bound: u64, random: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

impl<O: Opaque> Default for Table<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: Opaque> Drop for Table<O> {
    fn drop(&mut self) {
        for shard in self.shards.iter_mut() {
            shard.narrow.free::<O>();
            shard.middle.free::<O>();
            shard.wide.free::<O>();
        }
    }
}
