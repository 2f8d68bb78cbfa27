//! What events tell of a node, in upstream's words.

use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};

use crate::kubelet::events::Note;

/// Conditions, and how they are called where they hold and where they do not.
const PRESSURES: [(&str, &str, &str); 3] = [
    ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
];

/// That a node is in another state.
pub fn is_now(name: &str, state: &str) -> Note {
    Note::normal(state, format!("Node {name} status is now: {state}"))
}

/// What is to tell of conditions that are new, or not as they were `before`.
pub fn changes(name: &str, before: &[NodeCondition], now: &[NodeCondition]) -> Vec<Note> {
    let changed = PRESSURES.into_iter().filter_map(|(kind, under, well)| {
        let status = status_of(now, kind)?;
        (status_of(before, kind) != Some(status)).then(|| is_now(name, if status == "True" { under } else { well }))
    });
    changed.collect()
}

fn status_of<'a>(conditions: &'a [NodeCondition], kind: &str) -> Option<&'a str> {
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

/// That the machine began anew since its node was last told of.
pub fn rebooted(name: &str, before: Option<&NodeStatus>, boot_id: &str) -> Option<Note> {
    let last = before?.node_info.as_ref().map(|info| info.boot_id.as_str())?;
    let other = !last.is_empty() && last != boot_id;
    other.then(|| Note::warning("Rebooted", format!("Node {name} has been rebooted, boot id: {boot_id}")))
}

/// Whether no pods are to be placed on a node.
pub fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conditions(disk: &str) -> Vec<NodeCondition> {
        let all =
            json!([{"type": "Ready", "status": "True"}, {"type": "MemoryPressure", "status": "False"}, {"type": "DiskPressure", "status": disk}]);
        serde_json::from_value(all).expect("conditions")
    }

    fn reasons(notes: Vec<Note>) -> Vec<String> {
        notes.into_iter().map(|note| note.reason).collect()
    }

    #[test]
    fn conditions_are_told_when_they_are_new_and_when_they_change() {
        assert_eq!(reasons(changes("n1", &[], &conditions("False"))), ["NodeHasSufficientMemory", "NodeHasNoDiskPressure"]);
        assert!(changes("n1", &conditions("False"), &conditions("False")).is_empty());
        let told = changes("n1", &conditions("False"), &conditions("True"));
        assert_eq!(told, [Note::normal("NodeHasDiskPressure", "Node n1 status is now: NodeHasDiskPressure")]);
        assert_eq!(reasons(changes("n1", &conditions("Unknown"), &conditions("False"))), ["NodeHasNoDiskPressure"]);
    }

    #[test]
    fn a_machine_that_began_anew_is_told_by_its_boot_id() {
        let before: NodeStatus = serde_json::from_value(json!({"nodeInfo": {"bootID": "a"}})).expect("a status");
        assert_eq!(rebooted("n1", Some(&before), "a"), None);
        assert_eq!(rebooted("n1", None, "a"), None);
        assert_eq!(rebooted("n1", Some(&before), "b"), Some(Note::warning("Rebooted", "Node n1 has been rebooted, boot id: b")));
    }
}
