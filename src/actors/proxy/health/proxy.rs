//! The proxy's own health.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use troupe_api::metrics::{Counter, Family};

use super::document::Document;
use crate::proxy::sync_state::State;

/// The cluster autoscaler's, before it removes a node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

pub static HEALTHZ: Family<Counter> = Family::new("kubeproxy_proxy_healthz_total", "Cumulative proxy healthz HTTP status", &["code"]);
pub static LIVEZ: Family<Counter> = Family::new("kubeproxy_proxy_livez_total", "Cumulative proxy livez HTTP status", &["code"]);

/// Answers at a path, if something is there. `/livez` says whether the proxy keeps up, `/healthz` also whether its node may get traffic.
pub fn answer(path: &str, node: Option<&Node>, now: Timestamp) -> Option<Document> {
    let (document, counter) = match path {
        "/healthz" => (Document::of_proxy(&State::by_family(), Some(node.is_some_and(is_eligible)), now), &HEALTHZ),
        "/livez" => (Document::of_proxy(&State::by_family(), None, now), &LIVEZ),
        _ => return None,
    };
    counter.with(&[if document.code == 200 { "200" } else { "503" }]).increment();
    Some(document)
}

/// Whether load balancers may send a node traffic: not when it is about to go.
fn is_eligible(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    node.metadata.deletion_timestamp.is_none() && !taints.into_iter().any(|taint| taint.key == TO_BE_DELETED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_is_about_to_go_is_not_eligible() {
        let node = |value| serde_json::from_value::<Node>(value).expect("a node");
        assert!(is_eligible(&node(json!({"metadata": {}, "spec": {"taints": [{"key": "other", "effect": "NoSchedule"}]}}))));
        assert!(!is_eligible(&node(json!({"metadata": {}, "spec": {"taints": [{"key": TO_BE_DELETED, "effect": "NoSchedule"}]}}))));
        assert!(!is_eligible(&node(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))));
        let now = Timestamp::from_second(1_000).expect("a time");
        assert_eq!(answer("/healthz", None, now).map(|document| document.code), Some(503), "nobody knows the node");
        assert_eq!(answer("/other", None, now), None);
    }
}
