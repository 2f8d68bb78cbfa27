//! The conditions of silent nodes, and the taints that conditions ask for. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::condition;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NO_EXECUTE: &str = "NoExecute";

/// Whether a node that is not ready may be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emptying {
    /// Now.
    Allowed,
    /// Later: others come first.
    Waits,
    /// Not at all, and none is under way any more: all nodes seem lost.
    Stopped,
}

/// The conditions of a node that went silent; `None` when they say so already.
pub fn silenced(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let unknown = |reason: &str, message: &str, heartbeat| NodeCondition {
            type_: kind.into(),
            status: "Unknown".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: heartbeat,
            last_transition_time: Some(Time(now)),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(known) if known.status == "Unknown" => {}
            Some(known) => {
                *known = unknown("NodeStatusUnknown", "Kubelet stopped posting node status.", known.last_heartbeat_time.take());
                changed = true;
            }
            None => {
                let created = node.metadata.creation_timestamp.clone();
                conditions.push(unknown("NodeStatusNeverUpdated", "Kubelet never posted node status.", created));
                changed = true;
            }
        }
    }
    changed.then_some(conditions)
}

fn has(taints: &[Taint], key: &str, effect: &str) -> bool {
    taints.iter().any(|taint| taint.key == key && taint.effect == effect)
}

/// The NoExecute taint that the node's condition asks for.
fn emptying_taint(node: &Node) -> Option<&'static str> {
    match condition(node, "Ready")?.status.as_str() {
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    }
}

/// Whether the node should be emptied and is not yet: it must take its turn.
pub fn needs_a_turn(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    emptying_taint(node).is_some() && [NOT_READY, UNREACHABLE].iter().all(|key| !has(taints, key, NO_EXECUTE))
}

/// The taints that the node's conditions and `unschedulable` ask for, other taints kept. `None` when they are there.
pub fn tainted(node: &Node, emptying: Emptying, now: Timestamp) -> Option<Vec<Taint>> {
    let current = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let is = |kind: &str, status: &str| condition(node, kind).is_some_and(|condition| condition.status == status);
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    // A taint that is there is exchanged at once for the one that fits better.
    let goes_on = [NOT_READY, UNREACHABLE].iter().any(|key| has(&current, key, NO_EXECUTE));
    let empties = emptying == Emptying::Allowed || (goes_on && emptying == Emptying::Waits);
    let wanted_key = emptying_taint(node).filter(|_| empties);
    let wanted = [
        (NOT_READY, "NoSchedule", is("Ready", "False")),
        (NOT_READY, NO_EXECUTE, wanted_key == Some(NOT_READY)),
        (UNREACHABLE, "NoSchedule", is("Ready", "Unknown")),
        (UNREACHABLE, NO_EXECUTE, wanted_key == Some(UNREACHABLE)),
        ("node.kubernetes.io/memory-pressure", "NoSchedule", is("MemoryPressure", "True")),
        ("node.kubernetes.io/disk-pressure", "NoSchedule", is("DiskPressure", "True")),
        ("node.kubernetes.io/pid-pressure", "NoSchedule", is("PIDPressure", "True")),
        ("node.kubernetes.io/network-unavailable", "NoSchedule", is("NetworkUnavailable", "True")),
        ("node.kubernetes.io/unschedulable", "NoSchedule", cordoned),
    ];
    let mut taints = current.clone();
    for (key, effect, on) in wanted {
        let at = taints.iter().position(|taint| taint.key == key && taint.effect == effect);
        match (on, at) {
            (true, None) => taints.push(Taint { key: key.into(), effect: effect.into(), time_added: Some(Time(now)), value: None }),
            (false, Some(at)) => drop(taints.remove(at)),
            _ => {}
        }
    }
    (taints != current).then_some(taints)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(ready: &str, unschedulable: bool) -> Node {
        let object = json!({"metadata": {"name": "a"}, "spec": {"unschedulable": unschedulable, "taints": [{"key": "own", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        serde_json::from_value(object).expect("a node")
    }

    fn keys(node: &Node, emptying: Emptying) -> Option<Vec<String>> {
        tainted(node, emptying, Timestamp::UNIX_EPOCH)
            .map(|taints| taints.into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect())
    }

    fn with_taints(ready: &str, like: &Node) -> Node {
        let mut node = node(ready, false);
        node.spec.as_mut().expect("set").taints = tainted(like, Emptying::Allowed, Timestamp::UNIX_EPOCH);
        node
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        assert_eq!(keys(&node("True", false), Emptying::Allowed), None);
        let found = keys(&node("Unknown", true), Emptying::Allowed).expect("changed");
        assert_eq!(
            found,
            [
                "own:NoSchedule",
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute",
                "node.kubernetes.io/unschedulable:NoSchedule"
            ]
        );
        let recovered = with_taints("True", &node("False", false));
        assert_eq!(keys(&recovered, Emptying::Waits), Some(vec!["own:NoSchedule".into()]));
    }

    #[test]
    fn a_node_that_says_nothing_of_being_ready_loses_the_taint_that_admission_gave_it() {
        let taints = json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": "own", "effect": "NoSchedule"}]);
        let node = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"taints": taints}})).expect("a node");
        assert_eq!(keys(&node, Emptying::Waits), Some(vec!["own:NoSchedule".into()]), "as upstream");
    }

    #[test]
    fn a_node_that_waits_for_its_turn_takes_no_new_pods_and_keeps_those_it_has() {
        let silent = node("Unknown", false);
        assert!(needs_a_turn(&silent));
        let found = keys(&silent, Emptying::Waits).expect("changed");
        assert_eq!(found, ["own:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule"]);
    }

    #[test]
    fn a_node_that_is_being_emptied_needs_no_second_turn() {
        let worse = with_taints("Unknown", &node("False", false));
        assert!(!needs_a_turn(&worse));
        let found = keys(&worse, Emptying::Waits).expect("changed");
        assert!(found.contains(&"node.kubernetes.io/unreachable:NoExecute".to_owned()), "{found:?}");
        assert!(!found.contains(&"node.kubernetes.io/not-ready:NoExecute".to_owned()), "{found:?}");
    }

    #[test]
    fn when_emptying_is_stopped_the_nodes_under_way_are_spared() {
        let going = with_taints("Unknown", &node("Unknown", false));
        let found = keys(&going, Emptying::Stopped).expect("changed");
        assert_eq!(found, ["own:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule"]);
    }

    #[test]
    fn a_silent_node_becomes_unknown_once() {
        let silent = silenced(&node("True", false), Timestamp::UNIX_EPOCH).expect("changed");
        assert!(silent.iter().all(|condition| condition.status == "Unknown") && silent.len() == 4);
        let reasons: Vec<_> = silent.iter().filter_map(|condition| condition.reason.as_deref()).collect();
        assert_eq!(reasons, ["NodeStatusUnknown", "NodeStatusNeverUpdated", "NodeStatusNeverUpdated", "NodeStatusNeverUpdated"]);
        let mut after = node("True", false);
        after.status.as_mut().expect("set").conditions = Some(silent);
        assert_eq!(silenced(&after, Timestamp::UNIX_EPOCH), None);
    }
}
