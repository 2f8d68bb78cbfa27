//! What can be said of an object of any kind: conditions, finalizers, warnings; and of workloads, how their pods are. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    denials,
    report::{Reason, Report},
    tree::{items, listed, text},
    warnings::warnings,
};

/// Conditions that are bad when they are True, and as they should be when they are False.
const BAD: [&str; 12] = [
    "Failed",
    "Failure",
    "FailureTarget",
    "ReplicaFailure",
    "Stalled",
    "Degraded",
    "Denied",
    "Dangling",
    "Suspended",
    "Terminating",
    "NonStructuralSchema",
    "Reconciling",
];
/// Conditions that tell what somebody is at: neither is a fault.
const NEITHER: [&str; 4] = ["Progressing", "Issuing", "Running", "EvictionInProgress"];

/// An object with its events, and what is known of its pods where it has some.
#[derive(Clone, Debug, Default)]
pub struct ObjectFacts {
    pub object: Value,
    pub kind: String,
    pub events: Vec<Value>,
    /// Explanations of those of its pods that are not well.
    pub pods: Vec<Report>,
    pub now: Timestamp,
}

/// Explains an object.
pub fn explain(facts: &ObjectFacts) -> Report {
    let meta = &facts.object["metadata"];
    let place = match text(&meta["namespace"]) {
        "" => text(&meta["name"]).to_owned(),
        namespace => format!("{namespace}/{}", text(&meta["name"])),
    };
    let object = format!("{} {place}", facts.kind.to_lowercase());
    let mut reasons = Vec::new();
    let deleted = meta["deletionTimestamp"].is_string();
    if deleted {
        reasons.extend(finalizers(&facts.object));
    }
    reasons.extend(conditions(&facts.kind, &facts.object));
    reasons.extend(facts.pods.iter().map(Report::as_reason));
    let warnings = warnings(&facts.events, facts.now);
    reasons.extend(warnings.fresh);
    let counts = counts(facts);
    let state = match (deleted, counts.is_empty(), reasons.is_empty()) {
        (true, _, _) => "Terminating".to_owned(),
        (false, true, true) => "nothing is wrong as far as can be seen".to_owned(),
        (false, true, false) => "not as it should be".to_owned(),
        (false, false, true) => format!("{counts}: nothing is wrong"),
        (false, false, false) => counts,
    };
    Report { object, state, reasons, earlier: warnings.earlier, ..Report::default() }
}

/// What holds up the deletion of an object.
pub fn finalizers(object: &Value) -> Option<Reason> {
    let names: Vec<&str> = items(&object["metadata"]["finalizers"]).map(text).collect();
    (!names.is_empty()).then(|| {
        Reason::new(format!("finalizers hold it: {}", listed(&names))).hint(match names[..] {
            ["foregroundDeletion"] => "it goes when everything that it owns is gone",
            ["orphan"] => "it goes when the garbage collector has let go what it owns",
            _ => "whoever set them removes them when done; if that controller is gone: kubectl patch … -p '{\"metadata\":{\"finalizers\":null}}' --type=merge",
        })
    })
}

/// Whether a condition tells of a fault. Of a node's only `Ready` should be True: others, also those that a node problem detector adds, name a
/// problem that there is or is not.
fn is_fault(kind: &str, condition: &Value) -> bool {
    let named = text(&condition["type"]);
    if NEITHER.contains(&named) {
        return false;
    }
    if named == "ScalingLimited" {
        // An autoscaler that wants fewer than the least is only idle.
        return condition["status"] == "True" && condition["reason"] == "TooManyReplicas";
    }
    let names_a_problem = BAD.contains(&named) || (kind == "Node" && named != "Ready");
    let bad = if names_a_problem { "True" } else { "False" };
    condition["status"] == bad || condition["status"] == "Unknown"
}

fn conditions(kind: &str, object: &Value) -> Vec<Reason> {
    let all = || items(&object["status"]["conditions"]);
    if kind == "Node" && !all().any(|condition| condition["type"] == "Ready") {
        return vec![Reason::new("its kubelet has not told yet how it is").hint("troupe status tells whether the node's daemon runs")];
    }
    let odd = all().filter(|condition| is_fault(kind, condition));
    odd.map(|condition| {
        let why =
            [text(&condition["reason"]), text(&condition["message"])].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        let told = format!("{} is {}", text(&condition["type"]), text(&condition["status"]));
        let reason = Reason::new(if why.is_empty() { told } else { format!("{told}: {why}") });
        Reason { hint: denials::hint(&why), ..reason }
    })
    .collect()
}

/// How many pods a workload has, in its own terms.
fn counts(facts: &ObjectFacts) -> String {
    let (spec, status) = (&facts.object["spec"], &facts.object["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    match facts.kind.as_str() {
        "ReplicaSet" | "StatefulSet" | "ReplicationController" => {
            format!("{} of {} replicas ready", count("readyReplicas"), spec["replicas"].as_i64().unwrap_or(1))
        }
        "DaemonSet" => format!("{} of {} pods ready", count("numberReady"), count("desiredNumberScheduled")),
        "Job" => {
            let wanted = spec["completions"].as_i64().map_or_else(String::new, |wanted| format!(" of {wanted}"));
            format!("{}{wanted} pods succeeded, {} active, {} failed", count("succeeded"), count("active"), count("failed"))
        }
        "Node" => {
            let cordoned = if spec["unschedulable"] == true { ", cordoned" } else { "" };
            format!("{}{cordoned}", if super::tree::is_true(&facts.object, "Ready") { "Ready" } else { "not Ready" })
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(kind: &str, object: Value) -> ObjectFacts {
        ObjectFacts { kind: kind.into(), object, ..ObjectFacts::default() }
    }

    #[test]
    fn conditions_that_are_not_as_they_should_be_are_told() {
        let node = facts(
            "Node",
            json!({"metadata": {"name": "one"}, "spec": {"unschedulable": true}, "status": {"conditions": [
                {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."},
                {"type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure"}, {"type": "MemoryPressure", "status": "False"}]}}),
        );
        let report = explain(&node);
        assert_eq!((report.object.as_str(), report.state.as_str()), ("node one", "not Ready, cordoned"));
        assert_eq!(report.reasons.len(), 2);
        assert!(report.text().contains("Ready is Unknown: NodeStatusUnknown: Kubelet stopped"), "{}", report.text());
    }

    #[test]
    fn a_healthy_node_stays_so_whatever_it_warned_of_an_hour_ago() {
        let conditions = json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"},
            {"type": "NetworkUnavailable", "status": "False", "reason": "NoOtherNodes"}, {"type": "KernelDeadlock", "status": "False"}]);
        let mut node = facts("Node", json!({"metadata": {"name": "one"}, "status": {"conditions": conditions}}));
        node.now = "2026-01-01T01:00:00Z".parse().expect("a time");
        let warning = |last: &str| json!({"type": "Warning", "reason": "FreeDiskSpaceFailed", "message": "too little", "lastTimestamp": last});
        node.events = vec![warning("2026-01-01T00:00:00Z"), json!({"type": "Normal", "reason": "RegisteredNode"})];
        assert_eq!(explain(&node).text(), "node one: Ready: nothing is wrong\n  earlier: FreeDiskSpaceFailed: too little (60m0s ago)\n");
        node.events.push(warning("2026-01-01T00:55:00Z"));
        assert_eq!(explain(&node).text(), "node one: Ready\n  • FreeDiskSpaceFailed: too little (2 times, last 5m0s ago)\n");
        node.events.clear();
        node.object["status"]["conditions"][3]["status"] = "True".into();
        assert_eq!(explain(&node).text(), "node one: Ready\n  • KernelDeadlock is True\n");
        node.object["status"] = json!({});
        assert!(explain(&node).text().starts_with("node one: not Ready\n  • its kubelet has not told yet"), "{}", explain(&node).text());
    }

    #[test]
    fn conditions_that_need_not_be_true_are_no_fault() {
        let object = |kind: &str, name: &str, status: &str, reason: &str| {
            let conditions = json!([{"type": name, "status": status, "reason": reason}]);
            explain(&facts(kind, json!({"metadata": {"name": "x"}, "status": {"conditions": conditions}}))).reasons.len()
        };
        for (kind, name, status, reason, told) in [
            ("FlowSchema", "Dangling", "False", "Found", 0),
            ("FlowSchema", "Dangling", "True", "NotFound", 1),
            ("Job", "Suspended", "False", "JobResumed", 0),
            ("HorizontalPodAutoscaler", "ScalingLimited", "False", "DesiredWithinRange", 0),
            ("HorizontalPodAutoscaler", "ScalingLimited", "True", "TooFewReplicas", 0),
            ("HorizontalPodAutoscaler", "ScalingLimited", "True", "TooManyReplicas", 1),
            ("HorizontalPodAutoscaler", "ScalingActive", "False", "FailedGetResourceMetric", 1),
            ("Widget", "Progressing", "False", "Done", 0),
            ("Widget", "Ready", "False", "Broken", 1),
            ("Widget", "Ready", "Unknown", "", 1),
        ] {
            assert_eq!(object(kind, name, status, reason), told, "{kind} {name} {status} {reason}");
        }
    }

    #[test]
    fn a_workload_tells_of_its_pods_and_warnings_once() {
        let mut set =
            facts("StatefulSet", json!({"metadata": {"namespace": "d", "name": "db"}, "spec": {"replicas": 3}, "status": {"readyReplicas": 1}}));
        set.pods = vec![Report {
            object: "pod d/db-1".into(),
            state: "Pending".into(),
            reasons: vec![Reason::new("no node").hint("add one")],
            ..Report::default()
        }];
        let warning = json!({"type": "Warning", "reason": "FailedCreate", "message": "forbidden"});
        set.events = vec![warning.clone(), warning, json!({"type": "Normal", "reason": "SuccessfulCreate"})];
        let text = explain(&set).text();
        for wanted in ["statefulset d/db: 1 of 3 replicas ready", "pod d/db-1: Pending", "no node", "→ add one", "FailedCreate: forbidden"] {
            assert_eq!(text.matches(wanted).count(), 1, "{wanted} in:\n{text}");
        }
    }

    #[test]
    fn whatever_is_deleted_and_not_gone_tells_its_finalizers() {
        let map =
            json!({"metadata": {"namespace": "d", "name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/hold"]}});
        let report = explain(&facts("ConfigMap", map));
        assert_eq!(report.state, "Terminating");
        assert!(report.text().contains("finalizers hold it: example.com/hold"));
        assert_eq!(explain(&facts("ConfigMap", json!({"metadata": {"name": "x"}}))).state, "nothing is wrong as far as can be seen");
    }
}
