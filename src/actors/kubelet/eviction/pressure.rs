//! How long pressure counts, and when disks are looked at next: pure, by readings and a clock from outside.

use std::time::{Duration, Instant};

use super::{
    signals::{Met, Readings, Resource, Threshold},
    tracker::{Condition, Tracker},
};

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
    tracker: Tracker,
    last: Option<(Readings, Instant)>,
    /// Bytes a second by which the fuller disk fills.
    rate: f64,
}

/// What follows from a look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// What is short, hard thresholds first.
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
    /// By those of the thresholds that are about disks.
    pub fn new(thresholds: &[Threshold], transition: Duration) -> Self {
        let of_disks = thresholds.iter().filter(|threshold| threshold.signal.is_of_disks()).copied().collect();
        Monitor { tracker: Tracker::new(of_disks, transition), last: None, rate: 0.0 }
    }

    /// Takes a look in.
    pub fn look(&mut self, readings: Readings, now: Instant) -> Outlook {
        let taken = self.last.map_or(0, |(before, _)| taken(&before, &readings));
        if let Some((_, at)) = self.last {
            let seconds = now.saturating_duration_since(at).as_secs_f64().max(1e-3);
            self.rate = taken as f64 / seconds;
        }
        self.last = Some((readings, now));
        let verdict = self.tracker.look(|signal| readings.observe(signal), now);
        let (met, pressure) = (verdict.met, verdict.conditions.contains(&Condition::Disk));
        let hard = met.iter().filter(|met| met.hard && met.signal.resource() == Resource::Storage);
        let urgent = hard.map(|met| lasts(met.available, self.rate)).min().is_some_and(|left| left < AT_ONCE);
        Outlook { next: self.next(&readings), met, pressure, urgent, taken }
    }

    /// The disk must not pass a hard threshold unseen, nor be filled from there.
    fn next(&self, readings: &Readings) -> Duration {
        let hard = self.tracker.thresholds().iter().filter(|threshold| threshold.is_hard() && threshold.signal.resource() == Resource::Storage);
        let seen = hard.filter_map(|threshold| readings.observe(threshold.signal).map(|seen| (threshold.least.of(seen.capacity), seen.available)));
        let room = seen.map(|(least, available)| if available > least { available - least } else { available / 2 });
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
    use crate::kubelet::eviction::{
        settings::EvictionSettings,
        signals::{Amount, Reading, Signal},
    };

    const GB: u64 = 1_000_000_000;

    fn readings(available: u64) -> Readings {
        let disk = Reading { device: 1, size: 10 * GB, available, inodes: 0, inodes_free: 0 };
        Readings { node: disk, images: disk }
    }

    fn monitor() -> Monitor {
        Monitor::new(&EvictionSettings::default().thresholds().expect("upstream's"), Duration::from_secs(300))
    }

    #[test]
    fn pods_go_below_upstreams_marks() {
        let reading = |device, available, inodes_free| Reading { device, size: 1000, available, inodes: 1000, inodes_free };
        let met = |node, images| {
            let met = monitor().look(Readings { node, images }, Instant::now()).met;
            met.iter().map(|met| met.signal.name()).collect::<Vec<_>>()
        };
        assert_eq!(met(reading(1, 100, 50), reading(2, 150, 50)), Vec::<&str>::new());
        assert_eq!(met(reading(1, 99, 50), reading(2, 150, 50)), ["nodefs.available"]);
        assert_eq!(met(reading(1, 100, 49), reading(2, 149, 49)), ["nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"]);
        // A file system without a fixed number of inodes is never short of them.
        assert_eq!(met(Reading { inodes: 0, ..reading(1, 100, 0) }, reading(2, 150, 50)), Vec::<&str>::new());
    }

    #[test]
    fn a_soft_threshold_tells_of_pressure_at_once_and_never_hurries() {
        let soft = Threshold { grace: Duration::from_secs(10), ..Threshold::hard(Signal::NodefsAvailable, Amount::Percent(50.0)) };
        let (mut monitor, start) = (Monitor::new(&[soft], Duration::ZERO), Instant::now());
        let first = monitor.look(readings(4 * GB), start);
        assert_eq!((first.pressure, first.met.len(), first.next), (true, 0, LOOK));
        let later = monitor.look(readings(GB / 10), start + Duration::from_secs(10));
        assert_eq!((later.pressure, later.met.first().map(|met| met.hard), later.urgent), (true, Some(false), false));
        assert!(!monitor.look(readings(6 * GB), start + Duration::from_secs(11)).pressure);
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
