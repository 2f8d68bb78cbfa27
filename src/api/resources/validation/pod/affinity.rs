//! Affinity: to nodes, and to and from other pods.

use super::{
    super::{Field, labels},
    scheduling::label_keys,
};
use crate::{meta::names, status::FieldError};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks `affinity`.
pub fn affinity(errors: &mut Vec<FieldError>, affinity: &Field<'_>) {
    to_nodes(errors, &affinity.child("nodeAffinity"));
    for kind in ["podAffinity", "podAntiAffinity"] {
        to_pods(errors, &affinity.child(kind));
    }
}

fn to_nodes(errors: &mut Vec<FieldError>, affinity: &Field<'_>) {
    let needed = affinity.child(REQUIRED);
    if needed.is_set() {
        node_selector(errors, &needed);
    }
    for preferred in affinity.child(PREFERRED).each() {
        weight(errors, &preferred.child("weight"));
        node_term(errors, &preferred.child("preference"), false);
    }
}

/// A `NodeSelector`: at least one term.
pub fn node_selector(errors: &mut Vec<FieldError>, selector: &Field<'_>) {
    let terms = selector.child("nodeSelectorTerms");
    if terms.items().is_empty() {
        errors.push(terms.required("must have at least one node selector term"));
    }
    for term in terms.each() {
        node_term(errors, &term, true);
    }
}

fn weight(errors: &mut Vec<FieldError>, weight: &Field<'_>) {
    if !(1..=100).contains(&weight.int()) {
        errors.push(weight.invalid_as(weight.int(), "must be in the range 1-100"));
    }
}

/// A `NodeSelectorTerm`. Of a preference the values may be any.
pub fn node_term(errors: &mut Vec<FieldError>, term: &Field<'_>, with_values: bool) {
    for expression in term.child("matchExpressions").each() {
        node_expression(errors, &expression);
        let key = expression.child("key");
        key.judge(errors, names::qualified(key.text()));
        if with_values {
            for value in expression.child("values").each() {
                value.judge(errors, names::label_value(value.text()));
            }
        }
    }
    for requirement in term.child("matchFields").each() {
        node_field(errors, &requirement);
    }
}

fn node_expression(errors: &mut Vec<FieldError>, expression: &Field<'_>) {
    let (operator, values) = (expression.child("operator"), expression.child("values"));
    let count = values.items().len();
    match operator.text() {
        "In" | "NotIn" if count == 0 => errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'")),
        "Exists" | "DoesNotExist" if count > 0 => {
            errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "Gt" | "Lt" if count != 1 => errors.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'")),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.push(operator.invalid_as(other, "not a valid selector operator")),
    }
}

fn node_field(errors: &mut Vec<FieldError>, requirement: &Field<'_>) {
    let (key, operator, values) = (requirement.child("key"), requirement.child("operator"), requirement.child("values"));
    match operator.text() {
        "In" | "NotIn" if values.items().len() == 1 => {}
        "In" | "NotIn" => errors.push(values.required("must be only one value when `operator` is 'In' or 'NotIn' for node field selector")),
        other => errors.push(operator.invalid_as(other, "not a valid selector operator")),
    }
    if key.text() != "metadata.name" {
        errors.push(key.invalid_as(key.text(), "not a valid field selector key"));
        return;
    }
    for value in values.each() {
        value.judge(errors, names::subdomain(value.text(), false));
    }
}

fn to_pods(errors: &mut Vec<FieldError>, affinity: &Field<'_>) {
    for term in affinity.child(REQUIRED).each() {
        pod_term(errors, &term);
    }
    for preferred in affinity.child(PREFERRED).each() {
        weight(errors, &preferred.child("weight"));
        pod_term(errors, &preferred.child("podAffinityTerm"));
    }
}

fn pod_term(errors: &mut Vec<FieldError>, term: &Field<'_>) {
    for name in ["labelSelector", "namespaceSelector"] {
        let selector = term.child(name);
        labels::selector(errors, &selector.to_string(), selector.value);
    }
    for namespace in term.child("namespaces").each() {
        let shown = term.child("namespace");
        shown.with(namespace.value).judge(errors, names::label(namespace.text(), false));
    }
    label_keys(errors, term);
    let key = term.child("topologyKey");
    if key.text().is_empty() {
        errors.push(key.required("can not be empty"));
    }
    key.judge(errors, names::qualified(key.text()));
}
