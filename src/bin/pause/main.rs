//! The sandbox process: holds a pod's namespaces, reaps orphans in a shared PID namespace, exits on SIGINT or SIGTERM.
//!
//! Nothing is heard or written; the exit code is 0 on a signal, 1 when signals cannot be blocked.

use std::{mem::MaybeUninit, process::ExitCode, ptr};

/// Reaps every child that has ended.
fn reap() {
    // SAFETY: a null status pointer is allowed, and WNOHANG never blocks.
    while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// The signals this process waits for, blocked so that none is lost between two waits.
fn blocked_signals() -> Option<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set before anything reads it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGCHLD] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        let set = set.assume_init();
        (libc::sigprocmask(libc::SIG_BLOCK, &set, ptr::null_mut()) == 0).then_some(set)
    }
}

fn main() -> ExitCode {
    let Some(signals) = blocked_signals() else { return ExitCode::FAILURE };
    loop {
        reap();
        // SAFETY: the set is initialised; a null info pointer is allowed.
        match unsafe { libc::sigwaitinfo(&signals, ptr::null_mut()) } {
            libc::SIGINT | libc::SIGTERM => return ExitCode::SUCCESS,
            _ => continue,
        }
    }
}
