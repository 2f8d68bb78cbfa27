//! The pods of a DaemonSet: made for one node each, and told apart by node and template. Pure.

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};

use crate::controllers::{pod_digest::PodDigest, pods::NODE_NAME_FIELD};

/// Names the ControllerRevision that a pod was made from.
pub const HASH_LABEL: &str = "controller-revision-hash";
/// The template's generation, which older clients look at.
const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";

/// Makes the pod of `set` for `node`: pinned by affinity, so that the scheduler still checks and binds it.
pub fn pod_for_node(set: &DaemonSet, node: &str, hash: &str, owner: OwnerReference) -> Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut spec = template.spec.unwrap_or_default();
    daemon_tolerations(&mut spec);
    pin(&mut spec, node);
    let mut pod = Pod { spec: Some(spec), ..Pod::default() };
    if let Some(meta) = template.metadata {
        pod.metadata.labels = meta.labels;
        pod.metadata.annotations = meta.annotations;
        pod.metadata.finalizers = meta.finalizers;
    }
    let labels = pod.metadata.labels.get_or_insert_default();
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.into(), generation.to_string());
    }
    labels.insert(HASH_LABEL.into(), hash.to_owned());
    pod.metadata.namespace = set.metadata.namespace.clone();
    pod.metadata.generate_name = Some(format!("{}-", set.metadata.name.as_deref().unwrap_or_default()));
    pod.metadata.owner_references = Some(vec![owner]);
    pod
}

/// Gives a daemon pod the tolerations that let it run on nodes in trouble.
pub fn daemon_tolerations(spec: &mut PodSpec) {
    let evictions = ["not-ready", "unreachable"].map(|taint| (taint, "NoExecute"));
    let pressures = ["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"].map(|taint| (taint, "NoSchedule"));
    let network = spec.host_network.unwrap_or(false).then_some(("network-unavailable", "NoSchedule"));
    for (taint, effect) in evictions.into_iter().chain(pressures).chain(network) {
        let added = Toleration {
            key: Some(format!("node.kubernetes.io/{taint}")),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        let tolerations = spec.tolerations.get_or_insert_default();
        // One that ends after some seconds gives way to one that lasts.
        let known = tolerations.iter_mut().find(|known| Toleration { toleration_seconds: None, ..(**known).clone() } == added);
        match known {
            Some(known) => *known = added,
            None => tolerations.push(added),
        }
    }
}

/// Replaces the required node affinity by this one node; whether the node fits the old one was judged before.
fn pin(spec: &mut PodSpec, node: &str) {
    let requirement = NodeSelectorRequirement { key: NODE_NAME_FIELD.into(), operator: "In".into(), values: Some(vec![node.to_owned()]) };
    let term = NodeSelectorTerm { match_fields: Some(vec![requirement]), ..NodeSelectorTerm::default() };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: vec![term] });
}

/// Whether the pod was made from the current template.
pub fn is_updated(set: &DaemonSet, pod: &PodDigest, hash: &str) -> bool {
    let labels = &pod.meta.labels;
    let same_generation = generation(set).is_some_and(|generation| labels.get(GENERATION_LABEL) == Some(generation.to_string().as_str()));
    labels.get(HASH_LABEL) == Some(hash) || same_generation
}

fn generation(set: &DaemonSet) -> Option<i64> {
    set.metadata.annotations.as_ref()?.get(GENERATION_ANNOTATION)?.parse().ok()
}
