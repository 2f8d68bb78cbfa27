//! The `scale` subresource: `autoscaling/v1 Scale` seen through a workload.

use serde_json::{Value, json};

use super::custom::Path;
use crate::{meta::Object, resources::printing, status::Status};

/// Where the parts of a scale stand in custom resources.
#[derive(Clone, Debug)]
pub struct ScalePaths {
    pub spec_replicas: Path,
    pub status_replicas: Path,
    /// Of the selector in its text form.
    pub selector: Option<Path>,
    /// The path of the wanted replicas as the definition writes it.
    pub spec_text: Box<str>,
}

impl ScalePaths {
    fn integer(object: &Object, path: &Path) -> Option<i64> {
        object.int(&path.names()?)
    }
}

/// The `Scale` of a workload: a built-in one, or a custom resource whose definition says where its parts stand.
pub fn to_scale(paths: Option<&ScalePaths>, object: &Object) -> Object {
    let mut scale = Object::default();
    scale.set(&["apiVersion"], "autoscaling/v1");
    scale.set(&["kind"], "Scale");
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get(&["metadata", field]) {
            scale.set(&["metadata", field], value.clone());
        }
    }
    scale.set(&["spec"], json!({}));
    let (wanted, present, selector) = match paths {
        None => (object.int(&["spec", "replicas"]), object.int(&["status", "replicas"]), selector_text(object)),
        Some(paths) => {
            let selector = paths.selector.as_ref().and_then(Path::names).map(|names| object.str(&names).to_owned());
            (ScalePaths::integer(object, &paths.spec_replicas), ScalePaths::integer(object, &paths.status_replicas), selector.unwrap_or_default())
        }
    };
    if let Some(replicas) = wanted.filter(|replicas| *replicas != 0) {
        scale.set(&["spec", "replicas"], replicas);
    }
    scale.set(&["status", "replicas"], present.unwrap_or(0));
    if !selector.is_empty() {
        scale.set(&["status", "selector"], selector);
    }
    scale
}

/// Takes the replicas of a `Scale` over into the workload it scales.
///
/// # Errors
/// 400 where neither says how many a custom resource wants.
pub fn set_replicas(paths: Option<&ScalePaths>, object: &mut Object, scale: &Object) -> Result<(), Status> {
    let wanted = scale.int(&["spec", "replicas"]);
    match paths {
        None => object.set(&["spec", "replicas"], wanted.unwrap_or(0)),
        Some(paths) => {
            let names = paths.spec_replicas.names().unwrap_or_default();
            if wanted.is_none() && object.int(&names).is_none() {
                return Err(Status::bad_request(format!("the spec replicas field {:?} cannot be empty", paths.spec_text)));
            }
            object.set(&names, wanted.unwrap_or(0));
        }
    }
    if !scale.resource_version().is_empty() {
        object.set(&["metadata", "resourceVersion"], scale.resource_version());
    }
    Ok(())
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

    #[test]
    fn a_scale_shows_replicas_and_selector_and_writes_replicas_back() {
        let mut deployment = Object::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "n", "uid": "u", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "t", "operator": "In", "values": ["b", "a"]}]}},
            "status": {"replicas": 2},
        }))
        .expect("an object");
        let mut scale = to_scale(None, &deployment);
        let want = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "n", "uid": "u"},
            "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "app=web,t in (a,b)"},
        });
        assert_eq!(scale.clone().into_value(), want);
        scale.set(&["spec", "replicas"], 5);
        set_replicas(None, &mut deployment, &scale).expect("scales");
        assert_eq!(deployment.int(&["spec", "replicas"]), Some(5));
    }
}
