//! How long pressure counts, and when disks are looked at next: pure, by readings and a clock from outside.

use std::time::{Duration, Instant};

use super::signals::{Met, Readings, Resource, Threshold, met, observe};

/// Disks are looked at so often while there is much room.
pub const LOOK: Duration = Duration::from_secs(1);
/// And never more often than that.
const SOONEST: Duration = Duration::from_millis(25);
/// So many bytes a second a writer is trusted to reach from one look to the next, unless more was seen.
const FASTEST: f64 = 2e9;
/// When a disk will be full so soon, nothing is waited for.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What is known of the disks.
#[derive(Clone, Debug)]
pub struct Monitor {
    thresholds: Vec<Threshold>,
    /// Pressure counts for so long after a threshold was met last (upstream's `evictionPressureTransitionPeriod`).
    transition: Duration,
    last: Option<(Readings, Instant)>,
    met_at: Option<Instant>,
    /// Bytes a second by which the fuller disk fills.
    rate: f64,
}

/// What follows from a look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// What is short.
    pub met: Vec<Met>,
    /// Whether the node tells of pressure.
    pub pressure: bool,
    /// A disk below its threshold goes on filling, and will be full before long.
    pub urgent: bool,
    /// Bytes that were taken since the look before.
    pub taken: u64,
    /// When to look again.
    pub next: Duration,
}

impl Monitor {
    pub fn new(thresholds: Vec<Threshold>, transition: Duration) -> Self {
        Monitor { thresholds, transition, last: None, met_at: None, rate: 0.0 }
    }

    /// Takes a look in.
    pub fn look(&mut self, readings: Readings, now: Instant) -> Outlook {
        let taken = self.last.map_or(0, |(before, _)| taken(&before, &readings));
        if let Some((_, at)) = self.last {
            let seconds = now.saturating_duration_since(at).as_secs_f64().max(1e-3);
            self.rate = taken as f64 / seconds;
        }
        self.last = Some((readings, now));
        let met = met(&self.thresholds, &readings);
        if !met.is_empty() {
            self.met_at = Some(now);
        }
        let pressure = !met.is_empty() || self.met_at.is_some_and(|at| now.saturating_duration_since(at) < self.transition);
        let full_in = met.iter().filter(|met| met.signal.resource() == Resource::Storage).map(|met| lasts(met.available, self.rate)).min();
        let urgent = full_in.is_some_and(|left| left < AT_ONCE);
        Outlook { next: self.next(&readings), met, pressure, urgent, taken }
    }

    /// The disk must not pass its threshold unseen, nor be filled from there.
    fn next(&self, readings: &Readings) -> Duration {
        let storage = self.thresholds.iter().filter(|threshold| threshold.signal.resource() == Resource::Storage);
        let seen = storage.filter_map(|threshold| observe(threshold, readings));
        let room = seen.map(|seen| if seen.available > seen.threshold { seen.available - seen.threshold } else { seen.available / 2 });
        let rate = FASTEST.max(self.rate * 2.0);
        room.map(|room| lasts(room, rate)).min().unwrap_or(LOOK).clamp(SOONEST, LOOK)
    }
}

/// The bytes that were taken of whichever disk gave more.
fn taken(before: &Readings, now: &Readings) -> u64 {
    let of = |before: u64, now: u64| before.saturating_sub(now);
    of(before.node.available, now.node.available).max(of(before.images.available, now.images.available))
}

/// How long so many bytes last.
fn lasts(bytes: u64, rate: f64) -> Duration {
    if rate <= 0.0 { Duration::MAX } else { Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::eviction::signals::{Reading, defaults};

    const GB: u64 = 1_000_000_000;

    fn readings(available: u64) -> Readings {
        let disk = Reading { device: 1, size: 10 * GB, available, inodes: 0, inodes_free: 0 };
        Readings { node: disk, images: disk }
    }

    fn monitor() -> Monitor {
        Monitor::new(defaults(), Duration::from_secs(300))
    }

    #[test]
    fn pressure_outlasts_its_cause_by_the_transition_period() {
        let (mut monitor, start) = (monitor(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        assert!(!monitor.look(readings(2 * GB), at(0)).pressure);
        let short = monitor.look(readings(GB / 2), at(1));
        assert!(short.pressure && short.met.len() == 2, "{short:?}");
        let later = monitor.look(readings(8 * GB), at(2));
        assert!(later.pressure && later.met.is_empty() && !later.urgent);
        assert!(monitor.look(readings(8 * GB), at(300)).pressure);
        assert!(!monitor.look(readings(8 * GB), at(302)).pressure);
    }

    #[test]
    fn the_less_room_is_left_the_sooner_is_the_next_look() {
        let (start, next) = (Instant::now(), |free| monitor().look(readings(free), Instant::now()).next);
        assert_eq!(next(9 * GB), LOOK);
        // A writer of 2 GB/s reaches the threshold, 1.5 GB, just then.
        assert_eq!(next(5 * GB / 2), Duration::from_millis(500));
        assert_eq!(next(GB * 3 / 2 + 1), SOONEST);
        // Below it, half of what is left is kept for others.
        assert_eq!(next(GB), Duration::from_millis(250));
        let mut faster = monitor();
        faster.look(readings(9 * GB), start);
        let outlook = faster.look(readings(4 * GB), start + LOOK);
        assert_eq!(outlook.next, Duration::from_millis(250), "it writes 5 GB/s");
        assert_eq!(outlook.taken, 5 * GB);
    }

    #[test]
    fn a_disk_that_goes_on_filling_below_its_threshold_is_urgent() {
        let (mut monitor, start) = (monitor(), Instant::now());
        monitor.look(readings(9 * GB / 10), start);
        let slow = monitor.look(readings(9 * GB / 10 - 1_000_000), start + LOOK);
        assert!(!slow.urgent && slow.pressure);
        assert!(monitor.look(readings(6 * GB / 10), start + LOOK * 2).urgent);
        assert!(!monitor.look(readings(6 * GB / 10), start + LOOK * 3).urgent, "nobody writes any more");
    }
}
