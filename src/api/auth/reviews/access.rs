//! Access reviews: may this user do that?

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{self as meta_v1, LabelSelectorRequirement};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    auth::{Attributes, Authorizer, Decision, Selection},
    meta::{FieldSelector, LabelSelector, Object},
    resources::validation::labels,
    service::UserInfo,
    status::{FieldError, Status},
};

const GROUP: &str = "authorization.k8s.io";

/// `SelfSubjectAccessReview`: about the caller.
pub fn own(object: Object, user: &UserInfo, authorizer: &dyn Authorizer) -> Result<Object, Status> {
    let mut errors = one_question(&object);
    errors.extend(selector_errors(&object));
    errors.extend(metadata_error(&object, false));
    answer(object, errors, user, authorizer)
}

/// `SubjectAccessReview`: about anybody.
pub fn any(object: Object, authorizer: &dyn Authorizer) -> Result<Object, Status> {
    let mut errors = subject_errors(&object);
    errors.extend(metadata_error(&object, false));
    let subject = subject_of(&object)?;
    answer(object, errors, &subject, authorizer)
}

/// `LocalSubjectAccessReview`: about anybody, within one namespace.
pub fn local(object: Object, authorizer: &dyn Authorizer) -> Result<Object, Status> {
    let mut errors = subject_errors(&object);
    errors.extend(metadata_error(&object, true));
    let asked = object.str(&["spec", "resourceAttributes", "namespace"]);
    if has(&object, "resourceAttributes") && asked != object.namespace() {
        errors.push(FieldError::invalid("spec.resourceAttributes.namespace", asked, "must match metadata.namespace"));
    }
    if has(&object, "nonResourceAttributes") {
        let given = object.get(&["spec", "nonResourceAttributes"]).cloned().unwrap_or_default();
        errors.push(FieldError::invalid("spec.nonResourceAttributes", given, "disallowed on this kind of request"));
    }
    let subject = subject_of(&object)?;
    answer(object, errors, &subject, authorizer)
}

fn answer(mut object: Object, errors: Vec<FieldError>, user: &UserInfo, authorizer: &dyn Authorizer) -> Result<Object, Status> {
    if !errors.is_empty() {
        // Upstream names the group alone.
        return Err(Status::invalid(GROUP, "", "", errors));
    }
    let resource = |field: &str| object.str(&["spec", "resourceAttributes", field]);
    let (fields, labels) = (field_selector(&object), label_selector(&object));
    let attributes = if has(&object, "resourceAttributes") {
        Attributes {
            verb: resource("verb"),
            resource: resource("resource"),
            subresource: resource("subresource"),
            group: resource("group"),
            version: if resource("version").is_empty() { "*" } else { resource("version") },
            namespace: resource("namespace"),
            name: resource("name"),
            path: None,
            selection: Selection { fields: fields.as_ref(), labels: labels.as_ref() },
        }
    } else {
        let path = object.str(&["spec", "nonResourceAttributes", "path"]);
        Attributes { verb: object.str(&["spec", "nonResourceAttributes", "verb"]), path: Some(path), ..Attributes::default() }
    };
    let (decision, reason) = authorizer.explain(user, &attributes);
    let mut status = json!({"allowed": decision == Decision::Allow});
    if matches!(decision, Decision::Deny(_)) {
        status["denied"] = true.into();
    }
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    let unread = unread_selectors(&object);
    if !unread.is_empty() {
        status["evaluationError"] = unread.into();
    }
    object.set(&["status"], status);
    Ok(object)
}

fn has(object: &Object, field: &str) -> bool {
    object.get(&["spec", field]).is_some_and(|value| !value.is_null())
}

/// Exactly one of the two kinds of attributes.
fn one_question(object: &Object) -> Vec<FieldError> {
    match (has(object, "resourceAttributes"), has(object, "nonResourceAttributes")) {
        (true, true) => {
            let given = object.get(&["spec", "nonResourceAttributes"]).cloned().unwrap_or_default();
            vec![FieldError::invalid("spec.nonResourceAttributes", given, "cannot be specified in combination with resourceAttributes")]
        }
        (false, false) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            vec![FieldError::invalid("spec.resourceAttributes", Value::Null, why)]
        }
        _ => Vec::new(),
    }
}

fn subject_errors(object: &Object) -> Vec<FieldError> {
    let mut errors = one_question(object);
    if object.str(&["spec", "user"]).is_empty() && object.list(&["spec", "groups"]).is_empty() {
        errors.push(FieldError::invalid("spec.user", "", "at least one of user or group must be specified"));
    }
    errors.extend(selector_errors(object));
    errors
}

fn selector_errors(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for selector in ["fieldSelector", "labelSelector"] {
        if object.get(&["spec", "resourceAttributes", selector]).is_none_or(Value::is_null) {
            continue;
        }
        let path = format!("spec.resourceAttributes.{selector}");
        let (raw, requirements) = (raw(object, selector), requirements(object, selector));
        match (raw.is_empty(), requirements.is_empty()) {
            (false, false) => {
                errors.push(FieldError::invalid(format!("{path}.rawSelector"), raw, "may not specified at the same time as requirements"));
            }
            (true, true) => {
                let why = format!("when {path} is specified, requirements or rawSelector is required");
                errors.push(FieldError::required(format!("{path}.requirements"), why));
            }
            _ => {}
        }
        for (index, requirement) in requirements.iter().enumerate() {
            requirement_errors(&mut errors, &format!("{path}.requirements[{index}]"), requirement, selector == "labelSelector");
        }
    }
    errors
}

/// Operators that nobody here knows may stand: newer clients ask newer servers through this one.
fn requirement_errors(errors: &mut Vec<FieldError>, path: &str, requirement: &Value, of_labels: bool) {
    let mut found = Vec::new();
    labels::requirement(&mut found, path, requirement);
    if !of_labels {
        let missing = requirement["key"].as_str().is_none_or(str::is_empty);
        errors.extend(missing.then(|| FieldError::required(format!("{path}.key"), "must be specified")));
    }
    let applies = |error: &FieldError| match error.field.strip_prefix(path) {
        Some(".operator") => false,
        Some(".values") => true,
        _ => of_labels,
    };
    errors.extend(found.into_iter().filter(applies));
}

/// The field selector under review. What does not parse restricts nothing, as upstream.
fn field_selector(object: &Object) -> Option<FieldSelector> {
    let raw = raw(object, "fieldSelector");
    if !raw.is_empty() {
        return FieldSelector::parse(raw).ok();
    }
    let mut terms = Vec::new();
    for requirement in requirements(object, "fieldSelector") {
        let equal = match requirement["operator"].as_str()? {
            "In" => true,
            "NotIn" => false,
            _ => continue,
        };
        let values = requirement["values"].as_array().map_or(&[][..], Vec::as_slice);
        if let ([value], Some(key)) = (values, requirement["key"].as_str()) {
            terms.push((key.to_owned(), value.as_str()?.to_owned(), equal));
        }
    }
    (!terms.is_empty()).then_some(FieldSelector { terms })
}

fn is_known(requirement: &&Value) -> bool {
    matches!(requirement["operator"].as_str(), Some("In" | "NotIn" | "Exists" | "DoesNotExist"))
}

/// The label selector, likewise.
fn label_selector(object: &Object) -> Option<LabelSelector> {
    let raw = raw(object, "labelSelector");
    if !raw.is_empty() {
        return LabelSelector::parse(raw).ok();
    }
    let known = requirements(object, "labelSelector").iter().filter(is_known);
    let expressions: Vec<LabelSelectorRequirement> = known.filter_map(|requirement| serde_json::from_value(requirement.clone()).ok()).collect();
    let selector = meta_v1::LabelSelector { match_expressions: Some(expressions), match_labels: None };
    Some(LabelSelector::from(&selector)).filter(|selector| !selector.is_everything())
}

/// What is told of selectors that were not understood, wholly or in part: the answer is about more than was asked for.
fn unread_selectors(object: &Object) -> String {
    let fields = field_selector(object).map_or(0, |selector| selector.terms.len());
    let labels = requirements(object, "labelSelector").iter().filter(is_known).count();
    let parses = [FieldSelector::parse(raw(object, "fieldSelector")).is_ok(), LabelSelector::parse(raw(object, "labelSelector")).is_ok()];
    let mut told = Vec::new();
    for ((selector, understood), parses) in [("fieldSelector", fields), ("labelSelector", labels)].into_iter().zip(parses) {
        let is_raw = !raw(object, selector).is_empty();
        let is_read = if is_raw { parses } else { understood == requirements(object, selector).len() };
        if !is_read {
            let part = if !is_raw && understood > 0 { "partially " } else { "" };
            told.push(format!("spec.resourceAttributes.{selector} {part}ignored due to parse error"));
        }
    }
    told.join("; ")
}

fn raw<'a>(object: &'a Object, selector: &str) -> &'a str {
    object.str(&["spec", "resourceAttributes", selector, "rawSelector"])
}

fn requirements<'a>(object: &'a Object, selector: &str) -> &'a [Value] {
    object.list(&["spec", "resourceAttributes", selector, "requirements"])
}

/// Reviews have no metadata, but for the namespace of local ones.
fn metadata_error(object: &Object, namespaced: bool) -> Option<FieldError> {
    let metadata = object.get(&["metadata"]).and_then(Value::as_object)?;
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    let mut foreign = metadata.iter().filter(|(field, value)| *field != "managedFields" && !(namespaced && *field == "namespace") && !empty(value));
    foreign.next()?;
    let why = if namespaced { "must be empty except for namespace" } else { "must be empty" };
    Some(FieldError::invalid("metadata", Value::Object(metadata.clone()), why))
}

/// The user a review asks about.
fn subject_of(object: &Object) -> Result<UserInfo, Status> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Spec {
        user: String,
        uid: String,
        groups: Vec<String>,
        extra: BTreeMap<String, Vec<String>>,
    }
    let spec = object.get(&["spec"]).map(Spec::deserialize).transpose();
    let spec = spec.map_err(|error| Status::bad_request(error.to_string()))?.unwrap_or_default();
    Ok(UserInfo { name: spec.user, uid: spec.uid, groups: spec.groups, extra: spec.extra })
}
