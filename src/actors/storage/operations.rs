//! What operations on volumes take, under upstream's names: those of nodes, and those that controllers ask others for.

use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolume;
use troupe_api::metrics::{Collect, Counter, Family, Histogram};

const SECONDS: [f64; 13] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

static OPERATIONS: Family<Histogram> = Family::histogram(
    "storage_operation_duration_seconds",
    "Storage operation duration",
    &["volume_plugin", "operation_name", "status", "migrated"],
    &SECONDS,
);
static TOTALS: Family<Histogram> = Family::histogram(
    "volume_operation_total_seconds",
    "Storage operation end to end duration in seconds",
    &["plugin_name", "operation_name"],
    &SECONDS,
);
static ERRORS: Family<Counter> = Family::new("volume_operation_errors_total", "Total volume operation errors", &["plugin_name", "operation_name"]);

/// All of them.
pub static COLLECTORS: [&dyn Collect; 3] = [&OPERATIONS, &ERRORS, &TOTALS];

/// Stands for a plugin that nobody knows.
pub const UNKNOWN_PLUGIN: &str = "N/A";

/// One attempt of an operation is over.
pub fn attempted(plugin: &str, operation: &str, is_done: bool, took: Duration) {
    let status = if is_done { "success" } else { "fail-unknown" };
    OPERATIONS.with(&[plugin, operation, status, "false"]).observe_time(took);
}

/// An operation is done, since it was first asked for.
pub fn done(plugin: &str, operation: &str, took: Duration) {
    TOTALS.with(&[plugin, operation]).observe_time(took);
}

/// An attempt of such an operation failed.
pub fn failed(plugin: &str, operation: &str) {
    ERRORS.with(&[plugin, operation]).increment();
}

/// The plugin that a volume is of, as upstream calls it: with its driver's name where it has one.
pub fn plugin_of(volume: &PersistentVolume) -> String {
    let Some(spec) = &volume.spec else { return UNKNOWN_PLUGIN.into() };
    if let Some(source) = &spec.csi {
        return format!("kubernetes.io/csi:{}", source.driver);
    }
    let known = [
        (spec.host_path.is_some(), "kubernetes.io/host-path"),
        (spec.nfs.is_some(), "kubernetes.io/nfs"),
        (spec.fc.is_some(), "kubernetes.io/fc"),
        (spec.iscsi.is_some(), "kubernetes.io/iscsi"),
        (spec.local.is_some(), "kubernetes.io/local-volume"),
    ];
    known.into_iter().find_map(|(is, plugin)| is.then_some(plugin)).unwrap_or(UNKNOWN_PLUGIN).into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use troupe_api::metrics::{parse::Samples, render};

    use super::*;

    #[test]
    fn operations_count_by_plugin_and_by_how_they_ended() {
        attempted("kubernetes.io/counted", "volume_mount", true, Duration::from_millis(200));
        attempted("kubernetes.io/counted", "volume_mount", false, Duration::from_secs(3));
        done("kubernetes.io/counted", "overall_volume_mount", Duration::from_secs(1));
        failed("example.com/counted", "provision");
        let page = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        let plugin = "kubernetes.io/counted";
        let of = |status| [("volume_plugin", plugin), ("operation_name", "volume_mount"), ("status", status), ("migrated", "false")];
        assert_eq!(samples.value("storage_operation_duration_seconds_count", &of("success")), Some(1.0));
        assert_eq!(samples.value("storage_operation_duration_seconds_sum", &of("fail-unknown")), Some(3.0));
        let total = [("plugin_name", plugin), ("operation_name", "overall_volume_mount"), ("le", "1")];
        assert_eq!(samples.value("volume_operation_total_seconds_bucket", &total), Some(1.0));
        let failed = [("plugin_name", "example.com/counted"), ("operation_name", "provision")];
        assert_eq!(samples.value("volume_operation_errors_total", &failed), Some(1.0));
    }

    #[test]
    fn volumes_are_of_upstreams_plugins() {
        let plugin = |spec: Value| plugin_of(&serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": spec})).expect("a volume"));
        assert_eq!(plugin(json!({"csi": {"driver": "d.example.com", "volumeHandle": "h"}})), "kubernetes.io/csi:d.example.com");
        assert_eq!(plugin(json!({"local": {"path": "/d"}})), "kubernetes.io/local-volume");
        assert_eq!(plugin(json!({"cephfs": {"monitors": ["m"]}})), UNKNOWN_PLUGIN);
    }
}
