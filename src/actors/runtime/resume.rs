//! Where a watch resumes after it ended, and how long it pauses before.

use std::time::Duration;

use troupe_api::{meta::Revision, resources::Resource, status::Status};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The pauses before a server that is not ours, which may fail for as long as it likes.
const FIRST_PAUSE_ELSEWHERE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE_ELSEWHERE: Duration = Duration::from_secs(300);

/// How far a watch came. It begins afresh until everything that exists has passed by once.
#[derive(Debug)]
pub struct Resume {
    revision: Option<Revision>,
    /// The revision when the last watch began.
    begun: Option<Revision>,
    pause: Duration,
    first: Duration,
    longest: Duration,
}

impl Default for Resume {
    fn default() -> Self {
        Resume::paused(FIRST_PAUSE, LONGEST_PAUSE)
    }
}

impl Resume {
    /// Of a watch of `resource`: one of an extension server pauses for longer, up to minutes.
    pub fn of(resource: &Resource) -> Self {
        if resource.is_elsewhere { Resume::paused(FIRST_PAUSE_ELSEWHERE, LONGEST_PAUSE_ELSEWHERE) } else { Resume::default() }
    }

    fn paused(first: Duration, longest: Duration) -> Self {
        Resume { revision: None, begun: None, pause: first, first, longest }
    }

    /// The revision after which changes are wanted; `None`: everything that exists comes first.
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// A change passed by. While everything that exists still comes, it is nothing to resume from.
    pub fn saw(&mut self, revision: Revision) {
        self.revision = self.revision.map(|seen| seen.max(revision));
    }

    /// All up to here has passed by.
    pub fn reached(&mut self, revision: Revision) {
        self.revision = Some(revision);
    }

    /// A watch ended: says how long to wait before the next one. A watch that brought nothing new doubles the pause, and a
    /// revision that the server no longer has is forgotten.
    pub fn ended(&mut self, outcome: &Result<(), Status>) -> Duration {
        if matches!(outcome, Err(status) if status.code == 410) {
            self.revision = None;
        }
        self.pause = if self.revision > self.begun { self.first } else { (self.pause * 2).min(self.longest) };
        self.begun = self.revision;
        self.pause
    }
}

/// Whether a watch of a resource as it was `known` still watches it as it is `now`: an extension server may come, go, or name another version.
pub fn still_follows(known: &Resource, now: &Resource) -> bool {
    known.is_elsewhere == now.is_elsewhere && (!now.is_elsewhere || known.metadata_version() == now.metadata_version())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_without_progress_pauses_ever_longer_up_to_a_bound() {
        let mut resume = Resume::default();
        let pauses: Vec<u128> = (0..9).map(|_| resume.ended(&Ok(())).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        resume.reached(Revision(7));
        assert_eq!(resume.ended(&Ok(())), FIRST_PAUSE);
        assert_eq!(resume.ended(&Ok(())), FIRST_PAUSE * 2, "progress counts once");
    }

    #[test]
    fn a_watch_of_an_extension_server_that_fails_pauses_for_minutes() {
        let rows = troupe_api::resources::builtin();
        let ours: &Resource = &rows[0];
        let elsewhere = Resource { is_elsewhere: true, ..ours.clone() };
        let longest = |resource: &Resource| {
            let mut resume = Resume::of(resource);
            (0..12).map(|_| resume.ended(&Err(Status::unavailable("lies")))).max()
        };
        assert_eq!((longest(ours), longest(&elsewhere)), (Some(LONGEST_PAUSE), Some(LONGEST_PAUSE_ELSEWHERE)));
    }

    #[test]
    fn a_watch_of_an_extension_server_ends_when_the_resource_is_ours_again() {
        let rows = troupe_api::resources::builtin();
        let ours: &Resource = &rows[0];
        let elsewhere = Resource { is_elsewhere: true, ..ours.clone() };
        assert!(still_follows(ours, ours) && still_follows(&elsewhere, &elsewhere));
        assert!(!still_follows(ours, &elsewhere) && !still_follows(&elsewhere, ours));
    }

    #[test]
    fn changes_are_resumed_from_only_after_everything_passed_by() {
        let mut resume = Resume::default();
        resume.saw(Revision(9));
        assert_eq!(resume.revision(), None);
        resume.reached(Revision(5));
        resume.saw(Revision(9));
        resume.saw(Revision(8));
        assert_eq!(resume.revision(), Some(Revision(9)));
    }

    #[test]
    fn a_revision_that_is_gone_is_forgotten() {
        let mut resume = Resume::default();
        resume.reached(Revision(5));
        resume.ended(&Err(Status::unavailable("restarting")));
        assert_eq!(resume.revision(), Some(Revision(5)));
        let pause = resume.ended(&Err(Status::expired("too old")));
        assert_eq!((resume.revision(), pause), (None, FIRST_PAUSE * 2));
        resume.reached(Revision(3));
        assert_eq!(resume.ended(&Ok(())), FIRST_PAUSE, "listing again is progress");
    }
}
