//! How long old versions stay before the store compacts itself, and how many bytes of them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use troupe_api::meta::Revision;

use super::space::Space;

/// Marks for the time that old versions stay: so much longer, in parts of it, may they stay.
const MARKS: u32 = 4;

/// What history may have of a disk where nothing else is said, and at most.
const SHARE: u64 = 10;
const MOST: u64 = 2 << 30;
/// It may always have so many segments, but only one while the disk is nearly full.
const SEGMENTS: u64 = 4;

/// How many bytes of the log may hold nothing but history.
#[derive(Clone, Copy, Debug)]
pub struct HistoryBound {
    bytes: u64,
    segment_bytes: u64,
}

impl HistoryBound {
    /// `chosen` bytes, or a share of a disk of `disk` bytes.
    pub fn new(chosen: Option<u64>, disk: Option<u64>, segment_bytes: u64) -> Self {
        let share = || disk.map_or(MOST, |disk| disk / SHARE).clamp(SEGMENTS * segment_bytes, MOST.max(SEGMENTS * segment_bytes));
        HistoryBound { bytes: chosen.unwrap_or_else(share), segment_bytes }
    }

    /// How many bytes of history must go, if there are too many: some more than that, so that it is not asked again soon.
    pub fn excess(&self, history: u64, space: Space) -> Option<u64> {
        let bound = if space == Space::Plenty { self.bytes } else { self.bytes.min(self.segment_bytes) };
        (history > bound).then(|| history - bound + bound / 4)
    }
}

/// Remembers which revision was current when.
pub struct Retention {
    keep: Duration,
    /// Oldest first.
    marks: VecDeque<(Instant, Revision)>,
}

impl Retention {
    /// Old versions stay for `keep`, counted from now.
    pub fn new(keep: Duration, now: Instant, current: Revision) -> Self {
        Retention { keep, marks: VecDeque::from([(now, current)]) }
    }

    /// The newest revision that is known to have been current so long ago; once.
    pub fn due(&mut self, now: Instant, current: Revision) -> Option<Revision> {
        let age = |marked: Instant| now.saturating_duration_since(marked);
        if self.marks.back().is_none_or(|(marked, _)| age(*marked) >= self.keep / MARKS) {
            self.marks.push_back((now, current));
        }
        let mut due = None;
        while self.marks.front().is_some_and(|(marked, _)| age(*marked) >= self.keep) {
            due = self.marks.pop_front();
        }
        due.map(|(_, revision)| revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_has_a_share_of_the_disk() {
        const MIB: u64 = 1 << 20;
        let bound = |chosen, disk: u64| HistoryBound::new(chosen, Some(disk * MIB), 8 * MIB);
        assert_eq!(bound(None, 1000).excess(100 * MIB, Space::Plenty), None);
        assert_eq!(bound(None, 1000).excess(101 * MIB, Space::Plenty), Some(26 * MIB));
        assert_eq!((bound(None, 10).bytes, bound(None, 1 << 20).bytes), (32 * MIB, 2048 * MIB));
        assert_eq!(bound(None, 1000).excess(12 * MIB, Space::Low), Some(6 * MIB), "a full disk is given back");
        assert_eq!(bound(Some(3), 1000).excess(4, Space::Plenty), Some(1));
    }

    #[test]
    fn versions_stay_as_long_as_asked_for_and_a_quarter_longer_at_most() {
        let begin = Instant::now();
        let mut retention = Retention::new(Duration::from_secs(300), begin, Revision(0));
        // The revision is the second in which it was written.
        for second in 0..2000_u64 {
            let due = retention.due(begin + Duration::from_secs(second), Revision(second));
            if let Some(Revision(due)) = due {
                assert!(due + 300 <= second, "{due} goes at {second}");
                assert_eq!(due % 75, 0);
                assert!(second < due + 376, "{due} goes at {second}");
            }
            assert_eq!(due.is_some(), second >= 300 && second % 75 == 0, "at {second}");
        }
    }
}
