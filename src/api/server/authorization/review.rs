//! `SubjectAccessReview` as webhooks are sent it, and what they answer.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use troupe_api::{
    auth::{Attributes, Decision},
    meta::{FieldSelector, LabelSelector, Requirement},
    service::UserInfo,
};

/// What is asked: the spec of a review, with every field that conditions may look at.
pub fn spec(user: &UserInfo, attributes: &Attributes<'_>) -> Value {
    let mut spec = json!({"user": user.name, "groups": user.groups, "uid": user.uid, "extra": user.extra});
    match attributes.path {
        Some(path) => spec["nonResourceAttributes"] = json!({"path": path, "verb": attributes.verb}),
        None => spec["resourceAttributes"] = resource(attributes),
    }
    spec
}

fn resource(attributes: &Attributes<'_>) -> Value {
    let Attributes { verb, resource, subresource, group, version, namespace, name, selection, .. } = attributes;
    let mut told = json!({
        "namespace": namespace, "verb": verb, "group": group, "version": version, "resource": resource, "subresource": subresource, "name": name,
    });
    let fields = selection.fields.map(of_fields).unwrap_or_default();
    if !fields.is_empty() {
        told["fieldSelector"] = json!({"requirements": fields});
    }
    let labels = selection.labels.map(of_labels).unwrap_or_default();
    if !labels.is_empty() {
        told["labelSelector"] = json!({"requirements": labels});
    }
    told
}

fn of_fields(selector: &FieldSelector) -> Vec<Value> {
    let requirement =
        |(key, value, equal): &(String, String, bool)| json!({"key": key, "operator": if *equal { "In" } else { "NotIn" }, "values": [value]});
    selector.terms.iter().map(requirement).collect()
}

fn of_labels(selector: &LabelSelector) -> Vec<Value> {
    // Of the rest the API has no form.
    let requirement = |requirement: &Requirement| match requirement {
        Requirement::In(key, values) => Some(json!({"key": key, "operator": "In", "values": values.iter().collect::<Vec<_>>()})),
        Requirement::NotIn(key, values) => Some(json!({"key": key, "operator": "NotIn", "values": values.iter().collect::<Vec<_>>()})),
        Requirement::Exists(key) => Some(json!({"key": key, "operator": "Exists"})),
        Requirement::DoesNotExist(key) => Some(json!({"key": key, "operator": "DoesNotExist"})),
        Requirement::GreaterThan(..) | Requirement::LessThan(..) => None,
    };
    selector.requirements.iter().filter_map(requirement).collect()
}

/// The whole review, without what is empty.
pub fn body(version: &str, spec: &Value) -> String {
    let mut sent = without_empty(spec);
    // The first version called it otherwise.
    if version == "v1beta1"
        && let Some(groups) = sent.as_object_mut().and_then(|spec| spec.remove("groups"))
    {
        sent["group"] = groups;
    }
    json!({
        "kind": "SubjectAccessReview", "apiVersion": format!("authorization.k8s.io/{version}"),
        "metadata": {"creationTimestamp": null}, "spec": sent, "status": {"allowed": false},
    })
    .to_string()
}

fn without_empty(value: &Value) -> Value {
    let Value::Object(fields) = value else { return value.clone() };
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    let kept: Map<String, Value> =
        fields.iter().map(|(name, value)| (name.clone(), without_empty(value))).filter(|(_, value)| !is_empty(value)).collect();
    Value::Object(kept)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Review {
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    allowed: bool,
    denied: bool,
    reason: String,
}

/// What a webhook decided.
///
/// # Errors
/// When the answer is none.
pub fn decision(answer: &[u8]) -> Result<Decision, String> {
    let review: Review = serde_json::from_slice(answer).map_err(|error| format!("the answer is no SubjectAccessReview: {error}"))?;
    Ok(match review.status {
        Status { allowed: true, denied: true, .. } => Decision::Deny("webhook subject access review returned both allow and deny response".into()),
        Status { denied: true, reason, .. } => Decision::Deny(reason),
        Status { allowed: true, .. } => Decision::Allow,
        Status { reason, .. } => Decision::NoOpinion(reason),
    })
}
