//! A system that grants `membarrier(2)` at first and refuses it later: that shows, and nothing is freed.
#![cfg(target_os = "linux")]

use std::sync::Arc;

use registry_table::{collect, drop_later, is_stopped, pin};

/// Has the system refuse `membarrier(2)` to this thread from now on.
fn refuse_membarrier() {
    let statement = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let number = libc::SYS_membarrier as u32;
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut filter = [
        // The number of the call is what its data begin with.
        statement((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        statement(
            (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            number,
            0,
            1,
        ),
        statement((libc::BPF_RET | libc::BPF_K) as u16, refusal, 0, 0),
        statement(
            (libc::BPF_RET | libc::BPF_K) as u16,
            libc::SECCOMP_RET_ALLOW,
            0,
            0,
        ),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and what it points to are alive for the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        );
        assert_eq!(set, 0);
    }
}

#[test]
fn a_barrier_that_is_refused_later_shows() {
    let canary = Arc::new(());
    drop(pin());
    drop_later(Arc::clone(&canary));
    collect();
    assert_eq!(Arc::strong_count(&canary), 1);
    assert!(!is_stopped());

    drop_later(Arc::clone(&canary));
    refuse_membarrier();
    collect();
    assert_eq!(Arc::strong_count(&canary), 2, "a reader might look");
    assert!(is_stopped());
}
