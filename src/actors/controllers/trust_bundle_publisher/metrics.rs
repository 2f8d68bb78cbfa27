//! What the publisher of the API server's trust anchors counts, under upstream's names.

use std::time::Duration;

use troupe_api::{
    metrics::{Collect, Counter, Family, Histogram, exponential},
    status::Status,
};

const SECONDS: [f64; 15] = exponential(0.001, 2.0);

static DURATIONS: Family<Histogram> =
    Family::histogram("clustertrustbundle_publisher_sync_duration_seconds", "The time it took to sync a cluster trust bundle.", &["code"], &SECONDS);
static SYNCS: Family<Counter> =
    Family::new("clustertrustbundle_publisher_sync_total", "Number of syncs that occurred in cluster trust bundle publisher.", &["code"]);

pub static COLLECTORS: [&dyn Collect; 2] = [&DURATIONS, &SYNCS];

/// It looked at what is published, and did what there was to do.
pub(super) fn synced(outcome: &Result<(), Status>, took: Duration) {
    let code = outcome.as_ref().err().map_or(200, |status| status.code).to_string();
    DURATIONS.with(&[&code]).observe(took.as_secs_f64());
    SYNCS.with(&[&code]).increment();
}
