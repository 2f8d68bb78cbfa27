//! Where a crash test kills its child: at the n-th step that the log takes on the disk.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Steps left; 0 means without end.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Lets this process live for so many more steps.
pub fn die_after(steps: u64) {
    LEFT.store(steps, Ordering::Relaxed);
}

/// A step.
pub fn step() {
    let left = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    if left == Ok(1) {
        kill(Pid::this(), Signal::SIGKILL).expect("a process may kill itself");
    }
}
