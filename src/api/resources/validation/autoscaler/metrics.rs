//! The metrics of an autoscaler: each of one source, with a target that the source can have.

use super::{Version, reference};
use crate::{
    meta::{names, quantity},
    resources::validation::{Field, resource_names},
    status::FieldError,
};

const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The fields that sources stand in, in the order in which they are looked at.
const SOURCES: [&str; 5] = ["object", "external", "pods", "resource", "containerResource"];

/// Checks all metrics.
pub(super) fn check(errors: &mut Vec<FieldError>, spec: &Field<'_>, versions: Version) {
    let metrics = spec.child("metrics");
    metrics.each().for_each(|metric| one(errors, &metric, versions));
    let measured_elsewhere = |metric: Field<'_>| matches!(metric.child("type").text(), "Object" | "External");
    if spec.child("minReplicas").number() == Some(0) && !metrics.each().any(measured_elsewhere) {
        errors.push(metrics.forbidden("must specify at least one Object or External metric to support scaling to zero replicas"));
    }
}

fn one(errors: &mut Vec<FieldError>, metric: &Field<'_>, versions: Version) {
    let kind = metric.child("type");
    if kind.text().is_empty() {
        errors.push(kind.required("must specify a metric source type"));
    }
    if !TYPES.contains(&kind.text()) {
        errors.push(FieldError::not_supported(kind, kind.text(), &TYPES));
    }
    let present: Vec<&str> = SOURCES.into_iter().filter(|source| metric.child(source).is_set()).collect();
    if let Some(first) = present.first() {
        source(errors, &metric.child(first), first, versions);
    }
    let expected = SOURCES.into_iter().find(|source| source.eq_ignore_ascii_case(kind.text()) && TYPES.contains(&kind.text()));
    if let Some(expected) = expected.filter(|expected| !present.contains(expected)) {
        errors.push(metric.child(expected).required("must populate information for the given metric source"));
    }
    if present.len() != 1 {
        let others = present.iter().filter(|source| Some(**source) != expected);
        errors.extend(others.map(|source| metric.child(source).forbidden("must populate the given metric source only")));
    }
}

fn source(errors: &mut Vec<FieldError>, source: &Field<'_>, name: &str, versions: Version) {
    match name {
        "object" => reference(errors, &source.child("describedObject"), versions),
        "resource" => resource_name(errors, source),
        "containerResource" => {
            resource_name(errors, source);
            container(errors, source);
        }
        _ => {}
    }
    if matches!(name, "object" | "external" | "pods") {
        identifier(errors, &source.child("metric").child("name"));
    }
    let target = source.child("target");
    target_type(errors, &target);
    match name {
        "object" => needs_value(errors, &target, "must set either a target value or averageValue"),
        "external" => {
            needs_value(errors, &target, "must set either a target value for metric or a per-pod target");
            not_both(errors, &target, "value", "averageValue", "may not set both a target value for metric and a per-pod target");
        }
        "pods" if !target.child("averageValue").is_set() => {
            errors.push(target.child("averageValue").required("must specify a positive target averageValue"));
        }
        "pods" => {}
        _ => usage(errors, &target),
    }
}

fn resource_name(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    if source.child("name").text().is_empty() {
        errors.push(source.child("name").required("must specify a resource name"));
    }
}

fn container(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    let (resource, container) = (source.child("name"), source.child("container"));
    if !resource.text().is_empty() {
        resource_names::measured(errors, &resource, resource.text());
    }
    if container.text().is_empty() {
        errors.push(container.required("must specify a container"));
    }
    container.check_name(errors, names::label);
}

fn identifier(errors: &mut Vec<FieldError>, name: &Field<'_>) {
    if name.text().is_empty() {
        errors.push(name.required("must specify a metric name"));
    }
    name.check_name(errors, names::path_segment);
}

fn target_type(errors: &mut Vec<FieldError>, target: &Field<'_>) {
    let kind = target.child("type");
    if kind.text().is_empty() {
        errors.push(kind.required("must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind.text()) {
        errors.push(kind.invalid_as(kind.text(), "must be either Utilization, Value, or AverageValue"));
    }
    for name in ["value", "averageValue"] {
        let amount = target.child(name);
        if amount.is_set() && quantity::value_nanos(amount.value).is_none_or(|amount| amount <= 0) {
            errors.push(amount.invalid("must be positive"));
        }
    }
    let utilization = target.child("averageUtilization");
    if utilization.number().is_some_and(|percent| percent < 1) {
        errors.push(utilization.invalid("must be greater than 0"));
    }
}

fn needs_value(errors: &mut Vec<FieldError>, target: &Field<'_>, detail: &str) {
    if !target.child("value").is_set() && !target.child("averageValue").is_set() {
        errors.push(target.child("averageValue").required(detail));
    }
}

fn not_both(errors: &mut Vec<FieldError>, target: &Field<'_>, named: &str, other: &str, detail: &str) {
    if target.child(named).is_set() && target.child(other).is_set() {
        errors.push(target.child(named).forbidden(detail));
    }
}

/// The target of what a pod or container uses.
fn usage(errors: &mut Vec<FieldError>, target: &Field<'_>) {
    let utilization = target.child("averageUtilization");
    if !utilization.is_set() && !target.child("averageValue").is_set() {
        errors.push(utilization.required("must set either a target raw value or a target utilization"));
    }
    not_both(errors, target, "averageValue", "averageUtilization", "may not set both a target raw value and a target utilization");
}
