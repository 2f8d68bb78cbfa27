//! Time as the API writes it, and the clock that units are handed.

use std::{
    fmt,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use super::rfc3339;

/// Source of wall-clock and monotonic time, injected so that simulations own it.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Wall-clock time.
    fn now(&self) -> Timestamp;
    /// Monotonic time, for durations and deadlines.
    fn instant(&self) -> Instant;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// The first moment of the first year that RFC 3339 can write.
const YEAR_ONE: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// The longest that anybody waits for: a century. Every clock counts that far.
pub const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);

/// `metav1.Time`: RFC 3339 in UTC with whole seconds, `2026-01-02T03:04:05Z`.
pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: RFC 3339 in UTC with six fractional digits.
pub fn format_micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Parses any RFC 3339 time that the API accepts. One of the last day of the year 9999 is the last moment that there is.
pub fn parse_time(text: &str) -> Result<Timestamp, jiff::Error> {
    text.parse().or_else(|error| rfc3339::read_time(text).map(rfc3339::saturated).map_err(|_| error))
}

/// How much of a span that began at `since` has passed. Where that lies ahead by more than the span, the clock was set back
/// since then: nothing would come of waiting for it to be there again, so all of the span counts as passed.
pub fn passed(since: Timestamp, now: Timestamp, span: Duration) -> Duration {
    let passed = now.duration_since(since);
    if passed.is_negative() && passed.unsigned_abs() > span { span } else { passed.try_into().unwrap_or_default() }
}

/// A moment that was set at most `longest` ahead. Where it lies further ahead, the clock was set back since then, and it has come.
pub fn not_beyond(moment: Timestamp, now: Timestamp, longest: Duration) -> Timestamp {
    let ahead = moment.duration_since(now);
    if ahead.is_positive() && ahead.unsigned_abs() > longest { now } else { moment }
}

/// `time` moved by a span that somebody else chose. It stops at the first and last moments that RFC 3339 can write, so that
/// clients can read what comes of it.
pub fn shifted(time: Timestamp, by: SignedDuration) -> Timestamp {
    let moved = time.checked_add(by).unwrap_or(if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX });
    moved.max(YEAR_ONE)
}

/// [`shifted`] by whole seconds.
pub fn shifted_by_seconds(time: Timestamp, seconds: i64) -> Timestamp {
    shifted(time, SignedDuration::from_secs(seconds))
}

/// The moment that lies `wait` ahead. What lies further ahead than [`FAR`] is looked at again then.
pub fn instant_after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(FAR)
}

/// `duration.HumanDuration` of k8s.io/apimachinery: the short age that printer columns show, such as `3m20s` or `5d`.
pub fn human_duration(age: Duration) -> String {
    let seconds = age.as_secs();
    let minutes = seconds / 60;
    let hours = minutes / 60;
    let days = hours / 24;
    let with_rest = |whole: u64, unit: char, rest: u64, rest_unit: char| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest}{rest_unit}"),
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        with_rest(minutes, 'm', seconds % 60, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        with_rest(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 192 {
        with_rest(days, 'd', hours % 24, 'h')
    } else if days < 730 {
        format!("{days}d")
    } else if days < 8 * 365 {
        with_rest(days / 365, 'y', days % 365, 'd')
    } else {
        format!("{}y", days / 365)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_wait_for_the_time_it_showed() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let span = Duration::from_secs(30);
        let cases = [(100, 110, 10), (100, 200, 100), (100, 95, 0), (100, 69, 30), (4000, 400, 30)];
        for (since, now, want) in cases {
            assert_eq!(passed(at(since), at(now), span), Duration::from_secs(want), "{since} {now}");
        }
        let cases = [(100, 90, 100), (100, 200, 100), (100, 69, 69), (4000, 400, 400)];
        for (moment, now, want) in cases {
            assert_eq!(not_beyond(at(moment), at(now), span), at(want), "{moment} {now}");
        }
    }

    #[test]
    fn spans_that_users_chose_stop_at_the_ends_of_time() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        for (seconds, want) in [
            (30, "2026-01-01T00:00:30Z"),
            (1 << 62, "9999-12-30T22:00:00Z"),
            (i64::MAX, "9999-12-30T22:00:00Z"),
            (-30, "2025-12-31T23:59:30Z"),
            (-70_000_000_000, "0001-01-01T00:00:00Z"),
            (i64::MIN, "0001-01-01T00:00:00Z"),
        ] {
            let text = format_time(shifted_by_seconds(now, seconds));
            assert_eq!(text, want, "{seconds}");
            assert!(parse_time(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_last_day_of_all_is_read_as_its_first_moment() {
        assert_eq!(parse_time("9999-12-31T23:59:59Z").ok(), Some(Timestamp::MAX));
        assert!(parse_time("9999-12-32T00:00:00Z").is_err());
    }

    #[test]
    fn no_wait_is_longer_than_a_century() {
        let now = Instant::now();
        assert_eq!(instant_after(now, Duration::from_secs(5)), now + Duration::from_secs(5));
        for wait in [Duration::MAX, Duration::from_secs(1 << 62)] {
            assert_eq!(instant_after(now, wait), now + FAR);
        }
    }

    #[test]
    fn human_durations_read_as_kubectl_prints_them() {
        let cases = [(0, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (600, "10m"), (10_800, "3h"), (11_000, "3h3m"), (172_800, "2d")];
        for (seconds, want) in cases {
            assert_eq!(human_duration(Duration::from_secs(seconds)), want);
        }
    }
}
