//! A hop as it leaves its process.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use troupe_api::meta::ObjectVersion;

use super::{Hop, Name, Outcome};

/// A hop as `troupe trace` shows it, and as processes tell it to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HopRecord {
    /// The process it was recorded in; empty as long as there is but one.
    #[serde(default)]
    pub process: String,
    /// When handling began, in microseconds since 1970 by that process' clock.
    pub at_us: i64,
    /// The trace, in hex.
    pub trace: String,
    /// The span of the hop that sent it, in hex; empty where none did.
    pub parent: String,
    /// What its own calls and messages name as their parent; empty when it made none.
    pub span: String,
    pub from: String,
    pub to: String,
    pub message: String,
    pub waited_us: u64,
    pub handled_us: u64,
    pub outcome: Outcome,
    /// `resource key@revision` that led to this hop.
    pub object: Option<String>,
    /// `resource key@revision` that this hop committed.
    pub produced: Option<String>,
}

impl HopRecord {
    /// The record of a hop, where `now` is the wall-clock time at `instant`.
    pub(super) fn of(hop: &Hop, texts: &[Arc<str>], now: Timestamp, instant: Instant) -> Self {
        let text = |name: Name| texts.get(name.0 as usize).map(ToString::to_string).unwrap_or_default();
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let version = |version: &Arc<ObjectVersion>| format!("{} {}@{}", version.resource, version.key, version.revision);
        let ago = i64::try_from(instant.saturating_duration_since(hop.at).as_micros()).unwrap_or(i64::MAX);
        HopRecord {
            process: String::new(),
            at_us: now.as_microsecond().saturating_sub(ago),
            trace: if hop.cause.trace == 0 { String::new() } else { format!("{:032x}", hop.cause.trace) },
            parent: hex(hop.cause.span),
            span: hex(hop.span),
            from: text(hop.from),
            to: text(hop.to),
            message: text(hop.message),
            waited_us: micros(hop.waited),
            handled_us: micros(hop.handled),
            outcome: hop.outcome,
            object: hop.cause.object.as_ref().map(version),
            produced: hop.produced.as_ref().map(version),
        }
    }
}

fn hex(span: u64) -> String {
    if span == 0 { String::new() } else { format!("{span:016x}") }
}
