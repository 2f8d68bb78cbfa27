//! Which files of a container's log to remove, to compress, and whether the current one gives way. Pure.

use jiff::Timestamp;

/// A log gives way to a new one beyond this size, in bytes (upstream's `containerLogMaxSize`).
pub const MAX_SIZE: u64 = 10 << 20;
/// Files kept for a container, the current one included (upstream's `containerLogMaxFiles`).
pub const MAX_FILES: usize = 5;

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
pub fn plan(current: &str, size: u64, names: &[String], now: Timestamp) -> Vec<Step> {
    let prefix = format!("{current}.");
    let (unfinished, mut rotated): (Vec<_>, Vec<_>) =
        names.iter().filter(|name| name.starts_with(&prefix)).partition(|name| name.ends_with(UNFINISHED));
    let mut steps: Vec<Step> = unfinished.into_iter().map(|name| Step::Remove(name.clone())).collect();
    if size <= MAX_SIZE {
        return steps;
    }
    // Their names end with the time, so the oldest comes first. The current log needs a place, too, and so does its successor.
    rotated.sort();
    let excess = rotated.len().saturating_sub(MAX_FILES - 2);
    steps.extend(rotated.drain(..excess).map(|name| Step::Remove(name.clone())));
    steps.extend(rotated.into_iter().filter(|name| !name.ends_with(COMPRESSED)).map(|name| Step::Compress(name.clone())));
    steps.push(Step::Rotate(format!("{prefix}{}", now.strftime("%Y%m%d-%H%M%S"))));
    steps
}

/// The name of a file once it is compressed, and while it is being.
pub fn compressed(name: &str) -> (String, String) {
    (format!("{name}{COMPRESSED}"), format!("{name}{UNFINISHED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-02-03T04:05:06Z".parse().expect("a time")
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_small_log_stays_and_unfinished_work_is_cleared_away() {
        assert_eq!(plan("0.log", MAX_SIZE, &names(&["0.log", "0.log.20260101-000000"]), now()), []);
        assert_eq!(plan("0.log", 1, &names(&["0.log", "0.log.x.tmp"]), now()), [Step::Remove("0.log.x.tmp".into())]);
    }

    #[test]
    fn a_large_log_gives_way_and_earlier_ones_are_compressed() {
        let there = names(&["0.log", "0.log.20260101-000000.gz", "0.log.20260102-000000", "1.log.20260102-000000"]);
        let wanted = [Step::Compress("0.log.20260102-000000".into()), Step::Rotate("0.log.20260203-040506".into())];
        assert_eq!(plan("0.log", MAX_SIZE + 1, &there, now()), wanted);
    }

    #[test]
    fn no_more_files_are_kept_than_allowed_and_the_oldest_go() {
        let there: Vec<String> = (1..=6).map(|day| format!("0.log.2026010{day}-000000.gz")).collect();
        let steps = plan("0.log", MAX_SIZE + 1, &there, now());
        let removed = steps.iter().filter(|step| matches!(step, Step::Remove(_))).count();
        assert_eq!(steps[0], Step::Remove("0.log.20260101-000000.gz".into()));
        // What stays, the one that is rotated now, and the new one.
        assert_eq!(there.len() - removed + 2, MAX_FILES);
    }
}
