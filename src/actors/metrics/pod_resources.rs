//! What each pod asks for in all, as upstream's scheduler tells it at `/metrics/resources` (KEP-1748).

use std::sync::Arc;

use bytes::Bytes;
use troupe_api::{
    meta::{Object, amounts::Amounts},
    metrics::{Text, render},
    quota::pod_resources::{Measure, is_pod_level, limits, requests},
    stored::StoredObject,
};

const REQUEST: &str = "kube_pod_resource_request";
const REQUEST_HELP: &str = "Resources requested by workloads on the cluster, broken down by pod. This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.";
const LIMIT: &str = "kube_pod_resource_limit";
const LIMIT_HELP: &str = "Resources limit for workloads on the cluster, broken down by pod. This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.";

/// By the spec alone, as upstream.
const MEASURE: Measure = Measure { from_status: false, overhead: true, pod_level: is_pod_level };

/// The page about these pods. It reads each of them.
pub fn page(pods: &[Arc<StoredObject>]) -> Bytes {
    let measured: Vec<Measured> = pods.iter().filter_map(|pod| Measured::of(&pod.to_object())).collect();
    let by_limit = |text: &mut Text| write(text, LIMIT, LIMIT_HELP, measured.iter().map(|pod| (pod, &pod.limits)));
    let by_request = |text: &mut Text| write(text, REQUEST, REQUEST_HELP, measured.iter().map(|pod| (pod, &pod.requests)));
    render(&[&by_limit, &by_request])
}

/// A pod with the labels it is told by.
struct Measured {
    namespace: String,
    name: String,
    node: String,
    scheduler: String,
    priority: String,
    requests: Amounts,
    limits: Amounts,
}

impl Measured {
    /// `None` for pods that ended: they take nothing any more.
    fn of(pod: &Object) -> Option<Self> {
        let text = |path: &[&str]| pod.str(path).to_owned();
        let node = text(&["spec", "nodeName"]);
        if !node.is_empty() && matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed") {
            return None;
        }
        Some(Measured {
            namespace: text(&["metadata", "namespace"]),
            name: text(&["metadata", "name"]),
            node,
            scheduler: text(&["spec", "schedulerName"]),
            priority: pod.get(&["spec", "priority"]).map(ToString::to_string).unwrap_or_default(),
            requests: requests(pod, MEASURE),
            limits: limits(pod, MEASURE),
        })
    }
}

fn write<'a>(text: &mut Text, name: &str, help: &str, pods: impl Iterator<Item = (&'a Measured, &'a Amounts)>) {
    let mut pods = pods.filter(|(_, amounts)| amounts.iter().any(|(_, amount)| !amount.is_zero())).peekable();
    if pods.peek().is_none() {
        return;
    }
    text.family(name, help, "gauge");
    for (pod, amounts) in pods {
        for (resource, amount) in amounts.iter().filter(|(_, amount)| !amount.is_zero()) {
            let labels: [(&str, &str); 7] = [
                ("namespace", &pod.namespace),
                ("pod", &pod.name),
                ("node", &pod.node),
                ("scheduler", &pod.scheduler),
                ("priority", &pod.priority),
                ("resource", resource),
                ("unit", unit(resource)),
            ];
            text.sample(name, &labels, amount.as_f64());
        }
    }
}

/// What a resource is counted in; nothing for what only its maker knows.
fn unit(resource: &str) -> &'static str {
    match resource {
        "cpu" => "cores",
        "memory" | "storage" | "ephemeral-storage" => "bytes",
        name if name.starts_with("hugepages-") => "bytes",
        name if name.starts_with("attachable-volumes-") => "integer",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, node: &str, phase: &str, containers: &Value) -> Arc<StoredObject> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n", "uid": name},
            "spec": {"nodeName": node, "schedulerName": "default-scheduler", "priority": 7, "overhead": {"cpu": "50m"}, "containers": containers},
            "status": {"phase": phase},
        });
        Arc::new(StoredObject::from_object(&Object::from_value(pod).expect("an object")).expect("well formed"))
    }

    #[test]
    fn pods_are_told_by_what_they_ask_for() {
        let requests = json!({"cpu": "250m", "memory": "64Mi", "hugepages-2Mi": "2Mi", "example.com/gpu": "2"});
        let asking = json!([{"name": "a", "resources": {"requests": requests, "limits": {"cpu": "1"}}}]);
        let page =
            page(&[pod("works", "node-a", "Running", &asking), pod("over", "node-a", "Succeeded", &asking), pod("waits", "", "Pending", &asking)]);
        let page = std::str::from_utf8(&page).expect("text");
        let labels = |pod: &str, node: &str, resource: &str, unit: &str| {
            format!(
                "{{namespace=\"n\",pod=\"{pod}\",node=\"{node}\",scheduler=\"default-scheduler\",priority=\"7\",resource=\"{resource}\",unit=\"{unit}\"}}"
            )
        };
        let has = |line: String| assert!(page.lines().any(|known| known == line), "{line} is not in {page}");
        has(format!("kube_pod_resource_request{} 0.3", labels("works", "node-a", "cpu", "cores")));
        has(format!("kube_pod_resource_request{} 6.7108864e+07", labels("works", "node-a", "memory", "bytes")));
        has(format!("kube_pod_resource_request{} 2.097152e+06", labels("works", "node-a", "hugepages-2Mi", "bytes")));
        has(format!("kube_pod_resource_request{} 2", labels("works", "node-a", "example.com/gpu", "")));
        has(format!("kube_pod_resource_limit{} 1.05", labels("works", "node-a", "cpu", "cores")));
        has(format!("kube_pod_resource_request{} 0.3", labels("waits", "", "cpu", "cores")));
        assert!(!page.contains("pod=\"over\""), "{page}");
        assert!(page.contains("# TYPE kube_pod_resource_limit gauge\n") && page.contains("# TYPE kube_pod_resource_request gauge\n"));
    }

    #[test]
    fn where_nobody_asks_for_anything_there_is_nothing_to_tell() {
        assert!(page(&[]).is_empty());
    }
}
