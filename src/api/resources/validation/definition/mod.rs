//! Custom resource definitions: names, versions, schemas that are structural, and what an update may not change.
//!
//! They are judged in the form in which upstream judges them (`internal`), so that errors name the same fields. Rules in the
//! expression language are compiled once everything else is right (`expressions`).

mod approval;
mod columns;
mod conversion;
mod defaults;
mod expressions;
mod internal;
mod junctors;
mod lists;
mod names;
mod rules;
mod schema;
mod spec;
mod structural;
#[cfg(test)]
mod tests;
mod value;

pub use approval::condition as approval_condition;

use std::collections::HashSet;

use serde_json::Value;

use super::{Field, IMMUTABLE};
use crate::{
    meta::{Object, names::subdomain},
    resources::tree::{at, flag, items, text},
    status::FieldError,
};

/// What an update may keep, and what it may not change.
#[derive(Default)]
struct Ratchet {
    /// Certificates of a webhook may be broken: nobody calls it yet, or they were broken before.
    broken_bundle: bool,
    /// No known version of the conversion's question is listed.
    unknown_versions: bool,
    /// Versions with more selectable fields than there may be; "" stands for all together.
    many_selectable: HashSet<String>,
}

/// Errors about schemas are not collected beyond this many bytes: within each other, schemas have long paths.
const MOST_TEXT: usize = 4 << 20;

/// Whether so much was said that more of the kind is not worth its memory.
fn is_enough(errors: &[FieldError]) -> bool {
    errors.last().is_some_and(|last| errors.len() * last.length() > MOST_TEXT)
}

/// Checks a new definition.
pub fn create(object: &Object) -> Vec<FieldError> {
    let spec = internal::spec(object.get(&["spec"]).unwrap_or(&Value::Null));
    let mut errors = Vec::new();
    own_name(&mut errors, object, &spec);
    let ratchet = Ratchet { broken_bundle: true, ..Ratchet::default() };
    common(&mut errors, object, &spec, &ratchet);
    approval::check(&mut errors, object, None);
    preserve_unknown(&mut errors, &spec);
    errors
}

/// Checks an update of a definition.
pub fn update(new: &Object, old: &Object) -> Vec<FieldError> {
    let [spec, before] = [new, old].map(|object| internal::spec(object.get(&["spec"]).unwrap_or(&Value::Null)));
    let mut errors = Vec::new();
    common(&mut errors, new, &spec, &ratchet(&spec, &before, old));
    let (spec, established) = (Field::root("spec", &spec), is_established(old));
    let fixed = [("scope", None, established), ("names", Some("kind"), established), ("group", None, true), ("names", Some("plural"), true)];
    for (name, part, _) in fixed.into_iter().filter(|(_, _, applies)| *applies) {
        let path: Vec<&str> = std::iter::once(name).chain(part).collect();
        let field = Field::root("spec", spec.value);
        let field = field.child(name);
        let field = part.map_or(field, |part| field.child(part));
        if field.value != at(&before, &path) {
            errors.push(field.invalid(IMMUTABLE));
        }
    }
    approval::check(&mut errors, new, Some(old));
    if !flag(&before, &["preserveUnknownFields"]) {
        preserve_unknown(&mut errors, spec.value);
    }
    errors
}

/// Checks the status of a definition.
pub fn status(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::root("status", object.get(&["status"]).unwrap_or(&Value::Null));
    names::check(&mut errors, &status.child("acceptedNames"));
    errors
}

/// Whether anybody is served by the definition already.
fn is_established(object: &Object) -> bool {
    let conditions = object.list(&["status", "conditions"]);
    conditions.iter().any(|condition| text(condition, &["type"]) == "Established" && text(condition, &["status"]) == "True")
}

fn ratchet(spec: &Value, before: &Value, old: &Object) -> Ratchet {
    let bundle = Field::root("", at(before, &["conversion", "webhookClientConfig", "caBundle"]));
    let mut faults = Vec::new();
    super::webhook_client::ca_bundle(&mut faults, &bundle);
    Ratchet {
        broken_bundle: !is_established(old) || !faults.is_empty(),
        unknown_versions: conversion::knows_none(at(before, &["conversion"])),
        many_selectable: columns::unchanged_beyond_limit(spec, before),
    }
}

fn own_name(errors: &mut Vec<FieldError>, object: &Object, spec: &Value) {
    let required = format!("{}.{}", text(spec, &["names", "plural"]), text(spec, &["group"]));
    for (field, name) in [("metadata.generateName", object.str(&["metadata", "generateName"])), ("metadata.name", object.name())] {
        if !name.is_empty() && name != required && subdomain(name, field.ends_with("generateName")).is_empty() {
            errors.push(FieldError::invalid(field, name, "must be spec.names.plural+\".\"+spec.group"));
        }
    }
}

fn common(errors: &mut Vec<FieldError>, object: &Object, spec: &Value, ratchet: &Ratchet) {
    spec::check(errors, &Field::root("spec", spec), ratchet);
    errors.extend(status(object));
    stored_versions(errors, object, spec);
}

/// Each version that objects are stored in is defined.
fn stored_versions(errors: &mut Vec<FieldError>, object: &Object, spec: &Value) {
    let stored = Field::root("status.storedVersions", object.get(&["status", "storedVersions"]).unwrap_or(&Value::Null));
    if stored.items().is_empty() {
        return errors.push(stored.invalid("must have at least one stored version"));
    }
    let versions = items(spec, &["versions"]);
    let storage = versions.iter().find(|version| flag(version, &["storage"])).map(|version| text(version, &["name"]));
    if let Some(name) = storage.filter(|name| !stored.items().iter().any(|stored| stored == name)) {
        errors.push(stored.invalid(format!("must have the storage version {name}")));
    }
    let defined: HashSet<&str> = versions.iter().map(|version| text(version, &["name"])).collect();
    for version in stored.each() {
        let name = version.text();
        if !defined.contains(name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage \
                 migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(version.invalid(detail));
        }
    }
}

fn preserve_unknown(errors: &mut Vec<FieldError>, spec: &Value) {
    if flag(spec, &["preserveUnknownFields"]) {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", true, detail));
    }
}
