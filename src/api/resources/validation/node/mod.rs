//! Nodes.

mod annotations;
mod config_source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use super::{
    Field,
    ip::{self, Range},
    resource_names,
};
use crate::{
    meta::{Object, names},
    resources::tree::text,
    status::FieldError,
};

const NONE: &Value = &Value::Null;
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const LONGEST_FEATURE: usize = 253;

fn part<'a>(node: &'a Object, name: &'static str) -> Field<'a> {
    Field::root(name, node.get(&[name]).unwrap_or(NONE))
}

/// Checks a new node.
pub fn node(object: &Object) -> Vec<FieldError> {
    let (metadata, spec, status) = (part(object, "metadata"), part(object, "spec"), part(object, "status"));
    let mut errors = Vec::new();
    annotations::annotations(&mut errors, &metadata.child("annotations"));
    of_spec(&mut errors, &metadata, &spec);
    resources(&mut errors, &status);
    swap(&mut errors, &metadata, &status);
    features(&mut errors, &status.child("declaredFeatures"));
    pod_ranges(&mut errors, &spec.child("podCIDRs"));
    errors
}

/// Checks what an update of the node or of its status does.
pub fn node_update(new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
    let (metadata, spec, status) = (part(new, "metadata"), part(new, "spec"), part(new, "status"));
    let before = part(old, "spec");
    let mut errors = if subresource == "status" { Vec::new() } else { node(new) };
    if subresource == "status" {
        annotations::annotations(&mut errors, &metadata.child("annotations"));
        resources(&mut errors, &status);
        features(&mut errors, &status.child("declaredFeatures"));
        of_spec(&mut errors, &metadata, &spec);
    }
    addresses(&mut errors, &status.child("addresses"));
    for (name, shown) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let (now, before) = (spec.child(name), before.child(name));
        let is_set = !before.text().is_empty() || !before.items().is_empty();
        if is_set && now.value != before.value {
            errors.push(now.forbidden(format!("node updates may not change {shown} except from \"\" to valid")));
        }
    }
    config_source::of_spec(&mut errors, &spec.child("configSource"));
    config_source::of_status(&mut errors, &status.child("config"));
    if spec.child("externalID").text() != before.child("externalID").text() {
        errors.push(spec.child("externalID").forbidden("may not be updated"));
    }
    errors
}

/// As upstream, errors about taints name the metadata, where they once stood.
fn of_spec(errors: &mut Vec<FieldError>, metadata: &Field<'_>, spec: &Field<'_>) {
    let shown = metadata.child("taints");
    taints(errors, &shown.with(spec.child("taints").value));
}

fn resources(errors: &mut Vec<FieldError>, status: &Field<'_>) {
    for list in ["capacity", "allocatable"] {
        let amounts = status.child(list);
        for (name, amount) in amounts.entries() {
            resource_names::amount(errors, &amounts.child(name).with(amount.value), name);
        }
    }
}

/// As upstream, the error names the metadata.
fn swap(errors: &mut Vec<FieldError>, metadata: &Field<'_>, status: &Field<'_>) {
    let info = status.child("nodeInfo");
    let (swap, shown) = (info.child("swap"), metadata.child("nodeSwapStatus"));
    let capacity = shown.with(swap.value);
    let capacity = capacity.child("capacity");
    if capacity.number().is_some_and(|capacity| capacity <= 0) {
        errors.push(capacity.invalid("must be greater than zero"));
    }
}

/// Names in a sorted list, each once.
fn features(errors: &mut Vec<FieldError>, features: &Field<'_>) {
    let mut before: Option<String> = None;
    for feature in features.each() {
        let name = feature.text();
        match before.as_deref().map(|before| before.cmp(name)) {
            Some(std::cmp::Ordering::Equal) => errors.push(feature.duplicate()),
            Some(std::cmp::Ordering::Greater) => errors.push(feature.invalid("list must be sorted alphabetically")),
            _ => {}
        }
        if name.len() > LONGEST_FEATURE {
            errors.push(feature.invalid(format!("invalid feature name {name:?}: must be no more than {LONGEST_FEATURE} characters")));
        } else if !is_feature(name) {
            let rule = "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes";
            errors.push(feature.invalid(format!("invalid feature name {name:?}: {rule}")));
        }
        before = Some(name.to_owned());
    }
}

fn is_feature(name: &str) -> bool {
    let is_segment = |segment: &str| segment.starts_with(|c: char| c.is_ascii_alphabetic()) && segment.bytes().all(|b| b.is_ascii_alphanumeric());
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.split('/').all(is_segment)
}

/// Ranges become routes and rules of every node: at most one of each family, and none that holds addresses no pod can have.
fn pod_ranges(errors: &mut Vec<FieldError>, ranges: &Field<'_>) {
    for range in ranges.each() {
        let path = range.to_string();
        if ip::range(errors, &path, range.text()) && Range::parse(range.text()).is_some_and(Range::is_special) {
            errors.push(range.invalid("must be a range of addresses that pods can have"));
        }
    }
    let families: BTreeSet<bool> = ranges.each().filter_map(|range| Range::parse(range.text())).map(Range::is_ipv6).collect();
    if ranges.items().len() > 2 || ranges.items().len() > 1 && families.len() < 2 {
        errors.push(ranges.invalid("may specify no more than one CIDR for each IP family"));
    }
}

fn addresses(errors: &mut Vec<FieldError>, addresses: &Field<'_>) {
    let mut known = HashSet::new();
    for (address, value) in addresses.each().zip(addresses.items()) {
        let (kind, text) = (text(value, &["type"]), text(value, &["address"]));
        if !known.insert((kind, text)) {
            errors.push(address.duplicate_shown(&[("Type", kind.into()), ("Address", text.into())]));
        }
    }
}

fn taints(errors: &mut Vec<FieldError>, taints: &Field<'_>) {
    let mut known = HashSet::new();
    for (taint, value) in taints.each().zip(taints.items()) {
        let (key, effect) = (text(value, &["key"]), text(value, &["effect"]));
        taint.child("key").check_qualified(errors);
        let messages = names::label_value(taint.child("value").text());
        if !messages.is_empty() {
            errors.push(taint.child("value").invalid(messages.join(";")));
        }
        taint.child("effect").check_one_of(errors, &EFFECTS);
        if !known.insert((key, effect)) {
            let (added, value) = (value.get("timeAdded").cloned().unwrap_or_default(), text(value, &["value"]));
            let shown = [("Key", key.into()), ("Value", value.into()), ("Effect", effect.into()), ("TimeAdded", added)];
            errors.push(FieldError { detail: "taints must be unique by key and effect pair".to_owned(), ..taint.duplicate_shown(&shown) });
        }
    }
}
