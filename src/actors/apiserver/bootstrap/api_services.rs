//! The APIServices of groups that this server serves itself.

use serde_json::{Value, json};
use troupe_api::{meta::time::format_time, resources::Registry};

/// Upstream's groups in their order: what a client shows first has the highest number.
const GROUPS: [(&str, i64); 21] = [
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("resource.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("storagemigration.k8s.io", 15800),
];

/// One for each built-in group and version that is served, without status.
pub fn local(registry: &Registry) -> Vec<Value> {
    let mut made: Vec<Value> = Vec::new();
    for row in registry.rows() {
        let Some((_, priority)) = GROUPS.iter().find(|(group, _)| **group == *row.group) else { continue };
        for served in &row.served {
            let name = format!("{}.{}", served.version, row.group);
            if made.iter().all(|known| known["metadata"]["name"] != *name) {
                made.push(api_service(&name, &row.group, &served.version, *priority));
            }
        }
    }
    made
}

fn api_service(name: &str, group: &str, version: &str, priority: i64) -> Value {
    let mut spec = json!({"version": version, "groupPriorityMinimum": priority, "versionPriority": version_priority(group, version)});
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    let labels = json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"});
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name, "labels": labels}, "spec": spec})
}

/// Where a version stands within its group.
fn version_priority(group: &str, version: &str) -> i64 {
    match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("resource.k8s.io" | "flowcontrol.apiserver.k8s.io", "v1") => 21,
        ("resource.k8s.io", "v1beta2") => 15,
        ("admissionregistration.k8s.io", "v1beta1") => 12,
        (_, "v1") => 15,
        ("admissionregistration.k8s.io" | "storagemigration.k8s.io", _) => 9,
        (_, version) if version.contains("beta") => 9,
        _ => 1,
    }
}

/// The status of a group that is served without asking anybody.
pub fn available(now: jiff::Timestamp) -> Value {
    let condition = json!({
        "type": "Available", "status": "True", "lastTransitionTime": format_time(now),
        "reason": "Local", "message": "Local APIServices are always available",
    });
    json!({"conditions": [condition]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_group_and_version_has_one() {
        let made = local(&Registry::new(troupe_api::resources::builtin()));
        let find = |name: &str| made.iter().find(|service| service["metadata"]["name"] == name).map(|service| service["spec"].clone());
        assert_eq!(find("v1."), Some(json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1})));
        assert_eq!(
            find("v2.autoscaling"),
            Some(json!({"group": "autoscaling", "version": "v2", "groupPriorityMinimum": 17500, "versionPriority": 30}))
        );
        assert_eq!(find("v1.apps").map(|spec| spec["versionPriority"].clone()), Some(json!(15)));
        assert_eq!(find("v1.apiregistration.k8s.io"), None, "the aggregator's own group is not an API service");
    }
}
