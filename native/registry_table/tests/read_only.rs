//! Readers write no memory that they share: with the table's memory made read-only by the operating
//! system, they go on.
//!
//! What a table allocates, the slot of its name included, is put into an arena of its own, which is
//! then protected: a write to it would end the process with a segmentation fault. So each test runs
//! in a process of its own.
//!
//! Each reader notes that it reads, in a record of its thread's own, which is not the table's.
//! `sample` is left out: it draws a random number.

#![cfg(target_os = "linux")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroU64;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use registry_table::{Cursor, Id, Names, Opaque, Pid, Published, Table, Worker, pin};

const ARENA: usize = 1 << 30;

/// Puts what is allocated between `Arena::within`s into the arena, where nothing is freed.
struct Arena {
    begin: AtomicUsize,
    used: AtomicUsize,
}

#[global_allocator]
static MEMORY: Arena = Arena {
    begin: AtomicUsize::new(0),
    used: AtomicUsize::new(0),
};

thread_local! {
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: each piece of the arena is given out once, and everything else is the system's.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !WITHIN.get() {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc(layout) };
        }
        let size = layout.size() + layout.align();
        let at = self.used.fetch_add(size, Ordering::Relaxed);
        assert!(at + size <= ARENA, "the arena is full");
        let at = self.begin.load(Ordering::Relaxed) + at;
        at.next_multiple_of(layout.align()) as *mut u8
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let begin = self.begin.load(Ordering::Relaxed);
        if !(begin..begin + ARENA).contains(&(pointer as usize)) || begin == 0 {
            // SAFETY: as the caller promises, and it is not of the arena.
            unsafe { System.dealloc(pointer, layout) };
        }
    }
}

impl Arena {
    fn open(&self) {
        // SAFETY: asks for new memory, where nothing else is.
        let begin = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                ARENA,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(begin, libc::MAP_FAILED);
        self.begin.store(begin as usize, Ordering::Relaxed);
    }

    fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        WITHIN.set(true);
        let result = f();
        WITHIN.set(false);
        result
    }

    fn make_read_only(&self) {
        let begin = self.begin.load(Ordering::Relaxed) as *mut libc::c_void;
        // SAFETY: the memory is that of `open`. Whoever still writes to it is to be ended.
        let failed = unsafe { libc::mprotect(begin, ARENA, libc::PROT_READ) };
        assert_eq!(failed, 0);
    }
}

struct Text(String);

impl Opaque for Text {
    type Probe<'a> = &'a str;

    fn keep(probe: &str) -> Self {
        Self(probe.to_owned())
    }

    fn is(&self, probe: &str) -> bool {
        self.0 == probe
    }
}

static NAMES: Names<Published<Table<Text>>> = Names::new();
const NAME: u64 = 11;
const IDS: u64 = 20_000;

/// Runs `f` with the nth id: one bare word, words that fit into slots of either size, more words
/// than that, and none.
fn with_id<R>(n: u64, f: impl FnOnce(&Id<'_, &str>) -> R) -> R {
    let text = n.to_string();
    let words = vec![n; [0, 2, 5, 12, 0][n as usize % 5]];
    f(&match n % 5 {
        0 => Id::Word(NonZeroU64::MIN.saturating_add(n)),
        4 => Id::Opaque {
            hash: n,
            words: 1,
            probe: &text,
        },
        _ => Id::Words {
            shape: words.len() as u8,
            words: &words,
        },
    })
}

fn insert(table: &Table<Text>, n: u64) {
    let worker = Worker {
        pid: Pid::new(n + 1).expect("not zero"),
        parent: None,
    };
    with_id(n, |id| table.insert(id, worker)).expect("a new one");
}

/// In the arena, with every id, of which some are gone again.
fn make_table() {
    let slot = NAMES.claim(NAME);
    let table = Arc::new(Table::new());
    for n in 0..IDS {
        insert(&table, n);
    }
    for n in (0..IDS).step_by(7) {
        assert!(table.remove(Pid::new(n + 1).expect("not zero")));
    }
    slot.set(table);
}

fn is_there(n: u64) -> bool {
    n < IDS && !n.is_multiple_of(7)
}

/// What a lookup does, from the name on.
fn lookup(n: u64) {
    let slot = NAMES.get(NAME).expect("claimed");
    let pinned = pin();
    let table = slot.get(&pinned).expect("set");
    let found = with_id(n, |id| table.get(id, &pinned));
    assert_eq!(found.is_some(), is_there(n), "{n}");
}

fn read_all() {
    for n in 0..IDS * 2 {
        lookup(n);
    }
    let slot = NAMES.get(NAME).expect("claimed");
    let pinned = pin();
    let table = slot.get(&pinned).expect("set");
    let mut met = 0;
    let mut cursor = Some(Cursor::START);
    while let Some(from) = cursor {
        cursor = table.scan(from, 500, |_, _| met += 1);
    }
    assert_eq!(met, table.count());
}

/// This test again in a process of its own, where `what` is set.
fn in_child(test: &str, what: &str) -> ExitStatus {
    Command::new(std::env::current_exe().expect("known on Linux"))
        .args([test, "--exact"])
        .stdout(Stdio::null())
        .env("READ_ONLY_CHILD", what)
        .status()
        .expect("it is there, for it runs")
}

fn is_child(what: &str) -> bool {
    std::env::var("READ_ONLY_CHILD").is_ok_and(|set| set == what)
}

fn read_only_table() {
    MEMORY.open();
    // This thread's record is not the table's.
    drop(pin());
    MEMORY.within(make_table);
    MEMORY.make_read_only();
}

#[test]
fn readers_write_nothing_that_they_share() {
    if is_child("read") {
        read_only_table();
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    (0..10).for_each(|_| read_all());
                });
            }
        });
        return;
    }
    let status = in_child("readers_write_nothing_that_they_share", "read");
    assert!(status.success(), "{status}");
}

#[test]
fn a_write_is_noticed() {
    if is_child("write") {
        read_only_table();
        let pinned = pin();
        let slot = NAMES.get(NAME).expect("claimed");
        insert(slot.get(&pinned).expect("set"), IDS);
        return;
    }
    let status = in_child("a_write_is_noticed", "write");
    assert_eq!(status.signal(), Some(libc::SIGSEGV), "{status}");
}
