//! What the service proxy counts, by the family of addresses that rules are about.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use troupe_api::metrics::{Collect, Counter, Family, Gauge, Histogram, exponential};
use troupe_net::iptables::Family as Addresses;

use super::sync_state;

const FAMILY: [&str; 1] = ["ip_family"];
const SECONDS: [f64; 15] = exponential(0.001, 2.0);

static DURATIONS: Family<Histogram> =
    Family::histogram("kubeproxy_sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", &FAMILY, &SECONDS);
static FULL_DURATIONS: Family<Histogram> =
    Family::histogram("kubeproxy_sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", &FAMILY, &SECONDS);
static PARTIAL_DURATIONS: Family<Histogram> = Family::histogram(
    "kubeproxy_sync_partial_proxy_rules_duration_seconds",
    "SyncProxyRules latency in seconds for partial resyncs",
    &FAMILY,
    &SECONDS,
);
static LAST: Family<Gauge> =
    Family::new("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced", &FAMILY);
static QUEUED: Family<Gauge> =
    Family::new("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", &FAMILY);
static FAILURES: Family<Counter> =
    Family::new("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "Cumulative proxy iptables restore failures", &FAMILY);
static PARTIAL_FAILURES: Family<Counter> =
    Family::new("kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total", "Cumulative proxy iptables partial restore failures", &FAMILY);
static SERVICES_PENDING: Family<Gauge> =
    Family::new("kubeproxy_sync_proxy_rules_service_changes_pending", "Pending proxy rules Service changes", &[]);
static SERVICES_CHANGED: Family<Counter> =
    Family::new("kubeproxy_sync_proxy_rules_service_changes_total", "Cumulative proxy rules Service changes", &[]);

/// What the proxy counts.
pub static COLLECTORS: [&dyn Collect; 9] =
    [&FULL_DURATIONS, &PARTIAL_DURATIONS, &DURATIONS, &PARTIAL_FAILURES, &FAILURES, &QUEUED, &LAST, &SERVICES_PENDING, &SERVICES_CHANGED];

/// A Service's rules changed; so many Services' changes wait now.
pub fn queued(family: Addresses, pending: usize) {
    sync_state::queued(family);
    SERVICES_CHANGED.with(&[]).increment();
    SERVICES_PENDING.with(&[]).set_count(pending);
    QUEUED.with(&[family.name()]).set(now());
}

/// Waiting changes are being applied; so many are left.
pub fn taken(left: usize) {
    SERVICES_PENDING.with(&[]).set_count(left);
}

/// Rules were applied, or not, after `took`; all of them when `whole`.
pub fn synced(family: Addresses, succeeded: bool, whole: bool, took: Duration) {
    let label = [family.name()];
    DURATIONS.with(&label).observe_time(took);
    if whole { &FULL_DURATIONS } else { &PARTIAL_DURATIONS }.with(&label).observe_time(took);
    if succeeded {
        sync_state::updated(family);
        LAST.with(&label).set(now());
    } else if whole {
        FAILURES.with(&label).increment();
    } else {
        PARTIAL_FAILURES.with(&label).increment();
    }
}

/// Seconds since 1970, as metrics tell times.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
