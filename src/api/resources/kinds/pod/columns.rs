//! What `kubectl get pods` shows.

use serde_json::Value;

use super::summary::Summary;
use crate::{
    meta::{Clock, Object},
    resources::{
        Column,
        printing::{age, name, or_none, string, wide},
        resource::age_of,
        tree::{items, text},
    },
};

/// The columns of pods.
pub fn columns() -> Vec<Column> {
    vec![
        name(),
        string("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        string("Status", "The aggregate status of the containers in this pod."),
        string(
            "Restarts",
            "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
        ),
        age(),
        wide("IP", "The IP address of the pod, reachable at least within the cluster."),
        wide("Node", "The node on which this pod is scheduled."),
        wide("Nominated Node", "The node that this pod may take once the pods it preempts are gone."),
        wide("Readiness Gates", "True conditions among those that readiness also depends on."),
    ]
}

/// The cells of one pod.
pub fn cells(pod: &Object, clock: &dyn Clock) -> Vec<Value> {
    let root = Value::Object(pod.root().clone());
    let summary = Summary::of(&root);
    let ip = items(&root, &["status", "podIPs"]).first().map_or("", |ip| text(ip, &["ip"]));
    vec![
        pod.name().into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.clone().into(),
        summary.restarts_text(clock).into(),
        age_of(pod, clock).into(),
        or_none(ip).into(),
        or_none(pod.str(&["spec", "nodeName"])).into(),
        or_none(pod.str(&["status", "nominatedNodeName"])).into(),
        readiness_gates(&root).into(),
    ]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let is_true = |gate: &&Value| {
        let kind = text(gate, &["conditionType"]);
        let condition = items(pod, &["status", "conditions"]).iter().find(|condition| text(condition, &["type"]) == kind);
        condition.is_some_and(|condition| text(condition, &["status"]) == "True")
    };
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len())
}
