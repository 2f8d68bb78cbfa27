//! Why a pod is not what it should be. Pure, over what the API says.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    containers, network_policy, placement,
    pod_group::Gang,
    ranking,
    report::{Reason, Report},
    resource_claim::{self, PodClaim},
    terminating,
    tree::{age, condition, is_true, items, newest, span, text},
    warnings::Happened,
};

/// All that an explanation of a pod looks at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub pod: Value,
    /// Events about it.
    pub events: Vec<Value>,
    /// What the scheduler tells of the profile that schedules it, while it has no node; null when nobody can be asked.
    pub scheduler: Value,
    /// What it says about the pod; null when nobody can be asked. By its plugins, while it has no node (`scheduler::explain::Explanation`); then
    /// how the nodes compared (`{"ranking": scheduler::ranking::Ranking}`).
    pub explained: Value,
    /// The node it is bound to; null when there is none of that name.
    pub node: Value,
    /// All nodes, while the pod has none.
    pub nodes: Vec<Value>,
    /// All pods that have a node and have not ended, while the pod has none.
    pub tenants: Vec<Value>,
    /// All namespaces and disruption budgets, while the pod has no node.
    pub namespaces: Vec<Value>,
    pub budgets: Vec<Value>,
    /// The claims it mounts by name; null for one that does not exist.
    pub claims: BTreeMap<String, Value>,
    /// Its claims of devices.
    pub resource_claims: Vec<PodClaim>,
    /// The group that it gets a node with, while it has none.
    pub gang: Option<Gang>,
    /// The ends of the logs of containers that crashed, by name.
    pub logs: BTreeMap<String, Vec<String>>,
    /// What its worker on the node says of itself; null when nobody can be asked.
    pub worker: Value,
    /// The network policies of its namespace.
    pub policies: Vec<Value>,
    pub now: Timestamp,
}

impl Facts {
    pub fn name(&self) -> &str {
        text(&self.pod["metadata"]["name"])
    }

    /// The end of a container's log, as details.
    pub fn log_of(&self, container: &str) -> Vec<String> {
        let lines = self.logs.get(container).cloned().unwrap_or_default();
        lines.into_iter().map(|line| format!("log: {line}")).collect()
    }

    /// The worker's last step and what it waits for, as details.
    pub fn worker_says(&self) -> Vec<String> {
        let waits = items(&self.worker["waitsFor"]).map(|step| format!("the kubelet waits for: {}", text(step)));
        waits.collect()
    }
}

/// Explains a pod.
pub fn explain(facts: &Facts) -> Report {
    let (mut state, mut reasons) = judge(facts);
    let meta = &facts.pod["metadata"];
    let ends = if meta["deletionTimestamp"].is_string() { Happened::default() } else { containers::last_ends(facts) };
    if !ends.fresh.is_empty()
        && let Some(well) = state.strip_suffix(": nothing is wrong")
    {
        state = well.to_owned();
    }
    reasons.extend(ends.fresh);
    reasons.extend(network_policy::of_pod(&facts.pod, &facts.policies));
    Report {
        object: format!("pod {}/{}", text(&meta["namespace"]), facts.name()),
        state,
        reasons,
        placed: ranking::lines(facts),
        earlier: ends.earlier,
    }
}

fn judge(facts: &Facts) -> (String, Vec<Reason>) {
    let pod = &facts.pod;
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return terminating::explain(facts);
    }
    let phase = text(&pod["status"]["phase"]);
    let since = age(&pod["metadata"]["creationTimestamp"], facts.now).map(span).unwrap_or_default();
    match phase {
        "Succeeded" => return ("Succeeded: all its containers ended with exit code 0".into(), Vec::new()),
        "Failed" => return (failed_state(pod), containers::explain(facts)),
        _ => {}
    }
    if text(&pod["spec"]["nodeName"]).is_empty() {
        return (format!("Pending for {since}, not on a node yet"), placement::explain(facts));
    }
    let mut reasons: Vec<Reason> = node(facts).into_iter().collect();
    reasons.extend(unbound(facts));
    reasons.extend(containers::explain(facts));
    if items(&pod["status"]["containerStatuses"]).next().is_none() {
        reasons.extend(unseen(facts));
    }
    reasons.extend(gates(pod));
    if reasons.is_empty() && is_true(pod, "Ready") {
        let restarts: i64 = items(&pod["status"]["containerStatuses"]).filter_map(|status| status["restartCount"].as_i64()).sum();
        let restarts = if restarts > 0 { format!(" ({restarts} restarts so far)") } else { String::new() };
        return (format!("Running and Ready{restarts}: nothing is wrong"), Vec::new());
    }
    let state = if phase == "Running" { format!("Running, not Ready, {since} old") } else { format!("{phase} for {since}") };
    (state, reasons)
}

fn failed_state(pod: &Value) -> String {
    let (reason, message) = (text(&pod["status"]["reason"]), text(&pod["status"]["message"]));
    match (reason, message) {
        ("", _) => "Failed: a container ended in failure and is not started again".into(),
        (reason, "") => format!("Failed: {reason}"),
        (reason, message) => format!("Failed: {reason}: {message}"),
    }
}

fn node(facts: &Facts) -> Option<Reason> {
    let name = text(&facts.pod["spec"]["nodeName"]);
    if facts.node.is_null() {
        return Some(Reason::new(format!("its node {name} does not exist")).hint("the pod garbage collector will remove the pod"));
    }
    let ready = condition(&facts.node, "Ready")?;
    (ready["status"] != "True").then(|| {
        Reason::new(format!("its node {name} is not Ready: {}", text(&ready["message"])))
            .hint("the pod is evicted after its tolerations end (5 minutes by default)")
    })
}

/// Claims that hold up a pod on its node.
fn unbound(facts: &Facts) -> Vec<Reason> {
    let mut reasons = placement::claims(facts);
    reasons.extend(resource_claim::of_pod(&facts.resource_claims));
    reasons
}

/// The kubelet has not told anything yet.
fn unseen(facts: &Facts) -> Option<Reason> {
    if let Some(event) = newest(&facts.events, &["FailedMount", "FailedCreatePodSandBox", "FailedAttachVolume", "FailedPrepareDynamicResources"]) {
        return Some(Reason::new(format!("{}: {}", text(&event["reason"]), text(&event["message"]))));
    }
    Some(Reason::new("the kubelet of its node has not reported on it yet").details(facts.worker_says()))
}

/// Conditions that the pod itself asks for before it counts as ready.
fn gates(pod: &Value) -> Vec<Reason> {
    let wanted = items(&pod["spec"]["readinessGates"]).map(|gate| text(&gate["conditionType"]));
    let missing = wanted.filter(|kind| !is_true(pod, kind));
    missing.map(|kind| Reason::new(format!("its readiness gate {kind} is not True")).hint("the controller behind that condition sets it")).collect()
}
