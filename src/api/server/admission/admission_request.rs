//! `AdmissionRequest` (`admission.k8s.io/v1`): the request as webhooks are told of it, and what expressions call `request`. Pure.

use serde_json::{Map, Value, json};
use troupe_api::{
    meta::{GroupVersionKind, Object},
    service::{DeleteOptions, FieldValidation, Propagation, UserInfo, WriteOptions},
};

use super::{
    Attributes, OperationOptions,
    matching::{self, Matched},
    resource_name::ResourceName,
};

/// The request as it is `matched`; `uid` is that of the question.
pub fn admission_request(matched: &Matched, request: &Attributes<'_>, uid: &str) -> Value {
    let shown = |object: Option<&Object>| object.map_or(Value::Null, |object| matching::shown(matched, request, object).into_value());
    let mut asked = without_objects(matched, request);
    asked["uid"] = uid.into();
    asked["object"] = shown(request.object());
    asked["oldObject"] = shown(request.old);
    asked
}

/// The same as expressions see it, which have the objects beside it.
pub fn without_objects(matched: &Matched, request: &Attributes<'_>) -> Value {
    let target = request.target;
    let own = ResourceName::requested(request.target);
    // The request's own resource has its own subresource.
    let own_kind = matched.form.kind(request, &own).unwrap_or_else(|_| matched.kind.clone());
    let mut asked = json!({
        "kind": kind(&matched.kind),
        "resource": resource(&matched.resource),
        "requestKind": kind(&own_kind),
        "requestResource": resource(&own),
        "operation": request.operation.upper(),
        "userInfo": user(request.user),
        "dryRun": request.dry_run,
        "options": options(&request.options),
    });
    let texts = [
        ("subResource", &*target.subresource),
        ("requestSubResource", &*target.subresource),
        ("name", request.name()),
        ("namespace", request.namespace()),
    ];
    for (field, text) in texts {
        if !text.is_empty() {
            asked[field] = text.into();
        }
    }
    asked
}

fn kind(kind: &GroupVersionKind) -> Value {
    json!({"group": &*kind.group, "version": &*kind.version, "kind": &*kind.kind})
}

fn resource(resource: &ResourceName) -> Value {
    json!({"group": &*resource.row.group, "version": &*resource.version, "resource": &*resource.row.plural})
}

fn user(user: &UserInfo) -> Value {
    let mut info = Map::new();
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            info.insert(field.into(), text.as_str().into());
        }
    }
    if !user.groups.is_empty() {
        info.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".into(), json!(user.extra));
    }
    Value::Object(info)
}

/// The options of the operation, as `meta.k8s.io/v1` has them. A patch says those of the update or create that it is.
fn options(options: &OperationOptions<'_>) -> Value {
    match options {
        OperationOptions::Create(options) => write_options("CreateOptions", options),
        OperationOptions::Update(options) => write_options("UpdateOptions", options),
        OperationOptions::Delete(options) => delete_options(options),
        OperationOptions::Connect => Value::Null,
    }
}

fn of_kind(kind: &str, dry_run: bool) -> Value {
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}

fn write_options(kind: &str, options: &WriteOptions) -> Value {
    let mut written = of_kind(kind, options.dry_run);
    if !options.implied_manager && !options.field_manager.is_empty() {
        written["fieldManager"] = options.field_manager.as_str().into();
    }
    match options.field_validation {
        // Also what is meant where the client says nothing.
        FieldValidation::Warn => {}
        FieldValidation::Strict => written["fieldValidation"] = "Strict".into(),
        FieldValidation::Ignore => written["fieldValidation"] = "Ignore".into(),
    }
    written
}

fn delete_options(options: &DeleteOptions) -> Value {
    let mut written = of_kind("DeleteOptions", options.dry_run);
    if let Some(seconds) = options.grace_period_seconds {
        written["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(uid) = &options.precondition_uid {
        written["preconditions"]["uid"] = uid.as_str().into();
    }
    if let Some(revision) = options.precondition_revision {
        written["preconditions"]["resourceVersion"] = revision.to_string().into();
    }
    if let Some(propagation) = options.propagation {
        let text = match propagation {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        };
        written["propagationPolicy"] = text.into();
    }
    written
}
