//! What the kubelet counts.

pub mod probes;
mod runtime;
mod scrape;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use parking_lot::Mutex;
use troupe_api::metrics::{Collect, Counter, DEFAULT_SECONDS, Family, Gauge, Histogram};

pub use self::{runtime::MeteredRuntime, scrape::scrape};
use super::{events::ContainerField, worker::plan::Action};

const START_SECONDS: [f64; 25] = [
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0,
    2700.0, 3600.0,
];
const STATUS_SECONDS: [f64; 11] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];

const RESIZE_MILLISECONDS: [f64; 14] =
    [10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 30_000.0, 60_000.0, 120_000.0, 300_000.0, 600_000.0];

static RESIZES_PENDING: Family<Gauge> = Family::new("kubelet_pod_pending_resizes", "Number of pending resizes for pods.", &["reason"]);
static RESIZES: Family<Histogram> = Family::histogram(
    "kubelet_pod_resize_duration_milliseconds",
    "Duration in milliseconds to actuate a pod resize",
    &["success"],
    &RESIZE_MILLISECONDS,
);
static WORK: Family<Histogram> = Family::histogram(
    "kubelet_pod_worker_duration_seconds",
    "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
    &["operation_type"],
    &DEFAULT_SECONDS,
);
static STARTS: Family<Histogram> = Family::histogram(
    "kubelet_pod_start_duration_seconds",
    "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
    &[],
    &START_SECONDS,
);
static TOTAL_STARTS: Family<Histogram> = Family::histogram(
    "kubelet_pod_start_total_duration_seconds",
    "Duration in seconds to start a pod since creation, including time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
    &[],
    &START_SECONDS,
);
static STATUS_WRITES: Family<Histogram> = Family::histogram(
    "kubelet_pod_status_sync_duration_seconds",
    "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status until the API is successfully updated for that pod, even if multiple intevening changes to pod status occur.",
    &[],
    &STATUS_SECONDS,
);
static RELISTS: Family<Histogram> =
    Family::histogram("kubelet_pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG.", &[], &DEFAULT_SECONDS);
static RELIST_INTERVALS: Family<Histogram> =
    Family::histogram("kubelet_pleg_relist_interval_seconds", "Interval in seconds between relisting in PLEG.", &[], &DEFAULT_SECONDS);
static LAST_SEEN: Family<Gauge> = Family::new("kubelet_pleg_last_seen_seconds", "Timestamp in seconds when PLEG was last seen active.", &[]);
static PODS_STARTED: Family<Counter> = Family::new("kubelet_started_pods_total", "Cumulative number of pods started", &[]);
static PODS_FAILED: Family<Counter> = Family::new("kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods", &[]);
static USERS_STARTED: Family<Counter> = Family::new(
    "kubelet_started_user_namespaced_pods_total",
    "Cumulative number of pods with user namespaces started. This metric will only be collected on Linux.",
    &[],
);
static USERS_FAILED: Family<Counter> = Family::new(
    "kubelet_started_user_namespaced_pods_errors_total",
    "Cumulative number of errors when starting pods with user namespaces. This metric will only be collected on Linux.",
    &[],
);
static CONTAINERS_STARTED: Family<Counter> =
    Family::new("kubelet_started_containers_total", "Cumulative number of containers started", &["container_type"]);
static CONTAINERS_FAILED: Family<Counter> =
    Family::new("kubelet_started_containers_errors_total", "Cumulative number of errors when starting containers", &["container_type", "code"]);
static CONTAINERS_ENDED: Family<Counter> =
    Family::new("kubelet_terminated_containers_total", "Cumulative number of container terminations.", &["container_type", "exit_code", "reason"]);

static REJECTIONS: Family<Counter> =
    Family::new("kubelet_admission_rejections_total", "Cumulative number pod admission rejections by the Kubelet.", &["reason"]);

static PREEMPTIONS: Family<Counter> =
    Family::new("kubelet_preemptions", "Cumulative number of pod preemptions by preemption resource", &["preemption_signal"]);

static SHUTDOWN_STARTED: Family<Gauge> =
    Family::new("kubelet_graceful_shutdown_start_time_seconds", "Last graceful shutdown start time since unix epoch in seconds", &[]);
static SHUTDOWN_ENDED: Family<Gauge> =
    Family::new("kubelet_graceful_shutdown_end_time_seconds", "Last graceful shutdown end time since unix epoch in seconds", &[]);

static IMAGES_REQUESTED: Family<Counter> = Family::new("kubelet_image_volume_requested_total", "Number of requested image volumes.", &[]);
static IMAGES_MOUNTED: Family<Counter> = Family::new("kubelet_image_volume_mounted_succeed_total", "Number of successful image volume mounts.", &[]);
static IMAGES_UNMOUNTED: Family<Counter> = Family::new("kubelet_image_volume_mounted_errors_total", "Number of failed image volume mounts.", &[]);

/// What the kubelet counts as it goes.
pub static COLLECTORS: [&dyn Collect; 45] = [
    &super::container_manager::metrics::CPUS_OF_NODES,
    &super::container_manager::metrics::OWN_CPUS,
    &super::container_manager::metrics::CPU_ERRORS,
    &super::container_manager::metrics::CPU_REQUESTS,
    &super::container_manager::metrics::SHARED_CPUS,
    &super::container_manager::metrics::MEMORY_ERRORS,
    &super::container_manager::metrics::MEMORY_REQUESTS,
    &super::container_manager::metrics::DURATIONS,
    &super::container_manager::metrics::REFUSALS,
    &super::container_manager::metrics::ADMISSIONS,
    &super::credentials::provider::metrics::CONFIGURED,
    &super::credentials::provider::metrics::DURATIONS,
    &super::credentials::provider::metrics::ERRORS,
    &super::csi::client::OPERATIONS,
    &super::pull_records::metrics::CHECKS,
    &super::pull_records::metrics::INTENTS,
    &super::pull_records::metrics::RECORDS,
    &IMAGES_UNMOUNTED,
    &IMAGES_MOUNTED,
    &IMAGES_REQUESTED,
    &PREEMPTIONS,
    &REJECTIONS,
    &SHUTDOWN_STARTED,
    &SHUTDOWN_ENDED,
    &LAST_SEEN,
    &RELISTS,
    &RELIST_INTERVALS,
    &RESIZES_PENDING,
    &RESIZES,
    &STARTS,
    &TOTAL_STARTS,
    &STATUS_WRITES,
    &WORK,
    &runtime::SANDBOXES,
    &runtime::SANDBOX_ERRORS,
    &runtime::DURATIONS,
    &runtime::ERRORS,
    &runtime::OPERATIONS,
    &CONTAINERS_FAILED,
    &CONTAINERS_STARTED,
    &CONTAINERS_ENDED,
    &PODS_FAILED,
    &PODS_STARTED,
    &USERS_FAILED,
    &USERS_STARTED,
];

/// A step for a pod was taken, or failed with a reason.
pub fn stepped(pod: &Pod, action: &Action, failure: Option<&str>, took: Duration) {
    let operation = match action {
        Action::Prepare | Action::CreateSandbox { .. } => "create",
        Action::StartContainer { .. } | Action::RemoveContainer { .. } => "sync",
        Action::Resize => "sync",
        Action::RunPreStop { .. } | Action::StopContainer { .. } | Action::StopSandbox { .. } => "terminating",
        Action::RemoveSandbox { .. } | Action::CleanUp { .. } => "terminated",
    };
    WORK.with(&[operation]).observe_time(took);
    if pod.spec.as_ref().is_some_and(|spec| spec.host_users == Some(false)) {
        let (begins, fails) = begins_or_fails(action, failure.is_some());
        USERS_STARTED.with(&[]).add(u64::from(begins));
        USERS_FAILED.with(&[]).add(u64::from(fails));
    }
    match (action, failure) {
        (Action::Resize, failure) => {
            let success = if failure.is_none() { "true" } else { "false" };
            RESIZES.with(&[success]).observe(took.as_secs_f64() * 1e3);
        }
        (Action::CreateSandbox { .. }, None) => PODS_STARTED.with(&[]).increment(),
        (Action::CreateSandbox { .. }, Some(_)) => PODS_FAILED.with(&[]).increment(),
        (Action::StartContainer { name, .. }, failure) => {
            let kind = match pod.spec.as_ref().map(|spec| ContainerField::of(spec, name).list) {
                Some("initContainers") => "init_container",
                Some("ephemeralContainers") => "ephemeral_container",
                _ => "container",
            };
            match failure {
                None => CONTAINERS_STARTED.with(&[kind]).increment(),
                Some(reason) => CONTAINERS_FAILED.with(&[kind, reason]).increment(),
            }
        }
        _ => {}
    }
}

/// Whether a step begins the start of a pod, and whether that fails with it: its sandbox was not made, or a container not for the first time.
fn begins_or_fails(action: &Action, failed: bool) -> (bool, bool) {
    match action {
        Action::CreateSandbox { .. } => (true, failed),
        Action::StartContainer { attempt: 0, .. } => (false, failed),
        _ => (false, false),
    }
}

/// A pod's status is published: its containers that have ended since the one before.
pub fn ended(before: Option<&PodStatus>, status: &PodStatus) {
    type Statuses = fn(&PodStatus) -> Option<&Vec<ContainerStatus>>;
    fn ends(list: Option<&Vec<ContainerStatus>>) -> impl Iterator<Item = (&str, &ContainerStateTerminated)> {
        list.into_iter().flatten().filter_map(|container| Some((container.name.as_str(), container.state.as_ref()?.terminated.as_ref()?)))
    }
    let kinds: [(&str, Statuses); 3] = [
        ("init_container", |status| status.init_container_statuses.as_ref()),
        ("container", |status| status.container_statuses.as_ref()),
        ("ephemeral_container", |status| status.ephemeral_container_statuses.as_ref()),
    ];
    for (kind, list) in kinds {
        let known: BTreeSet<&str> = ends(before.and_then(list)).map(|(name, _)| name).collect();
        for (_, end) in ends(list(status)).filter(|(name, _)| !known.contains(name)) {
            CONTAINERS_ENDED.with(&[kind, &end.exit_code.to_string(), end.reason.as_deref().unwrap_or_default()]).increment();
        }
    }
}

/// A container with so many images mounted was made, or failed to be: because one could not be mounted, or not.
pub fn images_mounted(images: usize, made: Result<(), bool>) {
    IMAGES_REQUESTED.with(&[]).add(images as u64);
    match made {
        Ok(()) => IMAGES_MOUNTED.with(&[]).add(images as u64),
        Err(true) => IMAGES_UNMOUNTED.with(&[]).add(images as u64),
        Err(false) => {}
    }
}

/// So many pods wait for another size.
pub fn resizes_deferred(pods: usize) {
    RESIZES_PENDING.with(&["deferred"]).set(pods as f64);
}

/// A pod may not run here.
pub fn rejected(reason: &str) {
    REJECTIONS.with(&[reason]).increment();
}

/// When the machine last shut down with time for its pods; whatever is not known is not told, and an end that has not come is 0.
pub fn shut_down(start: Option<jiff::Timestamp>, end: Option<jiff::Timestamp>) {
    let Some(start) = start else { return };
    SHUTDOWN_STARTED.with(&[]).set(start.as_second() as f64);
    SHUTDOWN_ENDED.with(&[]).set(end.map_or(0.0, |end| end.as_second() as f64));
}

/// A pod has to end for a critical one that needs this resource.
pub fn preempted(resource: &str) {
    PREEMPTIONS.with(&[resource]).increment();
}

/// The runtime was listed.
pub fn relisted(took: Duration) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    RELISTS.with(&[]).observe_time(took);
    LAST_SEEN.with(&[]).set(now());
    if let Some(last) = LAST.lock().replace(Instant::now()) {
        RELIST_INTERVALS.with(&[]).observe_time(last.elapsed());
    }
}

/// A pod's status is in the API, so long after it changed.
pub fn status_written(took: Duration) {
    STATUS_WRITES.with(&[]).observe_time(took);
}

/// Watches for a pod's start. One that ran before this kubelet looked at it does not count.
#[derive(Debug)]
pub struct StartWatch {
    seen: Instant,
    waiting: bool,
}

impl Default for StartWatch {
    fn default() -> Self {
        StartWatch { seen: Instant::now(), waiting: true }
    }
}

impl StartWatch {
    /// Looks at the status that is about to be written for the pod as the API shows it.
    pub fn look(&mut self, pod: &Pod, status: &PodStatus, now: jiff::Timestamp) {
        let phase = |status: &PodStatus| status.phase.as_deref().unwrap_or("Pending").to_owned();
        if !self.waiting || phase(status) == "Pending" {
            return;
        }
        self.waiting = false;
        let before = pod.status.as_ref().map_or_else(|| "Pending".to_owned(), phase);
        if before != "Pending" || phase(status) != "Running" {
            return;
        }
        STARTS.with(&[]).observe_time(self.seen.elapsed());
        if let Some(created) = &pod.metadata.creation_timestamp {
            let since = now.duration_since(created.0);
            TOTAL_STARTS.with(&[]).observe(since.as_secs_f64().max(0.0));
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_api::metrics::render;

    use super::*;

    #[test]
    fn each_end_is_counted_once() {
        let status = |state: serde_json::Value| -> PodStatus {
            serde_json::from_value(
                json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}),
            )
            .expect("a status")
        };
        let (running, over) = (status(json!({"running": {}})), status(json!({"terminated": {"exitCode": 231, "reason": "Odd"}})));
        ended(None, &running);
        ended(Some(&running), &over);
        ended(Some(&over), &over);
        let text = render(&[&CONTAINERS_ENDED]);
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains("kubelet_terminated_containers_total{container_type=\"container\",exit_code=\"231\",reason=\"Odd\"} 1\n"), "{text}");
    }

    #[test]
    fn a_start_fails_with_the_sandbox_or_with_a_container_that_never_ran() {
        let (sandbox, start) = (Action::CreateSandbox { attempt: 0 }, |attempt| Action::StartContainer { name: "c".to_owned(), attempt });
        assert_eq!((begins_or_fails(&sandbox, false), begins_or_fails(&sandbox, true)), ((true, false), (true, true)));
        assert_eq!((begins_or_fails(&start(0), false), begins_or_fails(&start(0), true)), ((false, false), (false, true)));
        assert_eq!((begins_or_fails(&start(1), true), begins_or_fails(&Action::Resize, true)), ((false, false), (false, false)));
    }
}
