//! What a hollow node reports. Pure.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};
use troupe_api::meta::time::format_time;

use super::HOLLOW;
use crate::{controllers::pods::is_ready, pod_phase};

/// The object that registers a node.
pub fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        // Without the label of an operating system: what needs one does not come.
        "metadata": {"name": name, "labels": {HOLLOW: "true", "kubernetes.io/hostname": name}},
        "spec": {"taints": [{"key": HOLLOW, "effect": "NoSchedule"}]},
    })
}

/// The status of a node that is well.
pub fn node_status(version: &str, now: Timestamp) -> Value {
    let resources = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "110"});
    let time = format_time(now);
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": time, "lastTransitionTime": time});
    json!({"status": {
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "a hollow node: nothing runs here"),
        ],
        "nodeInfo": {
            "architecture": "", "bootID": "", "containerRuntimeVersion": "hollow://0", "kernelVersion": "", "kubeProxyVersion": "",
            "kubeletVersion": version, "machineID": "", "operatingSystem": "", "osImage": "hollow", "systemUUID": "",
        },
    }})
}

/// A step for a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Keep,
    /// Remove it, for nothing of it runs.
    Delete,
    Report(Value),
}

/// What is to be done for a pod that is bound to a hollow node.
pub fn plan(pod: &Pod, address: impl FnOnce() -> Ipv4Addr, now: Timestamp) -> Plan {
    if pod.metadata.deletion_timestamp.is_some() {
        return Plan::Delete;
    }
    if pod_phase::is_finished(pod) {
        return Plan::Keep;
    }
    // Gates are for others to open.
    let has_gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten()).next().is_some();
    let condition = |kind: &str| {
        let open = kind != "Ready" || !has_gates;
        json!({"type": kind, "status": if open { "True" } else { "False" }, "lastTransitionTime": format_time(now)})
    };
    if pod_phase::phase(pod) == "Running" {
        // Whoever took the node for lost said that nobody is to be sent here.
        let is_right = has_gates || is_ready(pod);
        return if is_right { Plan::Keep } else { Plan::Report(json!({"status": {"conditions": [condition("Ready")]}})) };
    }
    let (time, address) = (format_time(now), address().to_string());
    let spec = pod.spec.as_ref();
    let containers: Vec<&Container> = spec.into_iter().flat_map(|spec| &spec.containers).collect();
    let initial: Vec<&Container> = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten()).collect();
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": time, "finishedAt": time}});
    let running = json!({"running": {"startedAt": time}});
    let status = |container: &Container, state: &Value, ready: bool, started: bool| {
        let image = container.image.clone().unwrap_or_default();
        json!({"name": container.name, "image": image, "imageID": image, "ready": ready, "started": started, "restartCount": 0, "state": state})
    };
    // Those that go on beside the others are running; all others have ended well.
    let of_initial = |container: &&Container| match container.restart_policy.as_deref() {
        Some("Always") => status(container, &running, true, true),
        _ => status(container, &ended, true, false),
    };
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let conditions = conditions.map(condition);
    let mut report = json!({
        "phase": "Running", "startTime": time, "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions,
        "containerStatuses": containers.iter().map(|container| status(container, &running, true, true)).collect::<Vec<_>>(),
    });
    if !initial.is_empty() {
        report["initContainerStatuses"] = initial.iter().map(of_initial).collect();
    }
    Plan::Report(json!({"status": report}))
}

/// The address of the pod with this number: all are different for as long as there are not four million.
pub fn address(number: u32) -> Ipv4Addr {
    // The shared range of RFC 6598, which no cluster has for its pods by default.
    const FIRST: u32 = u32::from_be_bytes([100, 64, 0, 0]);
    const COUNT: u32 = 1 << 22;
    // Neither the first nor the last of the range.
    Ipv4Addr::from(FIRST + 1 + number % (COUNT - 2))
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    fn pod(more: Value) -> Pod {
        let mut all = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        for (name, value) in more.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        serde_json::from_value(all).expect("a pod")
    }

    fn at() -> Timestamp {
        Timestamp::from_second(1_000).expect("a time")
    }

    #[test]
    fn a_pod_becomes_ready_and_planning_again_gives_nothing() {
        let mut pod = pod(json!({}));
        let Plan::Report(report) = plan(&pod, || address(0), at()) else { panic!("it is reported") };
        pod.status = serde_json::from_value(report["status"].clone()).expect("a status");
        assert_eq!(plan(&pod, || address(0), at()), Plan::Keep);
        assert!(is_ready(&pod));
        let conditions = pod.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten());
        conditions.filter(|condition| condition.type_ == "Ready").for_each(|ready| ready.status = "False".into());
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": format_time(at())});
        let report = Plan::Report(json!({"status": {"conditions": [ready]}}));
        assert_eq!(plan(&pod, || address(0), at()), report, "the node was taken for lost");
        let ip = pod.status.and_then(|status| status.pod_ip);
        assert_eq!(ip.as_deref(), Some("100.64.0.1"));
    }

    #[test]
    fn init_containers_have_ended_and_sidecars_run() {
        let containers = json!([{"name": "c"}]);
        let initial = json!([{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]);
        let Plan::Report(report) = plan(&pod(json!({"spec": {"containers": containers, "initContainers": initial}})), || address(0), at()) else {
            panic!("it is reported")
        };
        let of = |at: usize| &report["status"]["initContainerStatuses"][at]["state"];
        assert!(of(0)["terminated"].is_object() && of(1)["running"].is_object(), "{report}");
    }

    #[test]
    fn deleted_pods_go_and_finished_ones_stay_as_they_are() {
        assert_eq!(plan(&pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})), || address(0), at()), Plan::Delete);
        assert_eq!(plan(&pod(json!({"status": {"phase": "Failed"}})), || address(0), at()), Plan::Keep);
    }

    #[test]
    fn addresses_are_those_of_machines_and_different() {
        assert_eq!((address(0).to_string(), address((1 << 22) - 3).to_string()), ("100.64.0.1".into(), "100.127.255.254".into()));
    }
}
