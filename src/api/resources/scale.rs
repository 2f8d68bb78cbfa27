//! The `scale` subresource: `autoscaling/v1 Scale` seen through a workload.

use serde_json::{Value, json};

use super::Resource;
use crate::{meta::Object, resources::printing};

/// The `Scale` of a Deployment, ReplicaSet, StatefulSet or ReplicationController.
pub fn to_scale(_resource: &Resource, object: &Object) -> Object {
    let mut scale = Object::default();
    scale.set(&["apiVersion"], "autoscaling/v1");
    scale.set(&["kind"], "Scale");
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get(&["metadata", field]) {
            scale.set(&["metadata", field], value.clone());
        }
    }
    scale.set(&["spec"], json!({}));
    if let Some(replicas) = object.int(&["spec", "replicas"]).filter(|replicas| *replicas != 0) {
        scale.set(&["spec", "replicas"], replicas);
    }
    scale.set(&["status", "replicas"], object.int(&["status", "replicas"]).unwrap_or(0));
    let selector = selector_text(object);
    if !selector.is_empty() {
        scale.set(&["status", "selector"], selector);
    }
    scale
}

/// Takes the replicas of a `Scale` over into the workload it scales.
pub fn set_replicas(object: &mut Object, scale: &Object) {
    object.set(&["spec", "replicas"], scale.int(&["spec", "replicas"]).unwrap_or(0));
    if let Some(version) = scale.get(&["metadata", "resourceVersion"]) {
        object.set(&["metadata", "resourceVersion"], version.clone());
    }
}

/// Workloads select by a `LabelSelector`, replication controllers by a plain map.
fn selector_text(object: &Object) -> String {
    let selector = object.get(&["spec", "selector"]).unwrap_or(&Value::Null);
    if object.kind() == "ReplicationController" {
        return printing::label_pairs(selector);
    }
    printing::selector_text(selector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{Registry, builtin};

    #[test]
    fn a_scale_shows_replicas_and_selector_and_writes_replicas_back() {
        let mut deployment = Object::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "n", "uid": "u", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "t", "operator": "In", "values": ["b", "a"]}]}},
            "status": {"replicas": 2},
        }))
        .expect("an object");
        let resource = Registry::new(builtin()).by_resource("apps", "deployments").expect("a row");
        let mut scale = to_scale(&resource, &deployment);
        let want = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "n", "uid": "u"},
            "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "app=web,t in (a,b)"},
        });
        assert_eq!(scale.clone().into_value(), want);
        scale.set(&["spec", "replicas"], 5);
        set_replicas(&mut deployment, &scale);
        assert_eq!(deployment.int(&["spec", "replicas"]), Some(5));
    }
}
