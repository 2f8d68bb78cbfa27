//! How the use of tokens out of secrets is followed (KEP-2799): labels on their secrets, and since when there are any.

use jiff::{Timestamp, civil::Date};

use crate::meta::{ObjectKey, time::shifted_by_seconds};

/// A secret's label: the day on which its token was used last.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// A secret's label: the day since when its token is not taken any more.
pub const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// The ConfigMap of `kube-system` that says since when uses are noted, under [`TRACKED_SINCE`].
pub const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// The name of that day in its data.
pub const TRACKED_SINCE: &str = "since";

/// Hears of tokens that are used, to note it on their secrets.
pub trait TokenUses: Send + Sync + 'static {
    /// The token in a secret is used, and its label does not say so yet. It must not block.
    fn used(&self, secret: &ObjectKey);
}

/// The day in UTC of a moment, `2026-01-31`.
pub fn day_of(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d").to_string()
}

/// Whether a label says of a moment's use: that of the next day counts too, another server's clock may be ahead.
pub fn is_noted(label: Option<&str>, moment: Timestamp) -> bool {
    const A_DAY: i64 = 24 * 3600;
    label.is_some_and(|label| label == day_of(moment) || label == day_of(shifted_by_seconds(moment, A_DAY)))
}

/// Reads a day as [`day_of`] writes it.
pub fn read_day(text: &str) -> Option<Date> {
    // Other forms of ISO 8601 are no days to upstream.
    if text.len() == "2026-01-31".len() { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_day_is_read_as_it_is_written() {
        let moment: Timestamp = "2026-01-31T23:59:59Z".parse().expect("a time");
        assert_eq!(day_of(moment), "2026-01-31");
        assert_eq!(read_day("2026-01-31"), Some(date(2026, 1, 31)));
        for odd in ["", "2026-02-30", "20260131", "2026-1-31", "2026-01-31T00:00:00Z", "yesterday!"] {
            assert_eq!(read_day(odd), None, "{odd}");
        }
    }
}
