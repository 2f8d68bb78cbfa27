//! `pods/binding` and `bindings`: puts a pod on a node, once.

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_api::{
    meta::{GroupResource, Object, time::format_time},
    service::{ApiReply, Body},
    status::{FieldError, Status},
};

use super::{Subresources, created_nothing};
use crate::apiserver::{write::Transform, writer::Writer};

/// POST of a Binding.
pub async fn create(parts: &Subresources, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
    let (binding, warnings) = parts.admitted_body(writer, body).await?;
    let url_name = &*writer.target.name;
    if !url_name.is_empty() && url_name != binding.name() {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    check(&binding)?;
    let target = parts.parent_of(&writer.target, binding.name())?;
    let pod_writer = Writer { target, ..writer.clone() };
    let now = format_time(parts.clock.now());
    let transform: Transform = Arc::new(move |pod| assign(pod, &binding, &now));
    parts.path.update_raw(&pod_writer, &transform).await?;
    Ok(created_nothing(warnings))
}

/// Upstream answers 500 with the plain list of errors here.
fn check(binding: &Object) -> Result<(), Status> {
    let kind = binding.str(&["target", "kind"]);
    let mut errors = Vec::new();
    if !kind.is_empty() && kind != "Node" {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if binding.str(&["target", "name"]).is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    match text.as_slice() {
        [] => Ok(()),
        [one] => Err(Status::new(500, troupe_api::Reason::Unknown, one.clone())),
        many => Err(Status::new(500, troupe_api::Reason::Unknown, format!("[{}]", many.join(", ")))),
    }
}

/// The pod on its node, or why it cannot go there.
fn assign(pod: &Object, binding: &Object, now: &str) -> Result<Object, Status> {
    let name = pod.name();
    let conflict = |why: String| Err(Status::conflict(&GroupResource::new("", "pods/binding"), name, why));
    for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let (wanted, found) = (binding.str(&["metadata", field]), pod.str(&["metadata", field]));
        if !wanted.is_empty() && wanted != found {
            return conflict(format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"));
        }
    }
    if pod.is_terminating() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = pod.str(&["spec", "nodeName"]);
    if !node.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {node:?}"));
    }
    if !pod.list(&["spec", "schedulingGates"]).is_empty() {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut assigned = pod.clone();
    assigned.set(&["spec", "nodeName"], binding.str(&["target", "name"]));
    assigned.remove(&["status", "nominatedNodeName"]);
    for field in ["annotations", "labels"] {
        for (key, value) in binding.get(&["metadata", field]).and_then(Value::as_object).into_iter().flatten() {
            assigned.set(&["metadata", field, key], value.clone());
        }
    }
    mark_scheduled(&mut assigned, now);
    Ok(assigned)
}

fn mark_scheduled(pod: &mut Object, now: &str) {
    let mut conditions = pod.list(&["status", "conditions"]).to_vec();
    let before = conditions.iter_mut().find(|condition| condition["type"] == "PodScheduled");
    let since = match &before {
        Some(condition) if condition["status"] == "True" => condition["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    // Which generation it is about is for the scheduler and the node to say.
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": since});
    match before {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
    pod.set(&["status", "conditions"], conditions);
}
