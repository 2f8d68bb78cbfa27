//! Certificate signing requests.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};

use super::{empty_status, restore, take_status};
use crate::{
    meta::{Clock, Object, names::NameRule, time::human_duration},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, or_none, string},
        resource::age_of,
        tree::text,
        validation,
    },
    status::FieldError,
};

/// The rules of certificate signing requests.
#[derive(Default)]
pub struct CertificateSigningRequest;

impl Strategy for CertificateSigningRequest {
    /// The requestor is whoever creates the request.
    fn prepare_create(&self, object: &mut Object, context: &WriteContext<'_>) {
        empty_status(object);
        let user = context.user;
        object.set(&["spec", "username"], &*user.name);
        match user.extra.is_empty() {
            true => drop(object.remove(&["spec", "extra"])),
            false => object.set(&["spec", "extra"], json!(user.extra)),
        }
        object.set(&["spec", "groups"], user.groups.iter().map(|group| Value::from(&**group)).collect::<Vec<_>>());
        match &*user.uid {
            "" => drop(object.remove(&["spec", "uid"])),
            uid => object.set(&["spec", "uid"], uid),
        }
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        match context.subresource {
            "status" => {
                take_status(new, old);
                keep_verdicts(new, old);
            }
            "approval" => {
                let conditions = new.get(&["status", "conditions"]).cloned();
                take_status(new, old);
                restore(new, old, &["status"]);
                match conditions {
                    Some(conditions) => new.set(&["status", "conditions"], conditions),
                    None => drop(new.remove(&["status", "conditions"])),
                }
            }
            _ => {
                restore(new, old, &["spec"]);
                restore(new, old, &["status"]);
            }
        }
        stamp_conditions(new, old, context.clock);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        |_, _| Vec::new()
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        validation::certificates::create(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        validation::certificates::update(new, old, subresource)
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        super::text_field(self, object, path)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            age(),
            string("SignerName", "The signer that is asked."),
            string("Requestor", "Who asks."),
            string("RequestedDuration", "How long the certificate should be valid."),
            string("Condition", "What became of the request."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let duration = object.int(&["spec", "expirationSeconds"]).map(|seconds| human_duration(Duration::from_secs(seconds.max(0).unsigned_abs())));
        vec![
            object.name().into(),
            age_of(object, clock).into(),
            or_none(object.str(&["spec", "signerName"])).into(),
            object.str(&["spec", "username"]).into(),
            or_none(duration.unwrap_or_default()).into(),
            condition(object).into(),
        ]
    }
}

/// A status update repeats approvals and denials without changing them.
fn keep_verdicts(new: &mut Object, old: &Object) {
    let mut conditions = new.list(&["status", "conditions"]).to_vec();
    for kind in ["Approved", "Denied"] {
        let known: Vec<&Value> = old.list(&["status", "conditions"]).iter().filter(|condition| text(condition, &["type"]) == kind).collect();
        let given: Vec<usize> = (0..conditions.len()).filter(|at| text(&conditions[*at], &["type"]) == kind).collect();
        if known.len() == given.len() {
            given.into_iter().zip(known).for_each(|(at, known)| conditions[at] = known.clone());
        }
    }
    if !conditions.is_empty() {
        new.set(&["status", "conditions"], conditions);
    }
}

/// New conditions get their times.
fn stamp_conditions(new: &mut Object, old: &Object, clock: &dyn Clock) {
    let now = crate::meta::time::format_time(clock.now());
    // Of several of one type the first counts.
    let before: HashMap<&str, &Value> =
        old.list(&["status", "conditions"]).iter().rev().map(|condition| (text(condition, &["type"]), condition)).collect();
    let conditions = new.get(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    for (index, mut condition) in conditions.into_iter().enumerate() {
        let known = before.get(text(&condition, &["type"])).copied();
        let unchanged = known.is_some_and(|other| text(other, &["status"]) == text(&condition, &["status"]));
        if text(&condition, &["lastUpdateTime"]).is_empty() {
            condition["lastUpdateTime"] = now.clone().into();
        }
        if text(&condition, &["lastTransitionTime"]).is_empty() {
            let kept = known.filter(|_| unchanged).map(|other| text(other, &["lastTransitionTime"]).to_owned());
            condition["lastTransitionTime"] = kept.unwrap_or_else(|| now.clone()).into();
        }
        new.map_mut(&["status"])["conditions"][index] = condition;
    }
}

fn condition(object: &Object) -> String {
    let has = |kind: &str| object.list(&["status", "conditions"]).iter().any(|condition| text(condition, &["type"]) == kind);
    let verdict = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if object.str(&["status", "certificate"]).is_empty() { "" } else { ",Issued" };
    format!("{verdict}{failed}{issued}")
}
