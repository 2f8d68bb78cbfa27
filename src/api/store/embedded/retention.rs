//! How long old versions stay before the store compacts itself.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::meta::Revision;

/// Marks for the time that old versions stay: so much longer, in parts of it, may they stay.
const MARKS: u32 = 4;

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
