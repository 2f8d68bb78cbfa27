//! What the scheduler counts.

use std::time::Duration;

use troupe_api::metrics::{Collect, Counter, Family, Gauge, Histogram, exponential};

use super::{framework::Point, queue::QueueDepth};

const ATTEMPT_SECONDS: [f64; 15] = exponential(0.001, 2.0);
const SLI_SECONDS: [f64; 20] = exponential(0.01, 2.0);
const EXTENSION_POINT_SECONDS: [f64; 12] = exponential(0.0001, 2.0);
const ATTEMPTS: [f64; 5] = exponential(1.0, 2.0);
const VICTIMS: [f64; 7] = exponential(1.0, 2.0);

static SCHEDULED: Family<Counter> = Family::new(
    "scheduler_schedule_attempts_total",
    "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.",
    &["result", "profile"],
);
static ATTEMPT_DURATIONS: Family<Histogram> = Family::histogram(
    "scheduler_scheduling_attempt_duration_seconds",
    "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
    &["result", "profile"],
    &ATTEMPT_SECONDS,
);
static ALGORITHM_DURATIONS: Family<Histogram> =
    Family::histogram("scheduler_scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds", &[], &ATTEMPT_SECONDS);
static SLI_DURATIONS: Family<Histogram> = Family::histogram(
    "scheduler_pod_scheduling_sli_duration_seconds",
    "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.",
    &["attempts"],
    &SLI_SECONDS,
);
static POD_ATTEMPTS: Family<Histogram> =
    Family::histogram("scheduler_pod_scheduling_attempts", "Number of attempts to successfully schedule a pod.", &[], &ATTEMPTS);
static PENDING: Family<Gauge> = Family::new(
    "scheduler_pending_pods",
    "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated.",
    &["queue"],
);
static INCOMING: Family<Counter> =
    Family::new("scheduler_queue_incoming_pods_total", "Number of pods added to scheduling queues by event and queue type.", &["queue", "event"]);
static EXTENSION_POINTS: Family<Histogram> = Family::histogram(
    "scheduler_framework_extension_point_duration_seconds",
    "Latency for running all plugins of a specific extension point.",
    &["extension_point", "status", "profile"],
    &EXTENSION_POINT_SECONDS,
);
static PERMIT_WAITS: Family<Histogram> =
    Family::histogram("scheduler_permit_wait_duration_seconds", "Duration of waiting on permit.", &["result"], &ATTEMPT_SECONDS);
static CACHE_SIZE: Family<Gauge> =
    Family::new("scheduler_cache_size", "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.", &["type"]);

static GOROUTINES: Family<Gauge> =
    Family::new("scheduler_goroutines", "Number of running goroutines split by the work they do such as binding.", &["operation"]);
static UNSCHEDULABLE: Family<Gauge> = Family::new(
    "scheduler_unschedulable_pods",
    "The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for all plugins that caused it to not schedule and so this metric have meaning only when broken down by plugin.",
    &["plugin", "profile"],
);
static EVALUATIONS: Family<Counter> = Family::new(
    "scheduler_plugin_evaluation_total",
    "Number of attempts to schedule pods by each plugin and the extension point (available only in PreFilter, Filter, PreScore, and Score).",
    &["plugin", "extension_point", "profile"],
);
static PREEMPTION_ATTEMPTS: Family<Counter> =
    Family::new("scheduler_preemption_attempts_total", "Total preemption attempts in the cluster till now", &[]);
static PREEMPTION_VICTIMS: Family<Histogram> =
    Family::histogram("scheduler_preemption_victims", "Number of selected preemption victims", &[], &VICTIMS);

/// What the scheduler counts.
pub static COLLECTORS: [&dyn Collect; 15] = [
    &EXTENSION_POINTS,
    &CACHE_SIZE,
    &GOROUTINES,
    &PENDING,
    &PERMIT_WAITS,
    &EVALUATIONS,
    &POD_ATTEMPTS,
    &SLI_DURATIONS,
    &PREEMPTION_ATTEMPTS,
    &PREEMPTION_VICTIMS,
    &INCOMING,
    &SCHEDULED,
    &ALGORITHM_DURATIONS,
    &ATTEMPT_DURATIONS,
    &UNSCHEDULABLE,
];

/// Work beside decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Binding,
    PrioritizingExtender,
    /// Devices are searched for a pod, or that waits for its turn.
    SearchingDevices,
}

/// Work of a kind goes on as long as this lives.
#[derive(Debug)]
pub struct Working(&'static Gauge);

impl Working {
    pub fn on(operation: Operation) -> Self {
        let label = match operation {
            Operation::Binding => "binding",
            Operation::PrioritizingExtender => "prioritizing_extender",
            Operation::SearchingDevices => "searching_devices",
        };
        let gauge = GOROUTINES.with(&[label]);
        gauge.add(1.0);
        Working(gauge)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}

/// A plugin was asked so often at a point.
pub fn evaluated(plugin: &str, point: Point, profile: &str, times: u64) {
    if times > 0 {
        EVALUATIONS.with(&[plugin, point.name(), profile]).add(times);
    }
}

/// So many pods of a profile a plugin keeps from all nodes.
pub fn rejected(plugin: &str, profile: &str, pods: usize) {
    UNSCHEDULABLE.with(&[plugin, profile]).set_count(pods);
}

/// Room was to be made for a pod, by the removal of so many others if any.
pub fn preempted(victims: Option<usize>) {
    PREEMPTION_ATTEMPTS.with(&[]).increment();
    if let Some(victims) = victims {
        PREEMPTION_VICTIMS.with(&[]).observe(u32::try_from(victims).unwrap_or(u32::MAX).into());
    }
}

/// All plugins of a profile were asked at a point for one pod, and this came of it.
pub fn asked(profile: &str, point: Point, status: &'static str, took: Duration) {
    EXTENSION_POINTS.with(&[point.name(), status, profile]).observe_time(took);
}

/// A pod waited so long for plugins to permit its binding, with this outcome.
pub fn permitted(status: &'static str, took: Duration) {
    PERMIT_WAITS.with(&[status]).observe_time(took);
}

/// A pod came into a queue because of an event.
pub fn incoming(queue: &'static str, event: &'static str) {
    INCOMING.with(&[queue, event]).increment();
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    Scheduled,
    Unschedulable,
    Error,
}

/// An attempt of a profile ended after `took`.
pub fn attempted(profile: &str, result: AttemptResult, took: Duration) {
    let labels = [
        match result {
            AttemptResult::Scheduled => "scheduled",
            AttemptResult::Unschedulable => "unschedulable",
            AttemptResult::Error => "error",
        },
        profile,
    ];
    SCHEDULED.with(&labels).increment();
    ATTEMPT_DURATIONS.with(&labels).observe_time(took);
}

/// A decision took so long.
pub fn decided(took: Duration) {
    ALGORITHM_DURATIONS.with(&[]).observe_time(took);
}

/// A pod has its node, so long after it entered the queue and after so many attempts.
pub fn scheduled(waited: Duration, attempts: u32) {
    POD_ATTEMPTS.with(&[]).observe(attempts.into());
    // Pods that needed many attempts are told apart no further.
    let attempts = if attempts > 15 { "16+".to_owned() } else { attempts.to_string() };
    SLI_DURATIONS.with(&[&attempts]).observe_time(waited);
}

/// What waits, and what the scheduler knows.
pub fn state(depth: QueueDepth, nodes: usize, assumed: usize) {
    PENDING.with(&["active"]).set_count(depth.active);
    PENDING.with(&["backoff"]).set_count(depth.backoff);
    PENDING.with(&["unschedulable"]).set_count(depth.unschedulable);
    PENDING.with(&["gated"]).set_count(depth.gated);
    CACHE_SIZE.with(&["nodes"]).set_count(nodes);
    CACHE_SIZE.with(&["assumed_pods"]).set_count(assumed);
}
