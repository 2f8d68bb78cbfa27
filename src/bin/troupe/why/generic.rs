//! What can be said of an object of any kind: conditions, finalizers, warnings; and of workloads, how their pods are. Pure.

use serde_json::Value;

use super::{
    report::{Reason, Report},
    tree::{items, listed, text},
};

/// Conditions that are bad when they are True; all others when they are False.
const BAD: [&str; 9] =
    ["Failed", "Failure", "ReplicaFailure", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable", "Stalled", "Degraded"];
/// Warnings shown.
const WARNINGS: usize = 3;

/// An object with its events, and what is known of its pods where it has some.
#[derive(Clone, Debug, Default)]
pub struct ObjectFacts {
    pub object: Value,
    pub kind: String,
    pub events: Vec<Value>,
    /// Explanations of those of its pods that are not well.
    pub pods: Vec<Report>,
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
    reasons.extend(conditions(&facts.object));
    reasons.extend(facts.pods.iter().map(Report::as_reason));
    reasons.extend(warnings(&facts.events));
    let counts = counts(facts);
    let state = match (deleted, counts.is_empty(), reasons.is_empty()) {
        (true, _, _) => "Terminating".to_owned(),
        (false, true, true) => "nothing is wrong as far as can be seen".to_owned(),
        (false, true, false) => "not as it should be".to_owned(),
        (false, false, true) => format!("{counts}: nothing is wrong"),
        (false, false, false) => counts,
    };
    Report { object, state, reasons }
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

fn conditions(object: &Value) -> Vec<Reason> {
    let odd = items(&object["status"]["conditions"]).filter(|condition| {
        let bad = if BAD.contains(&text(&condition["type"])) { "True" } else { "False" };
        condition["status"] == bad || condition["status"] == "Unknown"
    });
    odd.map(|condition| {
        let why =
            [text(&condition["reason"]), text(&condition["message"])].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        Reason::new(format!("{} is {}: {why}", text(&condition["type"]), text(&condition["status"])))
    })
    .collect()
}

fn warnings(events: &[Value]) -> Vec<Reason> {
    let mut seen = Vec::new();
    for event in events.iter().rev().filter(|event| event["type"] == "Warning") {
        let told = format!("{}: {}", text(&event["reason"]), text(&event["message"]));
        if !seen.contains(&told) && seen.len() < WARNINGS {
            seen.push(told);
        }
    }
    seen.into_iter().map(Reason::new).collect()
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
    fn a_workload_tells_of_its_pods_and_warnings_once() {
        let mut set =
            facts("StatefulSet", json!({"metadata": {"namespace": "d", "name": "db"}, "spec": {"replicas": 3}, "status": {"readyReplicas": 1}}));
        set.pods = vec![Report { object: "pod d/db-1".into(), state: "Pending".into(), reasons: vec![Reason::new("no node").hint("add one")] }];
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
