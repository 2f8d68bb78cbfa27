//! Which changes may help which pods, where upstream's hints say so.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1::DeviceClass,
};
use serde_json::{Value, from_value, json};

use super::{InterPodAffinity, NodeAffinity, NodeDeclaredFeatures, NodeResourcesFit, NodeUnschedulable, PodTopologySpread, TaintToleration};
use crate::scheduler::{
    framework::{ClusterChange, Event, Plugin},
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

/// What pods that wait change of themselves: labels, tolerations and what they ask for.
#[test]
fn a_pod_helps_itself_where_the_plugin_that_rejected_it_looks_at_what_changed() {
    let constraint = |policy: &str| {
        let selector = json!({"matchLabels": {"app": "web"}});
        json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector, "nodeTaintsPolicy": policy})
    };
    let waiting = |labels: &Value, tolerations: &Value, cpu: &str, policy: &str| {
        let containers = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
        pod(labels, json!({"containers": containers, "tolerations": tolerations, "topologySpreadConstraints": [constraint(policy)]}))
    };
    let (other, web, sized) = (json!({"app": "db"}), json!({"app": "web"}), json!({"app": "db", "size": "3"}));
    let (none, any, key) = (json!([]), json!([{"operator": "Exists"}]), json!([{"key": "k", "operator": "Exists"}]));
    let plugins: [&dyn Plugin; 6] =
        [&InterPodAffinity::default(), &PodTopologySpread, &TaintToleration, &NodeUnschedulable, &NodeResourcesFit::default(), &NodeDeclaredFeatures];
    let before = |policy| waiting(&other, &none, "2", policy);
    for (old, new, helps) in [
        (before("Ignore"), waiting(&web, &none, "2", "Ignore"), [true, true, false, false, false, false]),
        (before("Ignore"), waiting(&sized, &none, "2", "Ignore"), [true, false, false, false, false, false]),
        (before("Ignore"), waiting(&other, &any, "2", "Ignore"), [false, false, true, true, false, false]),
        (before("Honor"), waiting(&other, &key, "2", "Honor"), [false, true, true, false, false, false]),
        (before("Ignore"), waiting(&other, &none, "1", "Ignore"), [false, false, false, false, true, false]),
        (before("Ignore"), waiting(&other, &none, "3", "Ignore"), [false; 6]),
        (before("Ignore"), before("Ignore"), [false; 6]),
    ] {
        let change = ClusterChange::WaitingPodUpdated { old: old.pod.clone(), new: new.pod.clone() };
        assert!(plugins.iter().all(|plugin| plugin.events().contains(&change.event())));
        assert_eq!(plugins.map(|plugin| plugin.may_help(&new, &change)), helps, "{change:?}");
    }
    assert!(!NodeAffinity::default().events().contains(&Event::WaitingPodUpdated), "nodes do not change by that");
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
