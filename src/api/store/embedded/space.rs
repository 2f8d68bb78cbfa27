//! The free-space mark: below it only deletions and compaction write.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// How often the disk is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Watches the free space of the file system that holds a directory.
pub struct SpaceMark {
    path: PathBuf,
    /// Bytes that must stay free.
    min_free: u64,
    checked: Option<Instant>,
    low: bool,
}

impl SpaceMark {
    pub fn new(path: PathBuf, min_free: u64) -> Self {
        SpaceMark { path, min_free, checked: None, low: false }
    }

    /// Whether less is free than must stay free; at most a second old.
    pub fn is_low(&mut self, now: Instant) -> bool {
        if self.checked.is_none_or(|checked| now.duration_since(checked) >= EVERY) {
            self.checked = Some(now);
            let low = self.free().is_some_and(|free| free < self.min_free);
            if low && !self.low {
                tracing::error!(path = %self.path.display(), min_free = self.min_free, "disk space is low, only deletions are accepted");
            }
            self.low = low;
        }
        self.low
    }

    fn free(&self) -> Option<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.path).ok()?;
        Some(stat.blocks_available() * stat.fragment_size())
    }
}
