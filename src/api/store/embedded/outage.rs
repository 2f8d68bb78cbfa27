//! What the writer does when its disk is full.
//!
//! The log's library takes nothing more after a failed write, and whether the failed batch is on disk is open. So the
//! files are closed and opened again, as a restart would: what is found behind the current revision did happen, the
//! rest did not. Readers have the newest values and the recent events in memory meanwhile. Nothing is written until the
//! disk has room again. Any other failure of the disk still ends the process.

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    time::{Duration, Instant},
};

use fjall::PersistMode;
use thiserror::Error;

use super::{
    open::open_files,
    record::{Record, record_key},
    shared::{Files, Shared},
    space::SpaceMark,
};
use crate::{meta::Revision, store::StoreError};

/// How long the old files may take to close.
const CLOSING: Duration = Duration::from_secs(5);

/// Why the files cannot be opened again.
#[derive(Debug, Error)]
pub enum ReopenError {
    #[error("the log does not close")]
    Busy,
    #[error("opening the log again failed")]
    Open(#[source] fjall::Error),
    #[error("reading the log's end failed")]
    Read(#[source] StoreError),
    #[error("writing the log's end again failed")]
    Write(#[source] fjall::Error),
}

impl ReopenError {
    /// Whether a full disk explains it.
    pub fn is_full(&self, space: &SpaceMark) -> bool {
        match self {
            ReopenError::Open(error) | ReopenError::Write(error) => is_full(error, space),
            ReopenError::Busy | ReopenError::Read(_) => false,
        }
    }
}

/// Whether a full disk explains the failure of a write, or the failure of the log's housekeeping before it.
pub fn is_full(error: &fjall::Error, space: &SpaceMark) -> bool {
    let full = |error: &std::io::Error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => full(error),
        // Housekeeping fails out of sight, and says only that it did.
        fjall::Error::Poisoned => space.was_tight(),
        _ => false,
    }
}

/// Closes the files, opens them again, and gives what lies in the log behind `current`, surely durable.
pub fn reopen(shared: &Shared, space: &mut SpaceMark, current: Revision) -> Result<Vec<(Revision, Record)>, ReopenError> {
    let mut files = shared.files.write();
    // The old ones must be gone: they write what they have buffered when they close.
    *files = None;
    if !closes(space.path()) {
        return Err(ReopenError::Busy);
    }
    space.begin_anew();
    let opened = open_files(space.path()).map_err(ReopenError::Open)?;
    let found = opened.records(current.next(), Revision(u64::MAX), usize::MAX).map_err(ReopenError::Read)?;
    if !found.is_empty() {
        write_again(&opened, &found).map_err(ReopenError::Write)?;
    }
    *files = Some(opened);
    Ok(found)
}

/// Waits until nothing in this process has a journal of the log open: the library's threads may let go of it last.
fn closes(path: &Path) -> bool {
    let is_journal = |target: &Path| target.starts_with(path) && target.extension().is_some_and(|extension| extension == "jnl");
    let is_open = || {
        let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        open.into_iter().any(|target| is_journal(&target))
    };
    let deadline = Instant::now() + CLOSING;
    while is_open() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// A failed fsync may have lost what the page cache still shows.
fn write_again(files: &Files, found: &[(Revision, Record)]) -> Result<(), fjall::Error> {
    let mut batch = files.database.batch().durability(Some(PersistMode::SyncData));
    for (revision, record) in found {
        batch.insert(&files.log, record_key(*revision), record.encode());
    }
    batch.commit()
}
