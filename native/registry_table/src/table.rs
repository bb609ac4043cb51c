//! The workers of one registry: by id for everyone, by pid for those who clean up.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};
use dashmap::{DashMap, Entry};
use foldhash::fast::FixedState;
use parking_lot::Mutex;

use crate::id::{Id, Opaque, Pid, Seed, Stored};
use crate::pinned::Pinned;
use crate::segment::{SHARD_BITS, Segment, Slot, is_boxed, shape, tag};

const SHARDS: usize = 1 << SHARD_BITS;

/// Words of an id that fit into a middle slot; also where a pointer to a boxed id lies.
const MIDDLE: usize = 2;
/// Words of an id that fit into a wide slot.
const WIDE: usize = 6;

/// How many shards of the map from pids: so many that at ten million entries growing one of them
/// still takes less than a millisecond.
const PID_SHARDS: usize = 1024;

/// The workers of one registry.
pub struct Table<O: Opaque> {
    shards: Box<[Shard]>,
    /// What is known of each process, whether lookups see it or not. DashMap serves here because
    /// only writers come this way: readers would pay for its locks.
    pids: DashMap<u64, Record, FixedState>,
    seed: Seed,
    count: Apart<AtomicUsize>,
    processes: Apart<AtomicUsize>,
    closed: AtomicBool,
    random: Apart<AtomicU64>,
    opaque: PhantomData<O>,
}

/// A process that belongs to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The process.
    pub pid: Pid,
    /// The process that started it, if it is a worker that was started.
    pub parent: Option<Pid>,
}

/// Why an insertion was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The id has this process.
    IdTaken(Pid),
    /// The process has another id, or is known otherwise.
    PidTaken,
    /// The table is closed. The process is tracked all the same, see [`Table::track`].
    Closed,
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

/// Keeps what writers write out of the cache lines that readers read.
#[repr(align(128))]
struct Apart<T>(T);

struct Shard {
    writer: Mutex<()>,
    /// Live entries in all classes. Written under the lock.
    live: AtomicU32,
    /// Ids of one word.
    narrow: Atomic<Segment<2>>,
    /// Ids of at most `MIDDLE` words, and pointers to those that fit nowhere.
    middle: Atomic<Segment<4>>,
    /// Ids of at most `WIDE` words.
    wide: Atomic<Segment<8>>,
}

#[derive(Clone, Copy, PartialEq)]
struct Record {
    parent: Option<Pid>,
    /// The upper half of the id's hash.
    hash: u32,
    place: Place,
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

/// Whether a removal made a new segment.
#[derive(PartialEq)]
struct Replaced(bool);

/// An id that fits into no slot.
enum Boxed<O> {
    Words(Box<[u64]>),
    Opaque(O),
}

impl<O: Opaque> Boxed<O> {
    fn is(&self, id: &Id<'_, O::Probe<'_>>) -> bool {
        match (self, id) {
            (Self::Words(mine), Id::Words { words, .. }) => **mine == **words,
            (Self::Opaque(mine), Id::Opaque { probe, .. }) => mine.is(*probe),
            _ => false,
        }
    }

    /// The id in a box if it fits into no slot.
    fn keep(id: &Id<'_, O::Probe<'_>>) -> Option<Box<Self>> {
        Some(Box::new(match id {
            Id::Opaque { probe, .. } => Self::Opaque(O::keep(*probe)),
            Id::Words { words, .. } if words.len() > WIDE => Self::Words((*words).into()),
            Id::Word(_) | Id::Words { .. } => return None,
        }))
    }

    /// The boxed id of a slot whose tag says that it has one.
    ///
    /// # Safety
    ///
    /// The slot is of a segment of this table, loaded from its shard under a guard that lives for
    /// `'g`, or under the shard's lock.
    #[inline]
    unsafe fn of<'g, const STRIDE: usize>(slot: Slot<'_, STRIDE>) -> &'g Self {
        let pointer = slot.words().next().unwrap_or(0) as *const Self;
        // SAFETY: the tag is stored after the pointer, which `keep` made. It is freed by
        // `Shard::replace` only through the epoch, so not while the guard lives, or under the lock.
        unsafe { &*pointer }
    }
}

/// Runs one piece of code with the segment, the tag, the comparison and the words of an id,
/// whichever class the id is of.
macro_rules! by_class {
    ($shard:expr, $hash:expr, $id:expr, |$cell:ident, $place:ident, $tag:ident, $same:ident| $body:expr) => {{
        let (shard, hash): (&Shard, u64) = ($shard, $hash);
        match $id {
            Id::Word(word) => {
                let ($cell, $place, $tag) = (&shard.narrow, Place::Narrow, word.get());
                let $same = |_: Slot<'_, 2>| true;
                $body
            }
            Id::Words { shape, words } if words.len() <= MIDDLE => {
                let ($cell, $place) = (&shard.middle, Place::Middle);
                let $tag = tag(hash, *shape, false);
                let $same = |slot: Slot<'_, 4>| same_words(slot, words);
                $body
            }
            Id::Words { shape, words } if words.len() <= WIDE => {
                let ($cell, $place) = (&shard.wide, Place::Wide);
                let $tag = tag(hash, *shape, false);
                let $same = |slot: Slot<'_, 8>| same_words(slot, words);
                $body
            }
            id @ (Id::Words { .. } | Id::Opaque { .. }) => {
                let ($cell, $place) = (&shard.middle, Place::Middle);
                let shape = if let Id::Words { shape, .. } = id {
                    *shape
                } else {
                    0
                };
                let $tag = tag(hash, shape, true);
                // SAFETY: searches run under a guard that outlives them, and this tag is boxed.
                let $same = |slot: Slot<'_, 4>| unsafe { Boxed::<O>::of(slot) }.is(id);
                $body
            }
        }
    }};
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
        let seed = Seed::random();
        Self {
            seed,
            shards: std::iter::repeat_with(Shard::new).take(SHARDS).collect(),
            pids: DashMap::with_hasher_and_shard_amount(FixedState::default(), PID_SHARDS),
            count: Apart(AtomicUsize::new(0)),
            processes: Apart(AtomicUsize::new(0)),
            closed: AtomicBool::new(false),
            random: Apart(AtomicU64::new(seed.hash_word(1))),
            opaque: PhantomData,
        }
    }

    /// The process of an id.
    #[inline]
    pub fn get(&self, id: &Id<'_, O::Probe<'_>>, pinned: &Pinned) -> Option<Pid> {
        let guard = pinned.guard();
        let hash = self.seed.hash(id);
        by_class!(self.shard(hash), hash, id, |cell, _place, tag, same| {
            load(cell, guard)?.find(hash, tag, same)?.pid()
        })
    }

    /// Enters `worker` for an id that has none.
    pub fn insert(&self, id: &Id<'_, O::Probe<'_>>, worker: Worker) -> Result<(), Conflict> {
        let guard = &crossbeam_epoch::pin();
        let hash = self.seed.hash(id);
        let shard = self.shard(hash);
        let writer = shard.writer.lock();
        // Relaxed: an insertion that races with `close` may land on either side of it.
        if self.is_closed() {
            self.track(worker);
            return Err(Conflict::Closed);
        }
        let frees = by_class!(shard, hash, id, |cell, place, tag, same| {
            let old = load(cell, guard);
            let found = old.and_then(|old| old.find(hash, tag, same));
            if let Some(pid) = found.and_then(Slot::pid) {
                return Err(Conflict::IdTaken(pid));
            }
            // First what may panic, being the caller's code: from here on nothing does.
            let boxed = found.map_or_else(|| Boxed::<O>::keep(id), |_| None);
            // Known by pid before it is seen by id, so that whoever removes it finds both.
            self.record(worker, hash, place)?;
            let rebuilt = match old {
                Some(old) if found.is_some() || old.has_room() => None,
                Some(old) => Some(old.rebuilt(1)),
                None => Some(Segment::with_room_for(1, self.seed)),
            };
            let segment = rebuilt.as_ref().or(old).unwrap_or_else(|| unreachable!());
            match found {
                Some(slot) => segment.set_pid(slot, Some(worker.pid)),
                None => {
                    let pointer = boxed.map(|boxed| [Box::into_raw(boxed) as u64]);
                    let words = match (&pointer, id) {
                        (Some(pointer), _) => &pointer[..],
                        (None, Id::Words { words, .. }) => words,
                        (None, _) => &[],
                    };
                    segment.fill(segment.free(hash), tag, words, worker.pid);
                }
            }
            let frees = rebuilt.is_some() && old.is_some();
            if rebuilt.is_some() {
                replace::<_, O>(cell, rebuilt, guard);
            }
            frees
        });
        shard.live.fetch_add(1, Ordering::Relaxed);
        self.count.0.fetch_add(1, Ordering::Relaxed);
        drop(writer);
        if frees {
            // Frees what it can, which may run the code of an `Opaque`: so without the lock.
            guard.flush();
        }
        Ok(())
    }

    /// Forgets a process, and its entry if it has one: the process is dead.
    ///
    /// Answers whether it was known.
    pub fn remove(&self, pid: Pid) -> bool {
        let removed = self.hide(pid, None, || {
            self.pids.remove(&pid.word());
        });
        if removed.is_some() {
            // Release, with the Acquire in `is_drained`: whoever sees the last one gone sees all
            // of it.
            self.processes.0.fetch_sub(1, Ordering::Release);
        }
        removed.is_some()
    }

    /// Takes the entry of an id out of sight. Its process stays known until it is removed.
    pub fn retire(&self, id: &Id<'_, O::Probe<'_>>) -> Option<Worker> {
        let hash = self.seed.hash(id);
        let pid = self.get(id, &crate::pin())?;
        let record = self.hide(pid, Some(upper_half(hash)), || {
            if let Some(mut record) = self.pids.get_mut(&pid.word()) {
                record.place = Place::Hidden;
            }
        })?;
        let parent = record.parent;
        (record.place != Place::Hidden).then_some(Worker { pid, parent })
    }

    /// Makes a process known that has no entry: it counts among [`Table::processes`] until it is
    /// removed. Answers whether it was not known yet.
    pub fn track(&self, worker: Worker) -> bool {
        self.record(worker, 0, Place::Hidden).is_ok()
    }

    /// Whether a process was entered or tracked, and not removed.
    pub fn knows(&self, pid: Pid) -> bool {
        self.pids.contains_key(&pid.word())
    }

    /// How many entries there are.
    #[inline]
    pub fn count(&self) -> usize {
        // Relaxed: it is one number, and callers who need an order have it by messages.
        self.count.0.load(Ordering::Relaxed)
    }

    /// Refuses insertions from now on. Answers whether it is this call that closed the table.
    pub fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::Relaxed)
    }

    /// Whether the table was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether no process is left that the table knows of.
    pub fn is_drained(&self) -> bool {
        // Acquire: see `remove`.
        self.processes.0.load(Ordering::Acquire) == 0
    }

    /// Every process that the table knows of, seen by lookups or not. Takes time and room in
    /// proportion to their number.
    pub fn processes(&self) -> Vec<Worker> {
        let worker = |pid, parent| {
            Some(Worker {
                pid: Pid::new(pid)?,
                parent,
            })
        };
        let pids = self.pids.iter();
        pids.filter_map(|record| worker(*record.key(), record.parent))
            .collect()
    }

    /// One entry, each as likely as the others when nothing changes meanwhile.
    pub fn sample<R>(&self, take: impl FnOnce(Stored<'_, O>, Pid) -> R) -> Option<R> {
        let guard = &crossbeam_epoch::pin();
        let mut take = Some(take);
        // A round fails only if an entry went away while it was sought.
        for _ in 0..100 {
            if self.count() == 0 {
                break;
            }
            let live = |shard: &Shard| u64::from(shard.live.load(Ordering::Relaxed));
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
                .pick(&shard.narrow, &mut nth, &mut take, guard)
                .or_else(|| self.pick(&shard.middle, &mut nth, &mut take, guard))
                .or_else(|| self.pick(&shard.wide, &mut nth, &mut take, guard));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Visits the entries from `cursor` on, about `limit` slots of them, and answers where to go
    /// on, or `None` when all have been visited.
    ///
    /// See the crate's documentation for what a scan meets while writers run.
    pub fn scan(
        &self,
        cursor: Cursor,
        limit: usize,
        mut visit: impl FnMut(Stored<'_, O>, Pid),
    ) -> Option<Cursor> {
        let guard = &crossbeam_epoch::pin();
        let (class, mut from) = cursor.parts();
        let mut left = limit.max(1);
        while left > 0 {
            let shard = self.shard(from);
            let next = match class {
                0 => scan(&shard.narrow, from, &mut left, &mut visit, guard),
                1 => scan(&shard.middle, from, &mut left, &mut visit, guard),
                _ => scan(&shard.wide, from, &mut left, &mut visit, guard),
            };
            let first_of_next = (from >> (u64::BITS - SHARD_BITS)) + 1;
            from = match next {
                Some(hash) => hash,
                None if (first_of_next as usize) < SHARDS => {
                    first_of_next << (u64::BITS - SHARD_BITS)
                }
                None if class < 2 => return Some(Cursor::new(class + 1, 0)),
                None => return None,
            };
        }
        Some(Cursor::new(class, from))
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[(hash >> (u64::BITS - SHARD_BITS)) as usize]
    }

    fn record(&self, worker: Worker, hash: u64, place: Place) -> Result<(), Conflict> {
        match self.pids.entry(worker.pid.word()) {
            Entry::Occupied(_) => return Err(Conflict::PidTaken),
            Entry::Vacant(vacant) => {
                // First, for as soon as others know the process, they may remove it.
                self.processes.0.fetch_add(1, Ordering::Relaxed);
                vacant.insert(Record {
                    parent: worker.parent,
                    hash: upper_half(hash),
                    place,
                })
            }
        };
        Ok(())
    }

    /// Takes a process's entry, if it has one, out of sight, and runs `note` before anyone else
    /// comes to it. Answers what was known of the process; nothing happens if nothing was, or if
    /// its id has another hash than the one wanted.
    fn hide(&self, pid: Pid, wanted: Option<u32>, note: impl FnOnce()) -> Option<Record> {
        let guard = &crossbeam_epoch::pin();
        let look = || self.pids.get(&pid.word()).map(|record| *record);
        loop {
            let record = look()?;
            if wanted.is_some_and(|hash| hash != record.hash) {
                return None;
            }
            let hash = u64::from(record.hash) << 32;
            let shard = self.shard(hash);
            let writer = shard.writer.lock();
            // A record changes under its shard's lock only.
            if look() != Some(record) {
                continue;
            }
            let hidden = match record.place {
                Place::Narrow => shard.hide::<_, O>(&shard.narrow, hash, pid, guard),
                Place::Middle => shard.hide::<_, O>(&shard.middle, hash, pid, guard),
                Place::Wide => shard.hide::<_, O>(&shard.wide, hash, pid, guard),
                Place::Hidden => None,
            };
            if hidden.is_some() {
                shard.live.fetch_sub(1, Ordering::Relaxed);
                self.count.0.fetch_sub(1, Ordering::Relaxed);
            }
            note();
            drop(writer);
            if hidden == Some(Replaced(true)) {
                // As in `insert`; and little by little, lest one collection frees it all.
                guard.flush();
            }
            return Some(record);
        }
    }

    /// An entry of this segment if `nth` is one of its live ones, else counts `nth` on.
    fn pick<const STRIDE: usize, R>(
        &self,
        cell: &Atomic<Segment<STRIDE>>,
        nth: &mut u64,
        take: &mut Option<impl FnOnce(Stored<'_, O>, Pid) -> R>,
        guard: &Guard,
    ) -> Option<R> {
        let segment = load(cell, guard)?;
        let live = segment.live() as u64;
        if *nth >= live {
            *nth -= live;
            return None;
        }
        // One slot in eight is live at the least, so this ends after a few tries; the bound is for
        // a segment that empties meanwhile.
        (0..1_000).find_map(|_| {
            let slot = segment.slot(below(segment.slots() as u64, self.random()) as usize);
            let pid = (slot.tag() != 0).then(|| slot.pid())??;
            let take = take.take()?;
            Some(with_stored(slot, |id| take(id, pid)))
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

#[inline]
fn load<'g, const STRIDE: usize>(
    cell: &Atomic<Segment<STRIDE>>,
    guard: &'g Guard,
) -> Option<&'g Segment<STRIDE>> {
    // Acquire: the segment's slots were written before it was published.
    let segment = cell.load(Ordering::Acquire, guard);
    // SAFETY: a cell holds null or a segment that `Shard::replace` published; that frees it only
    // through the epoch, so not while `guard` lives.
    unsafe { segment.as_ref() }
}

fn scan<const STRIDE: usize, O: Opaque>(
    cell: &Atomic<Segment<STRIDE>>,
    from: u64,
    left: &mut usize,
    visit: &mut impl FnMut(Stored<'_, O>, Pid),
    guard: &Guard,
) -> Option<u64> {
    let Some(segment) = load(cell, guard) else {
        *left -= 1;
        return None;
    };
    let limit = *left;
    *left = left.saturating_sub(segment.slots());
    segment.scan(from, limit, |slot, pid| {
        with_stored(slot, |id| visit(id, pid))
    })
}

/// Runs `f` with the id in a slot that has one, loaded under a guard that outlives the call.
fn with_stored<const STRIDE: usize, O: Opaque, R>(
    slot: Slot<'_, STRIDE>,
    f: impl FnOnce(Stored<'_, O>) -> R,
) -> R {
    let tag = slot.tag();
    let mut words = [0; WIDE];
    let mut width = 0;
    for (to, from) in words.iter_mut().zip(slot.words()) {
        *to = from;
        width += 1;
    }
    if width == 0 {
        return f(Stored::Word(tag));
    }
    if !is_boxed(tag) {
        let words = &words[..width];
        return f(Stored::Words {
            shape: shape(tag),
            words,
        });
    }
    // SAFETY: the caller holds a guard, and the tag says that the id is boxed.
    match unsafe { Boxed::<O>::of(slot) } {
        Boxed::Words(words) => f(Stored::Words {
            shape: shape(tag),
            words,
        }),
        Boxed::Opaque(opaque) => f(Stored::Opaque(opaque)),
    }
}

impl<O: Opaque> Default for Table<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            writer: Mutex::new(()),
            live: AtomicU32::new(0),
            narrow: Atomic::null(),
            middle: Atomic::null(),
            wide: Atomic::null(),
        }
    }

    /// Takes the pid out of the slot that has it. Under the lock. `None` if none has it.
    fn hide<const STRIDE: usize, O: Opaque>(
        &self,
        cell: &Atomic<Segment<STRIDE>>,
        hash: u64,
        pid: Pid,
        guard: &Guard,
    ) -> Option<Replaced> {
        let segment = load(cell, guard)?;
        let slot = segment.find_pid(hash, pid)?;
        segment.set_pid(slot, None);
        if segment.live() == 0 {
            replace::<_, O>(cell, None, guard);
        } else if segment.is_sparse() {
            replace::<_, O>(cell, Some(segment.rebuilt(0)), guard);
        } else {
            return Some(Replaced(false));
        }
        Some(Replaced(true))
    }
}

/// Publishes `new`, which has the old segment's live entries if it had any, and frees the old one,
/// with the boxed ids that only it has, once no reader can see it. Under the shard's lock.
fn replace<const STRIDE: usize, O: Opaque>(
    cell: &Atomic<Segment<STRIDE>>,
    new: Option<Segment<STRIDE>>,
    guard: &Guard,
) {
    let new = new.map_or(Shared::null(), |new| Owned::new(new).into_shared(guard));
    // AcqRel: readers see the slots of the new one, and freeing the old one sees all writes to it.
    let old = cell.swap(new, Ordering::AcqRel, guard);
    // SAFETY: as in `load`.
    if let Some(segment) = unsafe { old.as_ref() } {
        // One by one, so that no thread that happens to collect must free many at once.
        for (boxed, _) in boxes::<_, O>(segment).filter(|(_, pid)| pid.is_none()) {
            // SAFETY: the ids that had no process were not copied, so they are only here, and this
            // segment is replaced only once. The epoch waits for those who read them.
            unsafe { guard.defer_unchecked(move || drop(Box::from_raw(boxed))) };
        }
        // SAFETY: the cell has another segment from here on, so this is the only place that frees
        // the old one. The epoch waits for every reader that may have loaded it.
        unsafe { guard.defer_destroy(old) };
    }
}

/// The boxed ids of a segment, each with its process.
fn boxes<const STRIDE: usize, O: Opaque>(
    segment: &Segment<STRIDE>,
) -> impl Iterator<Item = (*mut Boxed<O>, Option<Pid>)> {
    let any = if STRIDE == MIDDLE + 2 { usize::MAX } else { 0 };
    let slots = segment.all().take(any);
    slots.filter(|slot| is_boxed(slot.tag())).map(|slot| {
        let pointer = slot.words().next().unwrap_or(0) as *mut Boxed<O>;
        (pointer, slot.pid())
    })
}

impl<O: Opaque> Drop for Table<O> {
    fn drop(&mut self) {
        fn free<const STRIDE: usize, O: Opaque>(cell: &mut Atomic<Segment<STRIDE>>) {
            // SAFETY: the table is not shared any more, so no reader or writer has the segment.
            let Some(segment) = (unsafe { std::mem::take(cell).try_into_owned() }) else {
                return;
            };
            for (boxed, _) in boxes::<_, O>(&segment) {
                // SAFETY: `Boxed::keep` made it, and it is in no other segment: see `replace`.
                drop(unsafe { Box::from_raw(boxed) });
            }
        }
        for shard in &mut self.shards {
            free::<_, O>(&mut shard.narrow);
            free::<_, O>(&mut shard.middle);
            free::<_, O>(&mut shard.wide);
        }
    }
}
