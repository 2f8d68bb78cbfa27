//! `PodResizeValidator` and `NodeDeclaredFeatureValidator`: what a pod's node could never give, or does not know, is refused at once.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    meta::{GroupResource, Object, ObjectKey, Quantity},
    quota::pod_resources::{Measure, is_pod_level, requests},
    resources::tree::{at, items, text},
    status::{Status, StatusCause},
    stored::StoredObject,
};

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

/// What a pod asks for by its spec.
const SPECIFIED: Measure = Measure { from_status: false, overhead: true, pod_level: is_pod_level };

/// Refuses a resize to more than all that the pod's node has.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodResizeValidator;

impl Plugin for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::UPDATES
    }
}

#[async_trait]
impl ValidatingPlugin for PodResizeValidator {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let Some((pod, _)) = changed(request, &["resize"]) else { return Ok(()) };
        let node = node_of(request, pod)?.to_object();
        let refused = |why: String, reason: &str| {
            let cause = StatusCause { reason: reason.into(), message: String::new(), field: String::new() };
            request.forbidden(why).with_causes(vec![cause])
        };
        let os = node.str(&["metadata", "labels", "kubernetes.io/os"]);
        if !matches!(os, "" | "linux") {
            let why = format!("pod resize is only supported on linux nodes, node {:?} is {os:?}", node.name());
            return Err(refused(why, "UnsupportedPlatform"));
        }
        match beyond(pod, &node) {
            lacks if lacks.is_empty() => Ok(()),
            lacks => Err(refused(format!("node didn't have enough allocatable resources: {}", lacks.join("; ")), "NodeCapacity")),
        }
    }
}

/// What the pod asks for beyond all that the node has.
fn beyond(pod: &Object, node: &Object) -> Vec<String> {
    let wanted = requests(pod, SPECIFIED);
    let lack = |name: &str, unit: fn(&Quantity) -> i64| {
        let all = node.str(&["status", "allocatable", name]).parse::<Quantity>().unwrap_or_default();
        let wanted = wanted.get(name).filter(|wanted| *wanted > all)?;
        Some(format!("{name}, requested: {}, allocatable: {}", unit(&wanted), unit(&all)))
    };
    [lack("cpu", Quantity::milli_value), lack("memory", Quantity::value)].into_iter().flatten().collect()
}

/// Refuses updates of pods that need what their node does not declare.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeDeclaredFeatureValidator;

impl Plugin for NodeDeclaredFeatureValidator {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatureValidator"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::UPDATES
    }
}

#[async_trait]
impl ValidatingPlugin for NodeDeclaredFeatureValidator {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let Some((new, old)) = changed(request, &["", "resize"]) else { return Ok(()) };
        let needed = needed(new, old);
        if needed.is_empty() {
            return Ok(());
        }
        let node = node_of(request, new)?.to_object();
        let declared = node.list(&["status", "declaredFeatures"]);
        let missing: Vec<_> = needed.into_iter().filter(|name| !declared.iter().any(|known| known.as_str() == Some(name))).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (features, name) = (missing.join(", "), node.name());
        Err(request.forbidden(format!("pod update requires features {features} which are not available on node {name:?}")))
    }
}

/// The features that a change of a pod needs.
fn needed(new: &Object, old: &Object) -> Vec<&'static str> {
    let part = |pod: &Object| pod.get(&["spec", "resources"]).cloned().unwrap_or_default();
    let ending = |pod: &Object| -> Vec<Value> {
        let all = pod.get(&["spec"]).map(|spec| items(spec, &["initContainers"])).unwrap_or_default();
        all.iter()
            .filter(|container| text(container, &["restartPolicy"]) != "Always")
            .map(|container| at(container, &["resources"]).clone())
            .collect()
    };
    let mut needed = Vec::new();
    if part(new) != part(old) {
        needed.push("InPlacePodLevelResourcesVerticalScaling");
    }
    if ending(new) != ending(old) {
        needed.push("InPlacePodVerticalScalingInitContainers");
    }
    needed
}

/// The pod as it is and as it was, if its spec changed through one of these subresources and it has a node.
fn changed<'a>(request: &'a Attributes<'_>, subresources: &[&str]) -> Option<(&'a Object, &'a Object)> {
    let target = request.target;
    let concerned = *target.resource.group == *"" && *target.resource.plural == *"pods" && subresources.contains(&&*target.subresource);
    let (new, old) = (request.object()?, request.old?);
    let bound = !new.str(&["spec", "nodeName"]).is_empty();
    // The generation is raised later: only a changed spec does that.
    (request.operation == Operation::Update && concerned && bound && new.get(&["spec"]) != old.get(&["spec"])).then_some((new, old))
}

fn node_of(request: &Attributes<'_>, pod: &Object) -> Result<Arc<StoredObject>, Status> {
    let name = pod.str(&["spec", "nodeName"]);
    let found = request.reads.listers().get(&GroupResource::new("", "nodes"), &ObjectKey::cluster(name));
    found.ok_or_else(|| request.forbidden(format!("node {name:?} not found")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn what_a_node_could_never_give_is_told_in_its_units() {
        let pod = object(json!({"spec": {"overhead": {"cpu": "100m"}, "containers": [
            {"name": "a", "resources": {"requests": {"cpu": "1500m", "memory": "1Gi"}}},
            {"name": "b", "resources": {"requests": {"cpu": "500m", "memory": "3Gi"}}},
        ]}}));
        let node = |cpu: &str, memory: &str| object(json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": cpu, "memory": memory}}}));
        assert_eq!(beyond(&pod, &node("2100m", "4Gi")), Vec::<String>::new());
        let told = ["cpu, requested: 2100, allocatable: 2000", "memory, requested: 4294967296, allocatable: 1073741824"];
        assert_eq!(beyond(&pod, &node("2", "1Gi")), told);
    }

    #[test]
    fn resizes_of_pods_and_of_init_containers_that_end_need_a_node_that_can() {
        let pod = |whole: &str, init: &str, sidecar: &str| {
            object(json!({"spec": {"resources": {"requests": {"cpu": whole}}, "initContainers": [
                {"name": "i", "resources": {"requests": {"cpu": init}}},
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": sidecar}}},
            ]}}))
        };
        let before = pod("1", "1", "1");
        assert!(needed(&pod("1", "1", "2"), &before).is_empty());
        assert_eq!(needed(&pod("2", "1", "1"), &before), ["InPlacePodLevelResourcesVerticalScaling"]);
        assert_eq!(needed(&pod("1", "2", "1"), &before), ["InPlacePodVerticalScalingInitContainers"]);
    }
}
