//! Which files of a container's log to remove, to compress, and whether the current one gives way. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// How much of their logs containers keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPolicy {
    /// A log gives way to a new one beyond this size, in bytes (upstream's `containerLogMaxSize`).
    pub max_size: u64,
    /// Files kept for a container, the current one included; two at least (upstream's `containerLogMaxFiles`).
    pub max_files: usize,
    /// How often sizes are looked at (upstream's `containerLogMonitorInterval`).
    pub period: Duration,
}

impl Default for LogPolicy {
    /// Upstream's.
    fn default() -> Self {
        LogPolicy { max_size: 10 << 20, max_files: 5, period: Duration::from_secs(10) }
    }
}

impl LogPolicy {
    /// The bytes of all that a container keeps.
    pub fn whole(&self) -> u64 {
        self.max_size.saturating_mul(u64::try_from(self.max_files).unwrap_or(u64::MAX))
    }
}

/// A log that grew to so many times its size until it was looked at is written fast.
const FAST: u64 = 2;
/// And how often those of logs that are written fast.
pub const SOONEST: Duration = Duration::from_millis(100);
/// A container goes when so many looks in a row found its log larger than all of its files may be.
pub const STRIKES: u32 = 3;

const COMPRESSED: &str = ".gz";
const UNFINISHED: &str = ".tmp";

/// One step, on names in the log's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Remove(String),
    /// Into a file with `.gz` added.
    Compress(String),
    /// Renames the current log to this, and lets the runtime open a new one.
    Rotate(String),
}

/// Plans for the log `current`, such as `0.log`, of `size` bytes, beside files called `names`.
pub fn plan(policy: &LogPolicy, current: &str, size: u64, names: &[String], now: Timestamp) -> Vec<Step> {
    let prefix = format!("{current}.");
    let (unfinished, mut rotated): (Vec<_>, Vec<_>) =
        names.iter().filter(|name| name.starts_with(&prefix)).partition(|name| name.ends_with(UNFINISHED));
    let mut steps: Vec<Step> = unfinished.into_iter().map(|name| Step::Remove(name.clone())).collect();
    if size <= policy.max_size {
        return steps;
    }
    // Their names end with the time, so the oldest comes first. The current log needs a place, too, and so does its successor.
    rotated.sort();
    let excess = rotated.len().saturating_sub(policy.max_files.saturating_sub(2));
    steps.extend(rotated.drain(..excess).map(|name| Step::Remove(name.clone())));
    // Compressing takes longer than a fast writer needs for the next file.
    if size <= policy.max_size.saturating_mul(FAST) {
        steps.extend(rotated.into_iter().filter(|name| !name.ends_with(COMPRESSED)).map(|name| Step::Compress(name.clone())));
    }
    steps.push(Step::Rotate(free_name(&prefix, names, now)));
    steps
}

/// The time, to the second where that is not taken yet.
fn free_name(prefix: &str, names: &[String], now: Timestamp) -> String {
    let name = format!("{prefix}{}", now.strftime("%Y%m%d-%H%M%S"));
    if names.iter().any(|taken| taken.starts_with(&name)) { format!("{name}-{}", now.strftime("%3f")) } else { name }
}

/// When a log that grew from one size to another within some time is to be looked at again: about when it is full.
pub fn next_look(policy: &LogPolicy, before: u64, size: u64, within: Duration) -> Duration {
    // It was rotated meanwhile: all of it is new.
    let grown = size.checked_sub(before).unwrap_or(size);
    let room = policy.max_size.saturating_sub(size).max(policy.max_size / 2);
    let rate = grown as f64 / within.as_secs_f64().max(1e-3);
    let period = policy.period.max(SOONEST);
    if grown == 0 { period } else { Duration::try_from_secs_f64(room as f64 / rate).unwrap_or(period).clamp(SOONEST, period) }
}

/// How often in a row a log was found to outgrow all that its container may have; `STRIKES` of it are too many.
pub fn strikes(policy: &LogPolicy, before: u32, size: u64) -> u32 {
    if size > policy.whole() { before + 1 } else { 0 }
}

/// The name of a file once it is compressed, and while it is being.
pub fn compressed(name: &str) -> (String, String) {
    (format!("{name}{COMPRESSED}"), format!("{name}{UNFINISHED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_SIZE: u64 = 10 << 20;
    const PERIOD: Duration = Duration::from_secs(10);

    fn usual() -> LogPolicy {
        LogPolicy::default()
    }

    fn now() -> Timestamp {
        "2026-02-03T04:05:06Z".parse().expect("a time")
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_small_log_stays_and_unfinished_work_is_cleared_away() {
        assert_eq!(plan(&usual(), "0.log", MAX_SIZE, &names(&["0.log", "0.log.20260101-000000"]), now()), []);
        assert_eq!(plan(&usual(), "0.log", 1, &names(&["0.log", "0.log.x.tmp"]), now()), [Step::Remove("0.log.x.tmp".into())]);
    }

    #[test]
    fn a_large_log_gives_way_and_earlier_ones_are_compressed() {
        let there = names(&["0.log", "0.log.20260101-000000.gz", "0.log.20260102-000000", "1.log.20260102-000000"]);
        let wanted = [Step::Compress("0.log.20260102-000000".into()), Step::Rotate("0.log.20260203-040506".into())];
        assert_eq!(plan(&usual(), "0.log", MAX_SIZE + 1, &there, now()), wanted);
    }

    #[test]
    fn a_log_that_is_written_fast_gives_way_at_once_and_under_a_name_of_its_own() {
        let there = names(&["0.log", "0.log.20260203-040506", "0.log.20260203-040506-123"]);
        let at = "2026-02-03T04:05:06.456Z".parse().expect("a time");
        assert_eq!(plan(&usual(), "0.log", FAST * MAX_SIZE + 1, &there, at), [Step::Rotate("0.log.20260203-040506-456".into())]);
    }

    #[test]
    fn a_log_is_looked_at_again_about_when_it_is_full() {
        assert_eq!(next_look(&usual(), 5, 5, PERIOD), PERIOD, "nobody writes");
        assert_eq!(next_look(&usual(), 0, 1 << 10, PERIOD), PERIOD, "it takes hours");
        assert_eq!(next_look(&usual(), 0, 5 << 20, PERIOD), PERIOD);
        assert_eq!(next_look(&usual(), 0, 100 << 20, PERIOD), Duration::from_millis(500), "10 MiB/s, and it was just rotated");
        assert_eq!(next_look(&usual(), 50 << 20, 20 << 20, Duration::from_millis(200)), SOONEST, "100 MiB/s since it was rotated");
    }

    #[test]
    fn only_a_log_that_stays_ahead_of_rotation_ends_its_container() {
        let sizes = [60 << 20, 40 << 20, 60 << 20, 60 << 20];
        let counted: Vec<u32> = sizes
            .iter()
            .scan(0, |before, size| {
                *before = strikes(&usual(), *before, *size);
                Some(*before)
            })
            .collect();
        assert_eq!(counted, [1, 0, 1, 2]);
        assert_eq!(strikes(&usual(), 2, 60 << 20), STRIKES);
    }

    #[test]
    fn no_more_files_are_kept_than_allowed_and_the_oldest_go() {
        let there: Vec<String> = (1..=6).map(|day| format!("0.log.2026010{day}-000000.gz")).collect();
        let steps = plan(&usual(), "0.log", MAX_SIZE + 1, &there, now());
        let removed = steps.iter().filter(|step| matches!(step, Step::Remove(_))).count();
        assert_eq!(steps[0], Step::Remove("0.log.20260101-000000.gz".into()));
        // What stays, the one that is rotated now, and the new one.
        assert_eq!(there.len() - removed + 2, usual().max_files);
    }

    #[test]
    fn a_policy_of_smaller_logs_keeps_less() {
        let small = LogPolicy { max_size: 1000, max_files: 2, period: Duration::from_secs(3) };
        let there = names(&["0.log", "0.log.20260101-000000.gz"]);
        assert_eq!(plan(&small, "0.log", 1000, &there, now()), []);
        let steps = plan(&small, "0.log", 1001, &there, now());
        assert_eq!(steps, [Step::Remove("0.log.20260101-000000.gz".into()), Step::Rotate("0.log.20260203-040506".into())]);
        assert_eq!((strikes(&small, 0, 2000), strikes(&small, 0, 2001), next_look(&small, 5, 5, PERIOD)), (0, 1, small.period));
    }
}
