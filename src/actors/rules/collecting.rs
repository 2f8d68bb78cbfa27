//! How long a table waits for more reports before it applies those that it has. Pure.

use std::time::{Duration, Instant};

/// How long reports are collected while transactions follow each other.
pub const COALESCE: Duration = Duration::from_millis(3);
/// The same after a while without: the executor's clock counts milliseconds, so what is reported in the same one goes in together.
const LEAD: Duration = Duration::from_micros(100);
/// Such a while.
const QUIET: Duration = Duration::from_millis(20);

/// How long more reports are waited for behind the first, which may be of sets alone: hardly where nothing has changed for a while. What comes a
/// little later goes in with the second transaction then, at once behind the first.
pub fn collecting(applied_at: Option<Instant>, now: Instant, is_sets: bool) -> Duration {
    let is_quiet = applied_at.is_some_and(|at| now.saturating_duration_since(at) >= QUIET);
    match (is_quiet, is_sets) {
        (false, _) => COALESCE,
        (true, false) => LEAD,
        (true, true) => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_change_waits_for_no_others_and_those_of_a_burst_for_each_other() {
        let begun = Instant::now();
        let after = |millis| begun + Duration::from_millis(millis);
        assert_eq!(collecting(None, after(0), true), COALESCE, "at the start all report");
        assert_eq!(collecting(Some(after(0)), after(2), true), COALESCE);
        assert_eq!(collecting(Some(after(0)), after(20), false), LEAD);
        assert_eq!(collecting(Some(after(0)), after(20), true), Duration::ZERO, "rules may be on their way behind them");
    }
}
