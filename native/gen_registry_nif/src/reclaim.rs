//! The thread that frees what the tables have given up: ids of any size, segments, whole tables.
//!
//! A process that ends must not free what others left, and when all have ended, nothing else would.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use once_cell::sync::OnceCell;
use registry_table::reclaim;
use rustler::OwnedEnv;

use crate::atoms;
use crate::slot::{NAMES, Slot};
use crate::words::pid_to_local;

/// Starts the thread, unless it runs. Returns whether it does.
pub fn start() -> bool {
    static STARTED: OnceCell<bool> = OnceCell::new();
    *STARTED.get_or_init(|| {
        let thread = thread::Builder::new().name("gen_registry".into());
        stay_loaded() && thread.spawn(|| reclaim(tell)).is_ok()
    })
}

/// Keeps this library in memory for as long as the VM runs: the thread's code is in it, and the VM
/// unloads the library when its module is purged. Returns whether it stays.
fn stay_loaded() -> bool {
    let mut own = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: it writes what it finds to `own`, if it does not return zero.
    if unsafe { libc::dladdr(start as *const c_void, own.as_mut_ptr()) } == 0 {
        return false;
    }
    // A handle that is never closed.
    let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD;
    // SAFETY: the name was found, and is the library's for as long as that is loaded. It is loaded
    // already, so none of its code is run.
    let handle = unsafe { libc::dlopen(own.assume_init().dli_fname, flags) };
    !handle.is_null()
}

/// Tells one running registry, once, that nothing can be freed.
fn tell() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    // Relaxed: only this thread has it.
    if TOLD.load(Ordering::Relaxed) {
        return;
    }
    let mut env = OwnedEnv::new();
    let told = NAMES.slots().filter_map(Slot::owner).any(|owner| {
        let sent = env.send_and_clear(&pid_to_local(owner), |_| atoms::reclaiming_stopped());
        sent.is_ok()
    });
    TOLD.store(told, Ordering::Relaxed);
}
