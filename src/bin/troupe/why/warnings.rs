//! Warnings about an object: which of them tell of the present, and which of what is over. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    denials,
    report::Reason,
    tree::{age, last_seen, span, text},
};

/// A warning that did not come again for so long, in seconds, tells nothing of the present: whoever tries again tells it again,
/// at least once in five minutes, and so do recorders that hold events back.
const FRESH: i64 = 600;
/// Warnings told, of each age.
const TOLD: usize = 5;

/// What happened to an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// What tells of the present; the newest first.
    pub fresh: Vec<Reason>,
    /// What is over; the newest first.
    pub earlier: Vec<String>,
}

/// One kind of warning.
struct Told<'a> {
    event: &'a Value,
    /// Seconds since it came last; `None` where it does not say when.
    age: Option<i64>,
    times: i64,
}

/// Whether something that happened so many seconds ago tells of the present. What has no time does.
pub fn is_fresh(age: Option<i64>) -> bool {
    age.is_none_or(|age| age <= FRESH)
}

/// Sorts out the warnings among the events about an object.
pub fn warnings(events: &[Value], now: Timestamp) -> Happened {
    let warning = events.iter().filter(|event| event["type"] == "Warning");
    let mut newest: Vec<Told<'_>> = warning.map(|event| Told { event, age: age(last_seen(event), now), times: count(event) }).collect();
    newest.sort_by_key(|told| told.age);
    let mut told: Vec<Told<'_>> = Vec::new();
    for one in newest {
        match told.iter_mut().find(|other| shape(other.event) == shape(one.event)) {
            Some(other) => other.times = other.times.saturating_add(one.times),
            None => told.push(one),
        }
    }
    let (fresh, earlier): (Vec<_>, Vec<_>) = told.iter().partition(|told| is_fresh(told.age));
    Happened { fresh: fresh.into_iter().take(TOLD).map(Told::reason).collect(), earlier: earlier.into_iter().take(TOLD).map(Told::line).collect() }
}

fn count(event: &Value) -> i64 {
    event["series"]["count"].as_i64().or_else(|| event["count"].as_i64()).unwrap_or(1)
}

/// What warnings have in common that differ in figures only, such as in bytes that were not free.
fn shape(event: &Value) -> (&str, String) {
    (text(&event["reason"]), text(&event["message"]).chars().filter(|c| !c.is_ascii_digit()).collect())
}

impl Told<'_> {
    fn reason(&self) -> Reason {
        Reason { hint: denials::hint(text(&self.event["message"])), ..Reason::new(self.line()) }
    }

    fn line(&self) -> String {
        let said = format!("{}: {}", text(&self.event["reason"]), text(&self.event["message"]).trim_end());
        let ago = self.age.map(|age| format!("{} ago", span(age)));
        match (self.times, ago) {
            (2.., Some(ago)) => format!("{said} ({} times, last {ago})", self.times),
            (2.., None) => format!("{said} ({} times)", self.times),
            (_, Some(ago)) => format!("{said} ({ago})"),
            (_, None) => said,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(reason: &str, message: &str, last: &str) -> Value {
        json!({"type": "Warning", "reason": reason, "message": message, "lastTimestamp": last})
    }

    fn of(events: &[Value]) -> Happened {
        warnings(events, "2026-01-01T01:00:00Z".parse().expect("a time"))
    }

    fn lines(told: &Happened) -> Vec<&str> {
        told.fresh.iter().map(|reason| reason.what.as_str()).collect()
    }

    #[test]
    fn what_did_not_come_again_for_ten_minutes_is_over() {
        let events = [
            event("Old", "gone", "2026-01-01T00:49:59Z"),
            event("Fresh", "still", "2026-01-01T00:50:00Z"),
            event("Now", "it is", "2026-01-01T00:59:58Z"),
        ];
        let told = of(&events);
        assert_eq!(lines(&told), ["Now: it is (2s ago)", "Fresh: still (10m0s ago)"]);
        assert_eq!(told.earlier, ["Old: gone (10m1s ago)"]);
        let normal = json!({"type": "Normal", "reason": "RegisteredNode", "lastTimestamp": "2026-01-01T01:00:00Z"});
        assert_eq!(of(&[normal]), Happened::default());
    }

    #[test]
    fn what_came_again_counts_by_its_last_time_whichever_field_has_it() {
        let mut counted = event("FreeDiskSpaceFailed", "Attempted to free 17 bytes", "2026-01-01T00:10:00Z");
        counted["count"] = 3.into();
        let again = event("FreeDiskSpaceFailed", "Attempted to free 4096 bytes", "2026-01-01T00:58:00Z");
        let series = json!({"type": "Warning", "reason": "FailedScheduling", "message": "no", "eventTime": "2026-01-01T00:00:00.000001Z",
            "series": {"count": 7, "lastObservedTime": "2026-01-01T00:59:00.500000Z"}});
        let told = of(&[counted, series, again]);
        let wanted = ["FailedScheduling: no (7 times, last 59s ago)", "FreeDiskSpaceFailed: Attempted to free 4096 bytes (4 times, last 2m0s ago)"];
        assert_eq!((lines(&told), told.earlier.len()), (wanted.to_vec(), 0));
    }

    #[test]
    fn a_warning_without_a_time_tells_of_the_present() {
        assert_eq!(lines(&of(&[json!({"type": "Warning", "reason": "Odd", "message": "no\n"})])), ["Odd: no"]);
    }
}
