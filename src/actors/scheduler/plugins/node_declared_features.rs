//! NodeDeclaredFeatures: pods that need a feature of the kubelet go to nodes that declare it (KEP-5328).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, PodSpec};

use crate::scheduler::{
    framework::{ClusterChange, Event, Plugin, Point, PreFilter, Rejection},
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// See the module.
pub struct NodeDeclaredFeatures;

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatures"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        let needed = pod.pod.spec.as_ref().map(needed_features).unwrap_or_default();
        if needed.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::by_node_alone(move |node| {
            let declared = declared_features(&node.node);
            let has = |feature: &&str| declared.iter().any(|known| known == feature);
            if needed.iter().all(has) { Ok(()) } else { Err(Rejection::unresolvable("node(s) didn't match Pod's required features")) }
        })
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated, Event::WaitingPodUpdated]
    }

    fn may_help(&self, _pod: &PodInfo, change: &ClusterChange) -> bool {
        if let ClusterChange::WaitingPodUpdated { old, new } = change {
            return old.spec.as_ref().map(needed_features) != new.spec.as_ref().map(needed_features);
        }
        let (old, new) = change.node();
        old.map(declared_features) != new.map(declared_features)
    }
}

/// What a node says that it can do, sorted.
pub fn declared_features(node: &Node) -> &[String] {
    node.status.as_ref().and_then(|status| status.declared_features.as_deref()).unwrap_or_default()
}

/// The features without which a node cannot run the pod as it is meant. Others that nodes declare matter to updates alone.
fn needed_features(spec: &PodSpec) -> BTreeSet<&'static str> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut rules = containers.flat_map(|container| container.restart_policy_rules.iter().flatten());
    let restarts_all = rules.any(|rule| rule.action == "RestartAllContainers");
    let maps_users_on_host_network = spec.host_network == Some(true) && spec.host_users == Some(false);
    let all = [("RestartAllContainersOnContainerExits", restarts_all), ("UserNamespacesHostNetworkSupport", maps_users_on_host_network)];
    all.into_iter().filter(|(_, is_needed)| *is_needed).map(|(name, _)| name).collect()
}
