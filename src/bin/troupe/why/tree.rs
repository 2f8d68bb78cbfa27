//! Reading API objects as JSON: the few questions that the explanations ask all the time.

use jiff::Timestamp;
use serde_json::Value;
use troupe_api::meta::time::parse_time;

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

pub fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The condition of a type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(&object["status"]["conditions"]).find(|condition| condition["type"] == kind)
}

pub fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Seconds from a time in an object until `now`; negative when it lies ahead.
pub fn age(time: &Value, now: Timestamp) -> Option<i64> {
    parse_time(text(time)).ok().map(|time| now.duration_since(time).as_secs())
}

/// `45s`, `3m20s`, `2h5m`, `3d4h`.
pub fn span(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7200 => format!("{}m{}s", s / 60, s % 60),
        s @ 7200..172_800 => format!("{}h{}m", s / 3600, s % 3600 / 60),
        s => format!("{}d{}h", s / 86400, s % 86400 / 3600),
    }
}

/// When an event came last, as it says.
pub fn last_seen(event: &Value) -> &Value {
    let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
    times.into_iter().find(|time| !text(time).is_empty()).unwrap_or(&event["metadata"]["creationTimestamp"])
}

/// The newest event of a reason.
pub fn newest<'a>(events: &'a [Value], reasons: &[&str]) -> Option<&'a Value> {
    events.iter().filter(|event| reasons.contains(&text(&event["reason"]))).max_by_key(|event| parse_time(text(last_seen(event))).ok())
}

/// The names of objects, joined.
pub fn listed(names: &[&str]) -> String {
    names.join(", ")
}
