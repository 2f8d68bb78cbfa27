//! What controllers ask about nodes.

use k8s_openapi::api::core::v1::Node;

/// Says that a node is down for good, or until somebody takes this taint away.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Its Ready condition is True.
pub fn is_ready(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Somebody has said that it is down: what it holds may be taken from it.
pub fn is_out_of_service(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.key == OUT_OF_SERVICE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_ready_or_out_of_service_as_it_says() {
        let node = |ready: &str, taint: &str| {
            let object =
                json!({"spec": {"taints": [{"key": taint, "effect": "NoExecute"}]}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            serde_json::from_value::<Node>(object).expect("a node")
        };
        assert!(is_ready(&node("True", "a")) && !is_ready(&node("Unknown", "a")) && !is_ready(&Node::default()));
        assert!(is_out_of_service(&node("True", OUT_OF_SERVICE)) && !is_out_of_service(&node("True", "a")) && !is_out_of_service(&Node::default()));
    }
}
