//! What is counted of credential providers, by upstream's names.

use std::time::Duration;

use troupe_api::metrics::{Counter, DEFAULT_SECONDS, Family, Gauge, Histogram};

pub static ERRORS: Family<Counter> =
    Family::new("kubelet_credential_provider_plugin_errors_total", "Number of errors from credential provider plugin", &["plugin_name"]);
pub static DURATIONS: Family<Histogram> = Family::histogram(
    "kubelet_credential_provider_plugin_duration",
    "Duration of execution in seconds for credential provider plugin",
    &["plugin_name"],
    &DEFAULT_SECONDS,
);
pub static CONFIGURED: Family<Gauge> = Family::new(
    "kubelet_credential_provider_config_info",
    "Information about the last applied credential provider configuration with hash as label",
    &["hash"],
);

/// A program ran for so long, and failed or not.
pub(super) fn ran(name: &str, took: Duration, failed: bool) {
    DURATIONS.with(&[name]).observe_time(took);
    if failed {
        ERRORS.with(&[name]).increment();
    }
}
