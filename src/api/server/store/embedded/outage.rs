//! What counts as a full disk, which is outlived: what a failed write has left is taken back, and nothing of it has happened.
//! Any other failure of the disk ends the process.

use std::{
    io::{self, ErrorKind, Write},
    time::Duration,
};

/// How long a full disk is left alone before it is tried again.
pub const PAUSE: Duration = Duration::from_secs(1);
/// And how long while writes wait for room.
pub const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// Whether a full disk explains the failure of a write.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// A failed fsync leaves the outcome of its writes unknown, to us too: only a restart reads what really is on disk.
pub fn exit_unknown(error: &io::Error) -> ! {
    tracing::error!(%error, "the store could not write to disk, exiting");
    // The log may be a file on the same disk.
    let _ = writeln!(io::stderr(), "the store could not write to disk, exiting: {error}");
    std::process::exit(74)
}

/// A writer that panicked answers nobody; better no process than one that hangs.
pub struct ExitOnPanic;

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(io::stderr(), "the store's writer panicked, exiting"); // likewise
            std::process::exit(70);
        }
    }
}
