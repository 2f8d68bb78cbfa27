//! Defaults of pods beyond those of templates.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    meta::{Object, quantity, time::format_time},
    resources::{
        kinds::pod_spec::default_pod_spec,
        pod_amounts,
        tree::{Fields, child, descend, each, fill, fill_null, flag},
    },
};

/// Fills in a whole pod.
pub fn default_pod(pod: &mut Object) {
    fill(pod.root_mut(), "spec", json!({}));
    let spec = pod.map_mut(&["spec"]);
    default_pod_spec(spec);
    // A pod's alone: a template keeps what it says (upstream's conversion of pods).
    if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        spec.insert("terminationGracePeriodSeconds".into(), 1.into());
    }
    for list in ["containers", "initContainers"] {
        each(spec, list, requests_from_limits);
    }
    default_pod_level_requests(spec);
    fill(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for list in ["containers", "initContainers"] {
            each(spec, list, host_ports);
        }
    }
    if let Some(status) = child(pod.root_mut(), "status") {
        unset_times(status);
    }
}

fn unset_times(status: &mut Fields) {
    each(status, "conditions", |condition| fill_null(condition, &["lastProbeTime", "lastTransitionTime"]));
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        each(status, list, |container| {
            for state in ["state", "lastState"] {
                if let Some(running) = descend(container, &[state, "running"]) {
                    fill_null(running, &["startedAt"]);
                }
                if let Some(terminated) = descend(container, &[state, "terminated"]) {
                    fill_null(terminated, &["startedAt", "finishedAt"]);
                }
            }
        });
    }
}

fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = child(container, "resources") else { return };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    fill(resources, "requests", json!({}));
    if let Some(requests) = child(resources, "requests") {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

/// With limits for the whole pod: what the containers ask for in sum, else the limit, becomes the pod's request.
fn default_pod_level_requests(spec: &mut Fields) {
    let Some(Value::Object(limits)) = spec.get("resources").and_then(|resources| resources.get("limits")).cloned() else { return };
    let whole = Value::Object(spec.clone());
    let Some(resources) = child(spec, "resources") else { return };
    fill(resources, "requests", json!({}));
    let Some(requests) = child(resources, "requests") else { return };
    for name in ["cpu", "memory"] {
        if let Some(sum) = pod_amounts::of_containers(&whole, "requests", name) {
            fill(requests, name, quantity::canonical(sum, name == "memory"));
        }
    }
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
    if requests.is_empty() {
        resources.remove("requests");
    }
}

fn host_ports(container: &mut Fields) {
    each(container, "ports", |port| {
        let unset = port.get("hostPort").and_then(Value::as_i64).unwrap_or(0) == 0;
        if let (true, Some(container_port)) = (unset, port.get("containerPort").cloned()) {
            port.insert("hostPort".into(), container_port);
        }
    });
}

/// The quality-of-service class, from requests and limits of cpu and memory.
pub fn qos_class(pod: &Object) -> &'static str {
    let spec = pod.get(&["spec"]).unwrap_or(&Value::Null);
    let pod_level = spec.get("resources").filter(|resources| resources.get("requests").is_some() || resources.get("limits").is_some());
    let all: Vec<&Value> = match pod_level {
        Some(resources) => vec![resources],
        None => ["containers", "initContainers"]
            .iter()
            .filter_map(|list| spec.get(*list)?.as_array())
            .flatten()
            .map(|container| container.get("resources").unwrap_or(&Value::Null))
            .collect(),
    };
    let amount =
        |resources: &Value, kind: &str, name: &str| resources.get(kind)?.get(name).and_then(quantity::value_nanos).filter(|amount| *amount > 0);
    let (mut any, mut guaranteed) = (false, true);
    for resources in &all {
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount(resources, "requests", name), amount(resources, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some();
        }
    }
    let sum = |kind: &str, name: &str| all.iter().filter_map(|resources| amount(resources, kind, name)).fold(0, i128::saturating_add);
    guaranteed &= ["cpu", "memory"].iter().all(|name| sum("requests", name) == sum("limits", name));
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The status of a pod that is created `now`.
pub fn initial_status(pod: &Object, now: Timestamp) -> Value {
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(pod)});
    if !pod.list(&["spec", "schedulingGates"]).is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": format_time(now),
            "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    status
}

/// Whether the pod uses the node's network.
pub fn on_host_network(pod: &Object) -> bool {
    pod.get(&["spec"]).is_some_and(|spec| flag(spec, &["hostNetwork"]))
}
