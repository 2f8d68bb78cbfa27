//! Where a pod may go: tolerations, spreading, gates.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{Field, labels};
use crate::{
    meta::{decimal, names},
    resources::tree::text,
    status::FieldError,
};

/// Operators of tolerations that compare numbers (KEP-5471).
const COMPARISONS: [&str; 2] = ["Lt", "Gt"];

/// Checks readiness and scheduling gates.
pub fn gates(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    for gate in spec.child("readinessGates").each() {
        let kind = gate.child("conditionType");
        kind.judge(errors, names::qualified(kind.text()));
    }
    let mut seen = BTreeSet::new();
    for gate in spec.child("schedulingGates").each() {
        let name = gate.child("name").text().to_owned();
        errors.extend(names::qualified(&name).into_iter().map(|message| gate.invalid_as(name.as_str(), message)));
        if seen.contains(&name) {
            errors.push(gate.duplicate_as(name.as_str()));
        }
        seen.insert(name);
    }
}

/// Checks tolerations.
pub fn tolerations(errors: &mut Vec<FieldError>, tolerations: &Field<'_>) {
    for toleration in tolerations.each() {
        tolerates(errors, &toleration);
    }
}

fn tolerates(errors: &mut Vec<FieldError>, toleration: &Field<'_>) {
    let (key, operator, effect) = (toleration.child("key"), toleration.child("operator"), toleration.child("effect"));
    let value = toleration.child("value").text();
    key.check_name(errors, |key, _| names::qualified(key));
    if key.text().is_empty() && operator.text() != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(operator.invalid_as(operator.text(), detail));
    }
    if toleration.child("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
        errors.push(effect.invalid_as(effect.text(), "effect must be 'NoExecute' when `tolerationSeconds` is set"));
    }
    match operator.text() {
        "" | "Equal" => {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.push(operator.invalid_as(value, messages.join(";")));
            }
        }
        "Exists" if !value.is_empty() => errors.push(operator.invalid_as(value, "value must be empty when `operator` is 'Exists'")),
        "Exists" => {}
        "Lt" | "Gt" => toleration.child("value").judge(errors, decimal::faults(value)),
        _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
    }
    if !effect.text().is_empty() {
        effect.check_supported(errors, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
    }
}

/// Whether one of the tolerations compares numbers.
pub fn has_comparisons(tolerations: &[Value]) -> bool {
    tolerations.iter().any(|toleration| COMPARISONS.contains(&text(toleration, &["operator"])))
}

/// Refuses those that compare numbers, whatever was said of their values.
pub fn refuse_comparisons(errors: &mut Vec<FieldError>, tolerations: &Field<'_>) {
    for toleration in tolerations.each() {
        let operator = toleration.child("operator");
        if COMPARISONS.contains(&operator.text()) {
            let value = toleration.child("value").to_string();
            errors.retain(|error| error.field != value);
            errors.push(operator.not_supported(&["Equal", "Exists", "Lt", "Gt"]));
        }
    }
}

/// Checks `topologySpreadConstraints`.
pub fn spread(errors: &mut Vec<FieldError>, constraints: &Field<'_>) {
    let repeated = repeated_later(constraints);
    for (constraint, repeated) in constraints.each().zip(repeated) {
        let (skew, key, action) = (constraint.child("maxSkew"), constraint.child("topologyKey"), constraint.child("whenUnsatisfiable"));
        if skew.int() <= 0 {
            errors.push(skew.invalid_as(skew.int(), "must be greater than zero"));
        }
        if key.text().is_empty() {
            errors.push(key.required("can not be empty"));
        }
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action.text()) {
            errors.push(action.with(&action.text().into()).not_supported(&["DoNotSchedule", "ScheduleAnyway"]));
        }
        if repeated {
            let pair = format!("{{{}, {}}}", key.text(), action.text());
            errors.push(constraint.child("{topologyKey, whenUnsatisfiable}").duplicate_as(pair));
        }
        min_domains(errors, &constraint.child("minDomains"), action.text());
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.child(policy).check_supported(errors, &["Honor", "Ignore"]);
        }
        label_keys(errors, &constraint);
        let selector = constraint.child("labelSelector");
        labels::selector(errors, &selector.to_string(), selector.value);
    }
}

/// For each constraint whether a later one has the same key and action.
fn repeated_later(constraints: &Field<'_>) -> Vec<bool> {
    let mut seen = BTreeSet::new();
    let pair = |constraint: &Value| {
        let part = |name: &str| constraint.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        (part("topologyKey"), part("whenUnsatisfiable"))
    };
    let mut repeated: Vec<bool> = constraints.items().iter().rev().map(|constraint| !seen.insert(pair(constraint))).collect();
    repeated.reverse();
    repeated
}

fn min_domains(errors: &mut Vec<FieldError>, domains: &Field<'_>, action: &str) {
    let Some(number) = domains.number() else { return };
    if number <= 0 {
        errors.push(domains.invalid("must be greater than zero"));
    }
    if action != "DoNotSchedule" {
        errors.push(domains.invalid(format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}")));
    }
}

/// Checks `matchLabelKeys` and `mismatchLabelKeys`, which a selector beside them is completed by.
pub fn label_keys(errors: &mut Vec<FieldError>, owner: &Field<'_>) {
    let selector = owner.child("labelSelector");
    for name in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = owner.child(name);
        if keys.items().is_empty() {
            continue;
        }
        if !selector.is_set() {
            errors.push(keys.forbidden("must not be specified when labelSelector is not set"));
            continue;
        }
        for key in keys.each() {
            key.judge(errors, names::qualified(key.text()));
        }
    }
    let text_of = |key: &Value| key.as_str().unwrap_or_default().to_owned();
    let matching = owner.child("matchLabelKeys");
    let indexes: std::collections::BTreeMap<String, usize> = matching.items().iter().map(text_of).zip(0..).collect();
    let labels = selector.child("matchLabels");
    let mut selected: BTreeSet<String> = labels.entries().map(|(key, _)| key.to_owned()).collect();
    for expression in selector.child("matchExpressions").each() {
        let key = expression.child("key").text().to_owned();
        if let Some(index) = indexes.get(&key).filter(|_| selected.contains(&key)) {
            errors.push(owner.index(*index).invalid_as(key.as_str(), "exists in both matchLabelKeys and labelSelector"));
        }
        selected.insert(key);
    }
    let mismatching: BTreeSet<String> = owner.child("mismatchLabelKeys").items().iter().map(text_of).collect();
    for key in matching.each().filter(|key| mismatching.contains(key.text())) {
        errors.push(key.invalid("exists in both matchLabelKeys and mismatchLabelKeys"));
    }
}
