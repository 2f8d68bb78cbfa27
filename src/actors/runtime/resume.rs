//! Where a watch resumes after it ended, and how long it pauses before.

use std::time::Duration;

use tokio::time::Instant;
use troupe_api::{meta::Revision, resources::Resource, status::Status};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// While the server is not there. It may be in a moment, and all watches of a process try to connect together.
const LONGEST_ABSENCE: Duration = Duration::from_secs(1);
/// The pauses before a server that is not ours, which may fail for as long as it likes.
const FIRST_PAUSE_ELSEWHERE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE_ELSEWHERE: Duration = Duration::from_secs(300);
/// A watch that went on for so long was not refused, also if nothing happened: what comes after it must not wait for the next one.
const STEADY: Duration = Duration::from_secs(2);
const STEADY_ELSEWHERE: Duration = Duration::from_secs(60);

/// How far a watch came. It begins afresh until everything that exists has passed by once.
#[derive(Debug)]
pub struct Resume {
    revision: Option<Revision>,
    /// The revision when the last watch began.
    begun: Option<Revision>,
    /// When the server let the watch under way begin.
    since: Option<Instant>,
    pause: Duration,
    pauses: Pauses,
}

/// How long to wait between watches.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    first: Duration,
    longest: Duration,
    /// The longest while the server is not there (503).
    absence: Duration,
    /// After a watch of this length comes the first pause again.
    steady: Duration,
}

const OURS: Pauses = Pauses { first: FIRST_PAUSE, longest: LONGEST_PAUSE, absence: LONGEST_ABSENCE, steady: STEADY };
const ELSEWHERE: Pauses =
    Pauses { first: FIRST_PAUSE_ELSEWHERE, longest: LONGEST_PAUSE_ELSEWHERE, absence: LONGEST_PAUSE_ELSEWHERE, steady: STEADY_ELSEWHERE };

impl Default for Resume {
    fn default() -> Self {
        Resume::paused(OURS)
    }
}

impl Resume {
    /// Of a watch of `resource`: one of an extension server pauses for longer, up to minutes.
    pub fn of(resource: &Resource) -> Self {
        Resume::paused(if resource.is_elsewhere { ELSEWHERE } else { OURS })
    }

    fn paused(pauses: Pauses) -> Self {
        Resume { revision: None, begun: None, since: None, pause: pauses.first, pauses }
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

    /// The server let a watch begin.
    pub fn begins(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// A watch ended, or did not begin: says how long to wait before the next one. One that brought nothing new and did not go on for long
    /// doubles the pause. A revision that the server no longer has is forgotten, and then everything is looked at again without delay.
    pub fn ended(&mut self, outcome: &Result<(), Status>, now: Instant) -> Duration {
        let went_on = self.since.take().is_some_and(|since| now.saturating_duration_since(since) >= self.pauses.steady);
        let is_gone = matches!(outcome, Err(status) if status.code == 410);
        let was_far = self.revision.is_some();
        if is_gone {
            self.revision = None;
        }
        let serves = self.revision > self.begun || was_far && (went_on || is_gone);
        let longest = if matches!(outcome, Err(status) if status.code == 503) { self.pauses.absence } else { self.pauses.longest };
        self.pause = if serves { self.pauses.first } else { (self.pause * 2).min(longest) };
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
        let now = Instant::now();
        let pauses: Vec<u128> = (0..9).map(|_| resume.ended(&Ok(()), now).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        resume.reached(Revision(7));
        assert_eq!(resume.ended(&Ok(()), now), FIRST_PAUSE);
        assert_eq!(resume.ended(&Ok(()), now), FIRST_PAUSE * 2, "progress counts once");
    }

    /// The pauses after so many watches of some length.
    fn after_watches(resume: &mut Resume, length: Duration, watches: u32) -> Vec<Duration> {
        let begun = Instant::now();
        let pauses = (0..watches).map(|_| {
            resume.begins(begun);
            resume.ended(&Ok(()), begun + length)
        });
        pauses.collect()
    }

    #[test]
    fn a_watch_that_went_on_is_followed_by_the_next_at_once_though_it_brought_nothing() {
        let mut resume = Resume::default();
        assert_eq!(after_watches(&mut resume, STEADY, 3), [2, 4, 8].map(|times| FIRST_PAUSE * times), "what there is never came");
        resume.reached(Revision(7));
        assert_eq!(after_watches(&mut resume, STEADY, 3), [FIRST_PAUSE; 3]);
        let quick = after_watches(&mut resume, STEADY / 2, 2);
        assert_eq!(quick, [FIRST_PAUSE * 2, FIRST_PAUSE * 4], "a server that ends them at once is not asked without end");
        let now = Instant::now();
        let refused = Err(Status::unavailable("restarting"));
        assert_eq!(resume.ended(&refused, now + STEADY * 2), FIRST_PAUSE * 8, "the time without a watch does not count");
        assert_eq!(after_watches(&mut resume, STEADY, 1), [FIRST_PAUSE]);
    }

    #[test]
    fn a_watch_of_an_extension_server_that_fails_pauses_for_minutes() {
        let rows = troupe_api::resources::builtin();
        let ours: &Resource = &rows[0];
        let elsewhere = Resource { is_elsewhere: true, ..ours.clone() };
        let longest = |resource: &Resource, status: Status| {
            let mut resume = Resume::of(resource);
            let outcome = Err(status);
            (0..12).map(|_| resume.ended(&outcome, Instant::now())).max()
        };
        let both = |status: Status| (longest(ours, status.clone()), longest(&elsewhere, status));
        assert_eq!(both(Status::internal("lies")), (Some(LONGEST_PAUSE), Some(LONGEST_PAUSE_ELSEWHERE)));
        let absent = both(Status::unavailable("restarting"));
        assert_eq!(absent, (Some(LONGEST_ABSENCE), Some(LONGEST_PAUSE_ELSEWHERE)), "ours is there again soon, and missed at once");
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
        let now = Instant::now();
        for _ in 0..5 {
            resume.ended(&Err(Status::unavailable("restarting")), now);
        }
        assert_eq!(resume.revision(), Some(Revision(5)));
        let gone = Err(Status::expired("too old"));
        let pause = resume.ended(&gone, now);
        assert_eq!((resume.revision(), pause), (None, FIRST_PAUSE), "the server is there again");
        assert_eq!(resume.ended(&gone, now), FIRST_PAUSE * 2, "and does not know what it wants");
        resume.reached(Revision(3));
        assert_eq!(resume.ended(&Ok(()), now), FIRST_PAUSE, "listing again is progress");
    }
}
