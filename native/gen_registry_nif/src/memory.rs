//! The VM's allocator, to which large blocks are given back without the memory behind them.
//!
//! The VM has many blocks in one carrier, of several megabytes. It returns that to the system
//! all at once when the last block is freed, or some time later, on the scheduler that happens to be
//! there. If all its pages are still in use then, that takes milliseconds. So each block gives up its
//! own when it is freed, a few at a time.

use std::alloc::{GlobalAlloc, Layout};

use rustler::EnifAllocator;

#[cfg(target_os = "linux")]
use crate::hot::NORMAL;

/// Whether a block of this layout is worth it: it should have some pages of its own.
#[cfg(target_os = "linux")]
fn is_large(layout: Layout) -> bool {
    // What a table is made of, mostly, is aligned to more than a word. What a call takes for itself is
    // not: that will be wanted again at once. More than this of it is for dirty schedulers.
    let least = if layout.align() > align_of::<u64>() {
        8 * 1024
    } else {
        NORMAL * size_of::<u64>() + 1
    };
    layout.size() >= least
}

/// What it holds shows in `:erlang.memory(:system)`.
pub struct Allocator;

// SAFETY: all of it is the VM's allocator's, and `give_up` is called as it demands.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the same.
        unsafe { EnifAllocator.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: nobody reads the block any more, by the caller's contract, which is the same.
        unsafe {
            #[cfg(target_os = "linux")]
            if is_large(layout) {
                give_up(block, layout.size());
            }
            EnifAllocator.dealloc(block, layout);
        }
    }
}

/// Returns the pages that are the block's alone to the system.
///
/// # Safety
///
/// Nobody reads the block before writing it again.
#[cfg(target_os = "linux")]
unsafe fn give_up(block: *mut u8, size: usize) {
    // SAFETY: it asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let before = block.align_offset(page);
    let whole = size.saturating_sub(before) / page * page;
    if whole > 0 {
        // SAFETY: these pages lie in the block, which the caller promises nothing is wanted of. If
        // the system refuses, all is as it was.
        unsafe {
            libc::madvise(
                block.wrapping_add(before).cast(),
                whole,
                libc::MADV_DONTNEED,
            )
        };
    }
}
