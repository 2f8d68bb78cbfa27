//! Which changes may help which pods, where upstream's hints say so.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1::DeviceClass,
};
use serde_json::{Value, from_value, json};

use super::{InterPodAffinity, NodeAffinity, NodeResourcesFit, NodeUnschedulable, TaintToleration};
use crate::scheduler::{
    framework::{ClusterChange, Plugin},
    object_lookup::NoObjects,
    pod_info::PodInfo,
};

fn pod(labels: &Value, spec: Value) -> PodInfo {
    let mut object = json!({"metadata": {"name": "p", "namespace": "n", "labels": labels}, "spec": {"containers": [{"name": "c"}]}});
    for (key, value) in spec.as_object().expect("an object") {
        object["spec"][key] = value.clone();
    }
    PodInfo::new(Arc::new(from_value::<Pod>(object).expect("a pod")), &NoObjects)
}

fn node(labels: &Value, spec: &Value) -> Arc<Node> {
    let status = json!({"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}});
    Arc::new(from_value(json!({"metadata": {"name": "a", "labels": labels}, "spec": spec, "status": status})).expect("a node"))
}

fn relabelled(old: &Value, new: &Value) -> ClusterChange {
    ClusterChange::NodeUpdated { old: node(old, &json!({})), new: node(new, &json!({})) }
}

fn respecified(old: &Value, new: &Value) -> ClusterChange {
    ClusterChange::NodeUpdated { old: node(&json!({}), old), new: node(&json!({}), new) }
}

#[test]
fn labels_of_a_node_help_affinity_where_it_begins_to_match() {
    let pod = pod(&json!({}), json!({"nodeSelector": {"disk": "ssd"}}));
    for (old, new, helps) in [
        (json!({}), json!({"disk": "ssd"}), true),
        (json!({"disk": "hdd"}), json!({"disk": "ssd"}), true),
        (json!({"disk": "ssd"}), json!({"disk": "ssd", "size": "3"}), false),
        (json!({"disk": "ssd"}), json!({}), false),
        (json!({}), json!({"size": "3"}), false),
    ] {
        assert_eq!(NodeAffinity::default().may_help(&pod, &relabelled(&old, &new)), helps, "{old} {new}");
        assert!(!TaintToleration.may_help(&pod, &relabelled(&old, &new)) && !NodeUnschedulable.may_help(&pod, &relabelled(&old, &new)));
        assert!(!NodeResourcesFit::default().may_help(&pod, &relabelled(&old, &new)));
    }
    assert!(NodeAffinity::default().may_help(&pod, &ClusterChange::NodeAdded(node(&json!({"disk": "ssd"}), &json!({})))));
    assert!(!NodeAffinity::default().may_help(&pod, &ClusterChange::NodeAdded(node(&json!({}), &json!({})))));
}

#[test]
fn taints_of_a_node_help_where_they_go() {
    let pod = pod(&json!({}), json!({}));
    let (tainted, cordoned) = (json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}), json!({"unschedulable": true}));
    for (old, new, by_taints, by_cordon) in [
        (&tainted, &json!({}), true, false),
        (&json!({}), &tainted, false, false),
        (&cordoned, &json!({}), false, true),
        (&cordoned, &cordoned, false, false),
    ] {
        let change = respecified(old, new);
        assert_eq!((TaintToleration.may_help(&pod, &change), NodeUnschedulable.may_help(&pod, &change)), (by_taints, by_cordon), "{old} {new}");
        assert!(!NodeAffinity::default().may_help(&pod, &change) && !NodeResourcesFit::default().may_help(&pod, &change));
    }
}

/// Here upstream looks at the pod's own terms alone. Labels that go may also take a pod along that wants this one apart.
#[test]
fn labels_of_a_node_help_affinity_between_pods_where_nodes_change_their_places() {
    let term = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}]);
    let near = pod(&json!({}), json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}}));
    let apart = pod(&json!({}), json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}}));
    for (old, new, helps_near, helps_apart) in [
        (json!({}), json!({"zone": "a"}), true, false),
        (json!({"zone": "a"}), json!({"zone": "b"}), true, true),
        (json!({"zone": "a"}), json!({"zone": "a", "size": "3"}), false, false),
        (json!({"size": "3"}), json!({"size": "3", "other": "1"}), false, false),
        (json!({"zone": "a"}), json!({}), true, true),
    ] {
        let change = relabelled(&old, &new);
        let helps = [&near, &apart].map(|pod| InterPodAffinity::default().may_help(pod, &change));
        assert_eq!(helps, [helps_near, helps_apart], "{old} {new}");
    }
}

#[test]
fn a_class_helps_pods_that_ask_for_what_it_begins_to_stand_for() {
    let class = |resource: Option<&str>| {
        let class = json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": resource}});
        Arc::new(from_value::<DeviceClass>(class).expect("a class"))
    };
    let asking = |resource: &str| pod(&json!({}), json!({"containers": [{"name": "c", "resources": {"requests": {resource: "1"}}}]}));
    let by_itself = "deviceclass.resource.kubernetes.io/gpu";
    for (asked, old, new, helps) in [
        ("example.com/gpu", None, Some("example.com/gpu"), true),
        ("example.com/gpu", None, None, false),
        ("example.com/gpu", Some(None), Some("example.com/gpu"), true),
        ("example.com/gpu", Some(Some("example.com/gpu")), Some("example.com/gpu"), false),
        ("example.com/gpu", Some(Some("example.com/gpu")), Some("example.com/other"), false),
        (by_itself, None, None, true),
        (by_itself, Some(None), Some("example.com/gpu"), false),
        ("cpu", None, Some("example.com/gpu"), false),
    ] {
        let change = ClusterChange::ClassChanged { old: old.map(class), new: class(new) };
        assert_eq!(NodeResourcesFit::default().may_help(&asking(asked), &change), helps, "{asked} {old:?} {new:?}");
    }
    assert!(!NodeResourcesFit::default().events().contains(&ClusterChange::DevicesChanged.event()), "slices are another plugin's");
}
