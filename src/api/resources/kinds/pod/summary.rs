//! The one-word state of a pod, with its ready and restart counts.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    meta::{Clock, time::parse_time},
    resources::{
        printing::elapsed,
        tree::{at, flag, int, items, text},
    },
};

/// What the READY, STATUS and RESTARTS columns tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub ready: usize,
    pub total: usize,
    pub reason: String,
    pub restarts: i64,
    pub last_restart: Option<Timestamp>,
}

/// Restarts of one group of containers.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += int(status, &["restartCount"]);
        let finished = parse_time(text(status, &["lastState", "terminated", "finishedAt"])).ok();
        self.last = self.last.max(finished);
    }
}

impl Summary {
    /// Reads a whole pod.
    pub fn of(pod: &Value) -> Self {
        let mut summary = Summary { total: items(pod, &["spec", "containers"]).len(), reason: phase_reason(pod), ..Summary::default() };
        summary.total += items(pod, &["spec", "initContainers"]).iter().filter(|container| is_sidecar(container)).count();
        let (initializing, all, sidecars) = summary.read_init_containers(pod);
        let restarts = if !initializing || has_condition(pod, "Initialized") { summary.read_containers(pod, sidecars) } else { all };
        (summary.restarts, summary.last_restart) = (restarts.count, restarts.last);
        summary.apply_deletion(pod);
        summary
    }

    /// `3 (5m ago)`.
    pub fn restarts_text(&self, clock: &dyn Clock) -> String {
        match self.last_restart {
            Some(last) if self.restarts != 0 => format!("{} ({} ago)", self.restarts, elapsed(last, clock.now())),
            _ => self.restarts.to_string(),
        }
    }

    /// Whether the pod still initializes, and the restarts of all init containers and of sidecars alone.
    fn read_init_containers(&mut self, pod: &Value) -> (bool, Restarts, Restarts) {
        let specs = items(pod, &["spec", "initContainers"]);
        let (mut all, mut sidecars) = (Restarts::default(), Restarts::default());
        for (index, status) in items(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
            let sidecar = specs.iter().any(|spec| text(spec, &["name"]) == text(status, &["name"]) && is_sidecar(spec));
            all.add(status);
            if sidecar {
                sidecars.add(status);
            }
            let terminated = at(status, &["state", "terminated"]);
            if terminated.is_object() && int(terminated, &["exitCode"]) == 0 {
                continue;
            }
            if sidecar && flag(status, &["started"]) {
                self.ready += usize::from(flag(status, &["ready"]));
                continue;
            }
            self.reason = init_reason(status, index, specs.len());
            return (true, all, sidecars);
        }
        (false, all, sidecars)
    }

    fn read_containers(&mut self, pod: &Value, mut restarts: Restarts) -> Restarts {
        let (mut running, mut failure) = (false, None);
        for status in items(pod, &["status", "containerStatuses"]).iter().rev() {
            restarts.add(status);
            let waiting = text(status, &["state", "waiting", "reason"]);
            let terminated = at(status, &["state", "terminated"]);
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if terminated.is_object() {
                self.reason = exit_reason(terminated);
                if int(terminated, &["exitCode"]) != 0 {
                    failure = Some(self.reason.clone());
                }
            } else if flag(status, &["ready"]) && at(status, &["state", "running"]).is_object() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            self.reason = match (running, failure) {
                (true, _) if has_condition(pod, "Ready") => "Running".to_owned(),
                (_, Some(failure)) => failure,
                (true, None) => "NotReady".to_owned(),
                (false, None) => "Completed".to_owned(),
            };
        }
        restarts
    }

    fn apply_deletion(&mut self, pod: &Value) {
        if !at(pod, &["metadata", "deletionTimestamp"]).is_string() {
            return;
        }
        if text(pod, &["status", "reason"]) == "NodeLost" {
            self.reason = "Unknown".to_owned();
        } else if !matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
            self.reason = "Terminating".to_owned();
        }
    }
}

fn phase_reason(pod: &Value) -> String {
    let gated = items(pod, &["status", "conditions"])
        .iter()
        .any(|condition| text(condition, &["type"]) == "PodScheduled" && text(condition, &["reason"]) == "SchedulingGated");
    let reason = text(pod, &["status", "reason"]);
    match (gated, reason) {
        (true, _) => "SchedulingGated".to_owned(),
        (false, "") => text(pod, &["status", "phase"]).to_owned(),
        (false, reason) => reason.to_owned(),
    }
}

fn init_reason(status: &Value, index: usize, total: usize) -> String {
    let terminated = at(status, &["state", "terminated"]);
    let waiting = text(status, &["state", "waiting", "reason"]);
    if terminated.is_object() {
        format!("Init:{}", exit_reason(terminated))
    } else if !waiting.is_empty() && waiting != "PodInitializing" {
        format!("Init:{waiting}")
    } else {
        format!("Init:{index}/{total}")
    }
}

fn exit_reason(terminated: &Value) -> String {
    match (text(terminated, &["reason"]), int(terminated, &["signal"])) {
        ("", 0) => format!("ExitCode:{}", int(terminated, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn is_sidecar(container: &Value) -> bool {
    text(container, &["restartPolicy"]) == "Always"
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    items(pod, &["status", "conditions"]).iter().any(|condition| text(condition, &["type"]) == kind && text(condition, &["status"]) == "True")
}
