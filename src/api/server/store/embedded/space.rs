//! The marks of free space: below the first only deletions and compaction write, below the second nothing does.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// How often the disk is asked.
const EVERY: Duration = Duration::from_millis(100);
/// What the log may need at once to give disk back: it writes what is needed of a segment before it removes that.
const HOUSEKEEPING: u64 = 16 << 20;
/// Without this much, trying again is pointless.
const LEAST: u64 = 1 << 20;

/// How much room the disk has for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Plenty,
    /// Only deletions and compaction write.
    Low,
    /// Nothing writes.
    None,
}

/// Watches the free space of the file system that holds a directory.
pub struct SpaceMark {
    path: PathBuf,
    /// Bytes that must stay free.
    min_free: u64,
    checked: Option<Instant>,
    space: Space,
}

impl SpaceMark {
    pub fn new(path: PathBuf, min_free: u64) -> Self {
        SpaceMark { path, min_free, checked: None, space: Space::Plenty }
    }

    /// How much room there is; a moment old at most.
    pub fn look(&mut self, now: Instant) -> Space {
        if self.checked.is_none_or(|checked| now.saturating_duration_since(checked) >= EVERY) {
            self.checked = Some(now);
            let free = self.free().unwrap_or(u64::MAX);
            let space = judge(free, self.min_free);
            if space != self.space {
                let (path, min_free) = (self.path.display(), self.min_free);
                match space {
                    Space::Plenty => tracing::info!(%path, "the disk has space again"),
                    Space::Low => tracing::error!(%path, min_free, "disk space is low, only deletions are accepted"),
                    Space::None => tracing::error!(%path, min_free, "the disk is full, nothing is written"),
                }
            }
            self.space = space;
        }
        self.space
    }

    /// Whether there is room enough to try again after the disk was full.
    pub fn has_room(&self) -> bool {
        self.free().is_none_or(|free| free >= LEAST && judge(free, self.min_free) != Space::None)
    }

    /// All bytes of the file system.
    pub fn total(&self) -> Option<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.path).ok()?;
        Some(stat.blocks() * stat.fragment_size())
    }

    fn free(&self) -> Option<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.path).ok()?;
        Some(stat.blocks_available() * stat.fragment_size())
    }
}

fn judge(free: u64, min_free: u64) -> Space {
    if free < HOUSEKEEPING.min(min_free / 4) {
        Space::None
    } else if free < min_free {
        Space::Low
    } else {
        Space::Plenty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_have_room_when_other_writes_have_none_left() {
        const MIB: u64 = 1 << 20;
        let at = |free| judge(free * MIB, 64 * MIB);
        assert_eq!([at(64), at(63), at(16), at(15), at(0)], [Space::Plenty, Space::Low, Space::Low, Space::None, Space::None]);
        assert_eq!(judge(0, 0), Space::Plenty, "no mark, no judgement");
    }
}
