//! `RuntimeClass`: a pod's runtime class says what it costs beside its containers, and which nodes have it.

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    meta::{GroupResource, Object, ObjectKey, Quantity},
    status::Status,
};

use super::{Attributes, MutatingPlugin, Operation, Plugin, ValidatingPlugin};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CREATES
    }
}

#[async_trait]
impl MutatingPlugin for RuntimeClass {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if !concerns(request) {
            return Ok(());
        }
        let Some(class) = class_of(request).await? else { return Ok(()) };
        let Some(pod) = request.object() else { return Ok(()) };
        check_overhead(request, pod, &class)?;
        if let Some((key, wanted, has)) = selector_conflict(pod, &class) {
            let why = format!("conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {has}");
            return Err(request.forbidden(why));
        }
        if let Some(pod) = request.object_mut() {
            merge(pod, &class);
        }
        Ok(())
    }
}

#[async_trait]
impl ValidatingPlugin for RuntimeClass {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        if !concerns(request) {
            return Ok(());
        }
        let class = class_of(request).await?;
        let Some(pod) = request.object() else { return Ok(()) };
        let allowed = class.as_ref().and_then(|class| class.get(&["overhead", "podFixed"])).is_some();
        if !allowed && pod.get(&["spec", "overhead"]).and_then(Value::as_object).is_some_and(|overhead| !overhead.is_empty()) {
            return Err(request.forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"));
        }
        Ok(())
    }
}

fn concerns(request: &Attributes<'_>) -> bool {
    request.operation == Operation::Create && request.is_main("", "pods")
}

async fn class_of(request: &Attributes<'_>) -> Result<Option<Object>, Status> {
    let name = request.object().map(|pod| pod.str(&["spec", "runtimeClassName"]).to_owned()).unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let classes = GroupResource::new("node.k8s.io", "runtimeclasses");
    let key = ObjectKey::cluster(name.as_str());
    let found = match request.reads.listers().get(&classes, &key) {
        Some(class) => Some(class),
        None => request.reads.live(&classes, &key).await?,
    };
    match found {
        Some(class) => Ok(Some(class.to_object())),
        None => Err(request.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

/// A pod may repeat its class's overhead, nothing else.
fn check_overhead(request: &Attributes<'_>, pod: &Object, class: &Object) -> Result<(), Status> {
    let Some(defined) = class.get(&["overhead", "podFixed"]).and_then(Value::as_object) else { return Ok(()) };
    let Some(given) = pod.get(&["spec", "overhead"]).and_then(Value::as_object).filter(|given| !given.is_empty()) else { return Ok(()) };
    let amount = |value: &Value| value.as_str().and_then(|text| text.parse::<Quantity>().ok());
    let same = given.len() == defined.len() && given.iter().all(|(resource, value)| defined.get(resource).map(amount) == Some(amount(value)));
    if same { Ok(()) } else { Err(request.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")) }
}

/// A label that pod and class want with different values: key, the class's value, the pod's.
fn selector_conflict(pod: &Object, class: &Object) -> Option<(String, String, String)> {
    let wanted = class.get(&["scheduling", "nodeSelector"])?.as_object()?;
    let given = pod.get(&["spec", "nodeSelector"])?.as_object()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    wanted.iter().find_map(|(key, value)| given.get(key).filter(|has| *has != value).map(|has| (key.clone(), text(value), text(has))))
}

fn merge(pod: &mut Object, class: &Object) {
    if let Some(overhead) = class.get(&["overhead", "podFixed"]) {
        pod.set(&["spec", "overhead"], overhead.clone());
    }
    if let Some(wanted) = class.get(&["scheduling", "nodeSelector"]).and_then(Value::as_object) {
        let mut selector = pod.get(&["spec", "nodeSelector"]).and_then(Value::as_object).cloned().unwrap_or_default();
        selector.extend(wanted.clone());
        pod.set(&["spec", "nodeSelector"], selector);
    }
    let mut tolerations = pod.list(&["spec", "tolerations"]).to_vec();
    let more: Vec<Value> =
        class.list(&["scheduling", "tolerations"]).iter().filter(|toleration| !tolerations.contains(toleration)).cloned().collect();
    if !more.is_empty() {
        tolerations.extend(more);
        pod.set(&["spec", "tolerations"], tolerations);
    }
}
