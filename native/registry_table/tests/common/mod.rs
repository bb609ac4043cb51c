//! What the tests share: ids of every form, a table to try them on, and seeded randomness.

// Each test file is a crate of its own, and none of them uses everything.
#![allow(dead_code)]

pub mod operations;

use std::num::NonZeroU64;
use std::ops::Deref;
use std::sync::{Arc, Once};
use std::thread::spawn;

use registry_table::{
    Conflict, Cursor, Id, Opaque, Pid, Remembered, Stored, Table, Worker, reclaim,
};

/// How much longer than usual the tests should try, from `REGISTRY_TABLE_STRESS`.
pub fn stress() -> u64 {
    let set = std::env::var("REGISTRY_TABLE_STRESS").ok();
    set.map_or(1, |times| times.parse().expect("a whole number"))
}

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }
}

/// An opaque id. All kept ones of a table share its canary, whose count so tells how many live.
pub struct Name {
    name: u64,
    _canary: Arc<()>,
}

impl Opaque for Name {
    type Probe<'a> = (u64, &'a Arc<()>);

    fn keep((name, canary): Self::Probe<'_>) -> Self {
        let _canary = Arc::clone(canary);
        Self { name, _canary }
    }

    fn is(&self, (name, _): Self::Probe<'_>) -> bool {
        self.name == name
    }

    fn flat(&self) -> Option<Arc<Vec<u8>>> {
        (self.name < CROWD).then(|| Arc::new(self.name.to_le_bytes().into()))
    }
}

/// How many opaque ids share one hash, so that searches meet others with the same.
const SAME_HASH: u64 = 4;

/// Opaque ids from this name on all share one hash, are of a size that nobody knows, and are not
/// remembered when their processes are gone.
const CROWD: u64 = 1 << 40;

/// An id that owns its words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TestId {
    Word(NonZeroU64),
    /// The shape's last digit is the number of words, if there are less than ten.
    Words(u8, Vec<u64>),
    Opaque(u64),
}

impl TestId {
    /// How many ids in a row have all the forms there are.
    pub const FORMS: u64 = 24;

    /// The id of a number: words of every length, some of which differ by their shape alone or
    /// end with zeros, and all the rest. Different numbers make different ids.
    pub fn nth(n: u64) -> Self {
        match n % 12 {
            1 => Self::Opaque(n),
            form @ 2..12 if form > 2 || n < Self::FORMS => {
                let length = form as u8 - 2;
                let shape = length + 10 * (n / 12 % 2) as u8;
                let word = |place| if place < 2 { n / Self::FORMS } else { n % 3 };
                Self::Words(shape, (0..u64::from(length)).map(word).collect())
            }
            _ => Self::Word(NonZeroU64::MIN.saturating_add(n)),
        }
    }

    /// An opaque id that has its hash in common with all others of these.
    pub fn of_crowd(n: u64) -> Self {
        Self::Opaque(CROWD + n)
    }

    pub fn is_of_crowd(&self) -> bool {
        matches!(self, Self::Opaque(CROWD..))
    }

    /// An id of so many words that only the last one tells apart from others.
    pub fn very_wide(n: u64, words: usize) -> Self {
        let mut all = vec![7; words];
        all.push(n);
        Self::Words(0, all)
    }

    fn borrow<'a>(&'a self, canary: &'a Arc<()>) -> Id<'a, (u64, &'a Arc<()>)> {
        match self {
            Self::Word(word) => Id::Word(*word),
            Self::Words(shape, words) => Id::Words {
                shape: *shape,
                words,
            },
            Self::Opaque(name) if self.is_of_crowd() => Id::Opaque {
                hash: 0,
                words: u32::MAX,
                probe: (*name, canary),
            },
            Self::Opaque(name) => Id::Opaque {
                hash: name / (12 * SAME_HASH),
                words: 1,
                probe: (*name, canary),
            },
        }
    }
}

impl From<Stored<'_, Name>> for TestId {
    fn from(stored: Stored<'_, Name>) -> Self {
        match stored {
            Stored::Word(word) => Self::Word(NonZeroU64::new(word).expect("not zero")),
            Stored::Words { shape, words } => {
                let own = match words.len() {
                    ..10 => usize::from(shape % 10),
                    all => all,
                };
                let (words, zeros) = words.split_at(own);
                assert!(zeros.iter().all(|&word| word == 0), "{zeros:?}");
                Self::Words(shape, words.to_vec())
            }
            Stored::Opaque { kept, .. } => Self::Opaque(kept.name),
        }
    }
}

/// A table of such ids.
pub struct Tested {
    table: Table<Name>,
    canary: Arc<()>,
}

impl Deref for Tested {
    type Target = Table<Name>;

    fn deref(&self) -> &Table<Name> {
        &self.table
    }
}

impl Tested {
    pub fn new() -> Self {
        Self::of(Table::new())
    }

    /// With room for so many children.
    pub fn bounded(children: usize) -> Self {
        Self::of(Table::bounded(children))
    }

    fn of(table: Table<Name>) -> Self {
        static RECLAIMED: Once = Once::new();
        RECLAIMED.call_once(|| {
            spawn(|| reclaim(|| ()));
        });
        let canary = Arc::new(());
        Self { table, canary }
    }

    pub fn get(&self, id: &TestId) -> Option<Pid> {
        let guard = registry_table::pin();
        self.table.get(&id.borrow(&self.canary), &guard)
    }

    pub fn insert(&self, id: &TestId, pid: Pid) -> Result<(), Conflict> {
        self.insert_child(id, orphan(pid))
    }

    pub fn insert_child(&self, id: &TestId, worker: Worker) -> Result<(), Conflict> {
        self.table.insert(&id.borrow(&self.canary), worker)
    }

    pub fn retire(&self, id: &TestId) -> Option<Worker> {
        self.table.retire(&id.borrow(&self.canary))
    }

    /// The processes of these ids, looked up together.
    pub fn get_many(&self, ids: &[TestId]) -> Vec<Option<Pid>> {
        let guard = registry_table::pin();
        let borrowed: Vec<_> = ids.iter().map(|id| id.borrow(&self.canary)).collect();
        // What is there already must not show through.
        let mut pids = vec![Some(pid(u64::MAX - 1)); ids.len()];
        self.table.get_many(&borrowed, &mut pids, &guard);
        pids
    }

    pub fn id_of(&self, pid: Pid) -> Option<TestId> {
        self.table.id_of(pid, |id| id.into())
    }

    pub fn last_id_of(&self, pid: Pid) -> Option<TestId> {
        self.table.last_id_of(pid, |id| match id {
            Remembered::Whole(stored) => stored.into(),
            Remembered::Flat(bytes) => {
                TestId::Opaque(u64::from_le_bytes(bytes.try_into().expect("a name")))
            }
        })
    }

    pub fn release(&self, id: &TestId) -> bool {
        self.table.release(&id.borrow(&self.canary))
    }

    /// What one step of a scan meets, and where to go on.
    pub fn step(&self, cursor: Cursor, limit: usize) -> (Vec<(TestId, Pid)>, Option<Cursor>) {
        let mut met = Vec::new();
        let next = self
            .table
            .scan(cursor, limit, |id, pid| met.push((id.into(), pid)));
        if let Some(next) = next {
            assert!(next.to_bits() > cursor.to_bits(), "the scan goes on");
            assert_eq!(Cursor::from_bits(next.to_bits()), next);
        }
        (met, next)
    }

    /// What is met from a cursor on, in steps that go by `limit`; `between` runs after each.
    pub fn scan_from(
        &self,
        cursor: Cursor,
        limit: usize,
        mut between: impl FnMut(),
    ) -> Vec<(TestId, Pid)> {
        let mut all = Vec::new();
        let mut next = Some(cursor);
        while let Some(cursor) = next {
            let (met, on) = self.step(cursor, limit);
            all.extend(met);
            next = on;
            between();
        }
        all
    }

    pub fn scan_all(&self, limit: usize) -> Vec<(TestId, Pid)> {
        self.scan_from(Cursor::START, limit, || ())
    }

    pub fn sample(&self) -> Option<(TestId, Pid)> {
        self.table.sample(|id, pid| (id.into(), pid))
    }

    /// Drops the table, and asserts that every opaque id goes with it.
    pub fn drop_without_leak(self) {
        drop(self.table);
        assert_kept(&self.canary, 0);
    }

    /// Asserts that the table keeps no more opaque ids than that.
    pub fn assert_keeps(&self, most: usize) {
        assert_kept(&self.canary, most);
    }
}

fn assert_kept(canary: &Arc<()>, most: usize) {
    let kept = || Arc::strong_count(canary) - 1;
    // What other threads still hold back is freed soon, but not at once.
    for _ in 0..1_000_000 {
        if kept() <= most {
            return;
        }
        registry_table::collect();
        std::thread::yield_now();
    }
    panic!("{} opaque ids are kept", kept());
}

/// The pid of a number; zero is a number too.
pub fn pid(n: u64) -> Pid {
    Pid::new(n + 1).expect("not zero")
}

pub fn orphan(pid: Pid) -> Worker {
    Worker { pid, parent: None }
}

/// How many pids each id has in the tests that tell by the pid what it was inserted for.
const LIVES: u64 = 1 << 20;

/// One of the pids of `TestId::nth(n)`.
pub fn pid_of(n: u64, life: u64) -> Pid {
    pid(n * LIVES + life % LIVES)
}

/// Asserts that `pid` is one of those of `id`.
pub fn assert_belongs(id: &TestId, pid: Pid) {
    let owner = TestId::nth((pid.word() - 1) / LIVES);
    assert_eq!(*id, owner, "a pid of another id");
}
