//! How far a cache is behind its source, as time. Pure.
//!
//! The lag of a cache is the time since a change was first known to lie at its source that the cache does not show yet. It is zero while the
//! cache shows everything that is known to be there, however long nothing changes. A cache that comes along, but late, lags by the time since
//! the newest change that was known when it had last caught up with what it lacked. A source that says nothing makes nothing late.

use std::time::{Duration, Instant};

use troupe_api::meta::Revision;

/// A lag of this length is complained of, once until the cache has caught up.
pub const LATE: Duration = Duration::from_secs(1);
/// A watch that lags by this much, and brought nothing for as long, is stuck. What is known a second after it happened, and looked at every
/// second, is acted upon well within ten.
pub const STUCK: Duration = Duration::from_secs(4);

/// What a look at a cache finds.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// Up to here the cache shows everything.
    pub shown: Revision,
    /// The newest change that is known to lie at the source.
    pub newest: Revision,
    /// Another number whenever the watch brought something.
    pub heard: u64,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Fine,
    /// A person should know.
    Late,
    /// The watch must be replaced.
    Stuck,
}

/// The time since a cache has lacked something.
#[derive(Clone, Debug)]
struct Episode {
    lacks: Revision,
    since: Instant,
    heard: u64,
    silent_since: Instant,
    is_told: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    episode: Option<Episode>,
    episodes: u64,
    replaced: u64,
}

impl Lag {
    /// Looks at the cache, every second or so.
    pub fn look(&mut self, sight: Sight, now: Instant) -> Finding {
        if sight.shown >= sight.newest {
            self.episode = None;
            return Finding::Fine;
        }
        let begins = || Episode { lacks: sight.newest, since: now, heard: sight.heard, silent_since: now, is_told: false };
        let episode = self.episode.get_or_insert_with(begins);
        if sight.shown >= episode.lacks {
            (episode.lacks, episode.since) = (sight.newest, now);
        }
        if sight.heard != episode.heard {
            (episode.heard, episode.silent_since) = (sight.heard, now);
        }
        let behind = now.saturating_duration_since(episode.since);
        if behind >= LATE && !episode.is_told {
            episode.is_told = true;
            self.episodes += 1;
            return Finding::Late;
        }
        if behind >= STUCK && now.saturating_duration_since(episode.silent_since) >= STUCK {
            // The next watch has as long.
            episode.silent_since = now;
            self.replaced += 1;
            return Finding::Stuck;
        }
        Finding::Fine
    }

    /// How far the cache is behind, as of the last look.
    pub fn behind(&self, now: Instant) -> Duration {
        self.episode.as_ref().map_or(Duration::ZERO, |episode| now.saturating_duration_since(episode.since))
    }

    /// How often the cache was late.
    pub fn episodes(&self) -> u64 {
        self.episodes
    }

    /// How often its watch was replaced.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(shown: u64, newest: u64) -> Sight {
        Sight { shown: Revision(shown), newest: Revision(newest), heard: shown }
    }

    /// Looks every half second at what a cache shows then; what was found, by the half second.
    fn looks(lag: &mut Lag, start: Instant, sights: impl IntoIterator<Item = Sight>) -> Vec<(u32, Finding)> {
        let half = Duration::from_millis(500);
        let found = (0..).zip(sights).map(|(at, sight)| (at, lag.look(sight, start + half * at)));
        found.filter(|(_, finding)| *finding != Finding::Fine).collect()
    }

    #[test]
    fn a_cache_that_stands_still_is_late_after_a_second_and_stuck_after_four() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        let found = looks(&mut lag, start, [sight(7, 8); 18]);
        assert_eq!(found, [(2, Finding::Late), (8, Finding::Stuck), (16, Finding::Stuck)], "told once, and replaced again and again");
        assert_eq!(lag.behind(start + Duration::from_secs(9)), Duration::from_secs(9));
        assert_eq!((lag.episodes(), lag.replaced()), (1, 2));
    }

    #[test]
    fn a_cache_that_shows_what_there_is_never_complains() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        assert!(looks(&mut lag, start, [sight(7, 7); 100]).is_empty());
        assert!(looks(&mut lag, start, [sight(9, 7); 100]).is_empty(), "what is newer than what is known of is no lag");
        assert_eq!(lag.behind(start + Duration::from_secs(60)), Duration::ZERO);
    }

    #[test]
    fn a_cache_that_lacks_what_comes_at_once_is_not_late_though_it_always_lacks_something() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        assert!(looks(&mut lag, start, (1..200).map(|at| sight(at, at + 1))).is_empty());
        assert!(lag.behind(start + Duration::from_secs(99)) <= Duration::from_millis(500));
    }

    #[test]
    fn a_cache_that_comes_along_late_is_told_of_once_and_keeps_its_watch() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        let found = looks(&mut lag, start, (100..200).map(|at| sight(at - 6, at)));
        assert_eq!(found, [(2, Finding::Late)]);
        assert!(lag.behind(start + Duration::from_millis(49_500)) <= Duration::from_secs(3));
        assert_eq!(looks(&mut lag, start + Duration::from_secs(50), [sight(200, 200), sight(200, 201), sight(200, 201), sight(200, 201)]).len(), 1);
        assert_eq!(lag.episodes(), 2, "it had caught up");
    }

    #[test]
    fn a_watch_that_brings_a_long_list_is_not_stuck_though_it_shows_nothing_new() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        let found = looks(&mut lag, start, (0..60).map(|heard| Sight { heard, ..sight(7, 8) }));
        assert_eq!(found, [(2, Finding::Late)]);
    }
}
