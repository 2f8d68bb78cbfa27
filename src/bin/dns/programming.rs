//! When what made endpoints change happened, as their controller writes it on slices: how long names took to follow is measured from there.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::Deserialize;

/// The annotation of EndpointSlices of Services with a selector.
const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

#[derive(Deserialize)]
struct Annotated {
    metadata: Annotations,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// How long ago the change was that a slice, as JSON, tells of; `None` where it tells of none, or of one that is yet to come.
pub fn since(slice: &str, now: SystemTime) -> Option<Duration> {
    let Annotated { metadata } = serde_json::from_str(slice).ok()?;
    let began = time(metadata.annotations.get(LAST_CHANGE)?)?;
    now.duration_since(began).ok()
}

/// A time in UTC as Kubernetes writes it (RFC 3339).
fn time(text: &str) -> Option<SystemTime> {
    let (whole, fraction) = match text.strip_suffix('Z')?.split_once('.') {
        Some((whole, fraction)) => (whole, format!("{fraction:0<9}").get(..9)?.parse().ok()?),
        None => (text.strip_suffix('Z')?, 0),
    };
    let (date, clock) = whole.split_once('T')?;
    let numbers = |text: &str, between: char| text.split(between).map(|number| number.parse::<u64>().ok()).collect::<Option<Vec<u64>>>();
    let (date, clock) = (numbers(date, '-')?, numbers(clock, ':')?);
    let ([year, month, day], [hour, minute, second]) = (date.as_slice(), clock.as_slice()) else { return None };
    if !(1970..=9999).contains(year) || !(1..=12).contains(month) || !(1..=31).contains(day) {
        return None;
    }
    let seconds = days(*year, *month, *day).checked_mul(86_400)?.checked_add(hour.checked_mul(3600)?)?;
    let seconds = seconds.checked_add(minute.checked_mul(60)?)?.checked_add(*second)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, fraction))
}

/// Days from 1970 to a date of the Gregorian calendar. Years are taken to begin in March, so that a leap day is a year's last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before = |year: u64| year * 365 + year / 4 - year / 100 + year / 400;
    // 1970 began 306 days after March 1969 did.
    before(year) - before(1969) + (153 * month + 2) / 5 + day - 1 - 306
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<f64> {
        Some(time(text)?.duration_since(SystemTime::UNIX_EPOCH).expect("is later").as_secs_f64())
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        assert_eq!(seconds("1970-03-01T00:00:01Z"), Some(59.0 * 86_400.0 + 1.0));
        assert_eq!(seconds("2000-02-29T12:00:00Z"), Some(951_825_600.0));
        assert_eq!(seconds("2026-12-02T01:51:56Z"), Some(1_796_176_316.0));
        assert_eq!(seconds("2026-12-02T01:51:56.25Z"), Some(1_796_176_316.25));
        for bad in ["", "Z", "2026-12-02", "2026-12-02T01:51Z", "2026-13-02T01:51:56Z", "2026-12-02T01:51:56+01:00", "x-1-1T1:1:1Z"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_slice_tells_what_changed_it() {
        let slice = format!(r#"{{"metadata":{{"name":"s","annotations":{{"{LAST_CHANGE}":"2000-02-29T12:00:00Z"}}}},"endpoints":[]}}"#);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(since(&slice, at(951_825_602)), Some(Duration::from_secs(2)));
        assert_eq!(since(&slice, at(951_825_599)), None, "its clock is ahead");
        assert_eq!(since(r#"{"metadata":{"name":"s"}}"#, at(1)), None);
    }
}
