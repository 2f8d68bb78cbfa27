//! Recent changes of one resource, from which watches resume.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use troupe_api::{
    meta::{Cause, Revision},
    stored::StoredObject,
};

/// One change: what the object was before and is now. At least one of the two is there.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: Revision,
    pub previous: Option<Arc<StoredObject>>,
    pub current: Option<Arc<StoredObject>>,
    pub cause: Cause,
}

impl Change {
    fn bytes(&self) -> usize {
        const OVERHEAD: usize = 256;
        // The current version is shared with the snapshot; what history costs is the version it keeps alive.
        OVERHEAD + self.previous.as_ref().map_or(0, |object| object.encoded().len())
    }
}

/// Changes in revision order, at least five minutes of them unless they exceed the byte budget.
#[derive(Debug)]
pub struct History {
    changes: VecDeque<(Instant, Change)>,
    /// Changes behind this revision are all here.
    complete_after: Revision,
    bytes: usize,
    max_bytes: usize,
    keep: Duration,
}

impl History {
    pub fn new(complete_after: Revision, max_bytes: usize, keep: Duration) -> Self {
        History { changes: VecDeque::new(), complete_after, bytes: 0, max_bytes, keep }
    }

    pub fn push(&mut self, change: Change, now: Instant) {
        self.bytes += change.bytes();
        self.changes.push_back((now, change));
        while let Some((since, oldest)) = self.changes.front() {
            if self.bytes <= self.max_bytes && now.saturating_duration_since(*since) <= self.keep {
                break;
            }
            self.bytes -= oldest.bytes();
            self.complete_after = oldest.revision;
            self.changes.pop_front();
        }
    }

    /// The oldest revision that a watch can resume from.
    pub fn complete_after(&self) -> Revision {
        self.complete_after
    }

    /// All changes behind `revision`, or `None` if some of them are forgotten.
    pub fn after(&self, revision: Revision) -> Option<impl Iterator<Item = &Change>> {
        if revision < self.complete_after {
            return None;
        }
        let from = self.changes.partition_point(|(_, change)| change.revision <= revision);
        Some(self.changes.range(from..).map(|(_, change)| change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64) -> Change {
        Change { revision: Revision(revision), previous: None, current: None, cause: Cause::default() }
    }

    #[test]
    fn a_watch_resumes_inside_the_history_and_not_before_it() {
        let mut history = History::new(Revision(10), 1 << 20, Duration::from_secs(300));
        let start = Instant::now();
        history.push(change(12), start);
        history.push(change(15), start + Duration::from_secs(200));
        let after = |history: &History, revision| history.after(Revision(revision)).map(|changes| changes.map(|c| c.revision.0).collect::<Vec<_>>());
        assert_eq!(after(&history, 10), Some(vec![12, 15]));
        assert_eq!(after(&history, 12), Some(vec![15]));
        assert_eq!(after(&history, 9), None);
        history.push(change(16), start + Duration::from_secs(301));
        assert_eq!(after(&history, 10), None, "the change at 12 is older than five minutes");
        assert_eq!(after(&history, 12), Some(vec![15, 16]));
    }

    #[test]
    fn the_byte_budget_cuts_the_oldest_changes() {
        let mut history = History::new(Revision(0), 600, Duration::from_secs(300));
        for revision in 1..=5 {
            history.push(change(revision), Instant::now());
        }
        assert_eq!(history.complete_after(), Revision(3));
    }
}
