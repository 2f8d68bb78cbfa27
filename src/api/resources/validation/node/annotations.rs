//! Taints and preferences that stood in annotations before they had fields.

use serde_json::Value;

use super::{super::Field, taints};
use crate::{
    schema::{Format, decode::parse, raw::Raw},
    status::FieldError,
};

const TAINTS: &str = "scheduler.alpha.kubernetes.io/taints";
const AVOID_PODS: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";

/// Checks both where they are given.
pub fn annotations(errors: &mut Vec<FieldError>, annotations: &Field<'_>) {
    let text = annotations.child(TAINTS);
    if !text.text().is_empty() {
        match read(text.text(), "[]v1.Taint") {
            Ok(list) => taints(errors, &text.with(&list)),
            Err(why) => errors.push(annotations.invalid_as(TAINTS, why)),
        }
    }
    let text = annotations.child(AVOID_PODS);
    if !text.text().is_empty() {
        match read(text.text(), "v1.AvoidPods") {
            Ok(avoid) => avoid_pods(errors, &text, &avoid),
            Err(why) => errors.push(annotations.child("AvoidPods").invalid_as(AVOID_PODS, why)),
        }
    }
}

/// JSON of the form that a Go type has, or of nothing.
fn read(text: &str, go_type: &str) -> Result<Value, String> {
    let raw = parse(text.as_bytes(), Format::Json).map_err(|error| error.to_string())?;
    match (&raw, go_type.starts_with('[')) {
        (Raw::Null, _) | (Raw::List(_), true) | (Raw::Object(_), false) => Ok(raw.into_value()),
        _ => Err(format!("json: cannot unmarshal {} into Go value of type {go_type}", raw.describe(false))),
    }
}

fn avoid_pods(errors: &mut Vec<FieldError>, at: &Field<'_>, avoid: &Value) {
    let list = at.with(avoid.get("preferAvoidPods").unwrap_or(&Value::Null));
    for entry in list.each() {
        let signature = entry.child("podSignature");
        let controller = signature.child("podController");
        if !controller.is_set() {
            errors.push(entry.child("PodSignature").required(""));
        } else if !controller.child("controller").is_true() {
            let shown = entry.child("PodSignature");
            let shown = shown.child("PodController");
            errors.push(shown.child("Controller").invalid_as(false, "must point to a controller"));
        }
    }
}
