//! Settings that are spans of time: so many seconds, or as upstream's flags are given them (`1h30m`).

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;
use troupe_api::expressions::go_duration;

const SECOND: i64 = 1_000_000_000;
/// Go's durations are no longer, and moments so far ahead can be told.
pub const MOST: i64 = i64::MAX / SECOND;

/// Reads one as a flag has it.
///
/// # Errors
/// When it is none, not of whole seconds, or too long.
pub fn seconds<T: TryFrom<i64>>(text: &str) -> Result<T, String> {
    let count = match text.parse::<i64>() {
        Ok(count) => Some(count),
        Err(_) => Some(go_duration(text)?).filter(|nanoseconds| nanoseconds % SECOND == 0).map(|nanoseconds| nanoseconds / SECOND),
    };
    count
        .filter(|count| *count <= MOST)
        .and_then(|count| T::try_from(count).ok())
        .ok_or_else(|| format!("{text} is no number of whole seconds that it may be"))
}

/// Reads one as a configuration file has it, a number or a text.
pub fn read<'de, D: Deserializer<'de>, T: TryFrom<i64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let told = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::String(text) => seconds(&text),
        number => seconds(&number.to_string()),
    };
    told.map(Some).map_err(Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn a_span_is_seconds_or_as_upstream_writes_it() {
        for (text, count) in [("0", 0), ("90", 90), ("1h30m", 5400), ("1m0s", 60), ("2000ms", 2), ("24h0m0s", 86_400)] {
            assert_eq!(seconds::<u32>(text), Ok(count), "{text}");
        }
        assert_eq!(seconds::<u64>("9223372036"), Ok(9_223_372_036));
        for odd in ["", "-1", "-1s", "1x", "1.5", "1500ms", "9223372037"] {
            assert!(seconds::<u64>(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn the_file_takes_both() {
        let head = "apiVersion: troupe.dev/v1alpha1\nkind: TroupeConfiguration\n";
        let parsed = |text: &str| Settings::parse(&format!("{head}{text}"));
        let settings = parsed("eventTtl: 2h\nrequestTimeout: 30\nhorizontalPodAutoscalerSyncPeriod: 1m\n").expect("parses");
        assert_eq!((settings.event_ttl, settings.request_timeout, settings.horizontal_pod_autoscaler_sync_period), (Some(7200), Some(30), Some(60)));
        assert_eq!(parsed("eventTtl: null\n").expect("parses").event_ttl, None);
        assert!(parsed("eventTtl: soon\n").is_err());
        assert_eq!(Settings::of_entries(settings.entries()).expect("the same"), settings);
    }
}
