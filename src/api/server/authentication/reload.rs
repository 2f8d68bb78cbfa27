//! What is counted of a configuration that changes while the server runs, under upstream's names.

use troupe_api::metrics::{Counter, Family, Gauge};

use crate::reloading::{LABELS, ReloadMetrics};

pub(super) static LAST: Family<Gauge> = Family::new(
    "apiserver_authentication_config_controller_automatic_reload_last_timestamp_seconds",
    "Timestamp of the last automatic reload of authentication configuration split by status and apiserver identity.",
    LABELS,
);
pub(super) static TOTAL: Family<Counter> = Family::new(
    "apiserver_authentication_config_controller_automatic_reloads_total",
    "Total number of automatic reloads of authentication configuration split by status and apiserver identity.",
    LABELS,
);

/// For whoever follows the file.
pub static RELOADS: ReloadMetrics = ReloadMetrics { reloads: &TOTAL, last: &LAST };
