//! `AlwaysPullImages`: images are pulled for each start, so that nobody uses those that another's credentials brought to a node.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::{Map, Value};
use troupe_api::{
    meta::Object,
    status::{FieldError, Status, aggregate},
};

use super::{Attributes, MutatingPlugin, Operation, Plugin, ValidatingPlugin};

const ALWAYS: &str = "Always";
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysPullImages;

impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl MutatingPlugin for AlwaysPullImages {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if !concerns(request) {
            return Ok(());
        }
        let Some(spec) = request.object_mut().and_then(|pod| pod.root_mut().get_mut("spec")).and_then(Value::as_object_mut) else {
            return Ok(());
        };
        for list in LISTS {
            for container in maps(spec, list) {
                container.insert("imagePullPolicy".into(), ALWAYS.into());
            }
        }
        for volume in maps(spec, "volumes") {
            if let Some(image) = volume.get_mut("image").and_then(Value::as_object_mut) {
                image.insert("pullPolicy".into(), ALWAYS.into());
            }
        }
        Ok(())
    }
}

fn maps<'a>(spec: &'a mut Map<String, Value>, list: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

#[async_trait]
impl ValidatingPlugin for AlwaysPullImages {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = request.object().filter(|_| concerns(request)) else { return Ok(()) };
        let refusals: Vec<Status> = others(pod).iter().map(|error| request.forbidden(error)).collect();
        match refusals.as_slice() {
            [] => Ok(()),
            [one] => Err(one.clone()),
            many => Err(Status::internal(aggregate(&many.iter().map(|status| status.message.clone()).collect::<Vec<_>>()))),
        }
    }
}

/// What pulls in another way.
fn others(pod: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut check = |path: String, policy: &Value| {
        if policy != ALWAYS {
            errors.push(FieldError::not_supported(path, policy.as_str().unwrap_or_default(), &[ALWAYS]));
        }
    };
    for list in LISTS {
        for (index, container) in pod.list(&["spec", list]).iter().enumerate() {
            check(format!("spec.{list}[{index}].imagePullPolicy"), &container["imagePullPolicy"]);
        }
    }
    for (index, volume) in pod.list(&["spec", "volumes"]).iter().enumerate() {
        if volume.get("image").is_some() {
            check(format!("spec.volumes[{index}].image.pullPolicy"), &volume["image"]["pullPolicy"]);
        }
    }
    errors
}

fn concerns(request: &Attributes<'_>) -> bool {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    writes && request.is_main("", "pods") && !is_update_without_new_images(request)
}

fn is_update_without_new_images(request: &Attributes<'_>) -> bool {
    let (Operation::Update, Some(new), Some(old)) = (request.operation, request.object(), request.old) else { return false };
    images(new).is_subset(&images(old))
}

fn images(pod: &Object) -> BTreeSet<&str> {
    LISTS.iter().flat_map(|list| pod.list(&["spec", list])).map(|container| container["image"].as_str().unwrap_or_default()).collect()
}
