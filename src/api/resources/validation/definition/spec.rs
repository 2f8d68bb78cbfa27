//! The spec of a definition: group, scope, versions and what stands in each.

use std::collections::HashSet;

use serde_json::Value;

use super::{Ratchet, columns, conversion, names, schema};
use crate::{
    meta::names::subdomain,
    resources::{
        tree::{at, flag, is_empty, text},
        validation::Field,
    },
    status::FieldError,
};

const SCOPES: [&str; 2] = ["Cluster", "Namespaced"];
const LONGEST_WARNING: usize = 256;

/// Checks a spec in its inner form.
pub(super) fn check(errors: &mut Vec<FieldError>, spec: &Field<'_>, ratchet: &Ratchet) {
    group(errors, &spec.child("group"));
    spec.child("scope").check_one_of(errors, &SCOPES);
    missing_schemas(errors, spec);
    let versions = spec.child("versions");
    let own_subresources = versions.items().iter().any(|version| !at(version, &["subresources"]).is_null());
    for one in versions.each() {
        let with_status = has_status(if own_subresources { one.value } else { spec.value });
        version(errors, &one, with_status, ratchet);
    }
    identical(errors, &versions);
    storage(errors, &versions);
    names::required(errors, &spec.child("names"));
    names::check(errors, &spec.child("names"));
    let any_status = has_status(spec.value) || versions.items().iter().any(has_status);
    schema::check(errors, &spec.child("validation"), any_status);
    columns::subresources(errors, &spec.child("subresources"));
    columns::printed(errors, &spec.child("additionalPrinterColumns"));
    let selectable = spec.child("selectableFields");
    if !selectable.items().is_empty() {
        if spec.child("validation").is_set() {
            let schema = at(spec.value, &["validation", "openAPIV3Schema"]);
            columns::selectable(errors, &selectable, schema, ratchet.many_selectable.contains(""));
        } else {
            errors.push(selectable.invalid_as("", "may only be set when validations.schema is included"));
        }
    }
    conversion::check(errors, &spec.child("conversion"), flag(spec.value, &["preserveUnknownFields"]), ratchet);
}

fn group(errors: &mut Vec<FieldError>, group: &Field<'_>) {
    let faults = subdomain(group.text(), false);
    if group.text().is_empty() {
        errors.push(group.required(""));
    } else if !faults.is_empty() {
        errors.push(group.invalid(faults.join(",")));
    } else if !group.text().contains('.') {
        errors.push(group.invalid("should be a domain with at least one dot"));
    }
}

/// Each version has a schema, or all have the same.
fn missing_schemas(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    if at(spec.value, &["validation", "openAPIV3Schema"]).is_object() {
        return;
    }
    for version in spec.child("versions").each() {
        let (parent, name) = (version.child("schema"), "openAPIV3Schema");
        if !parent.child(name).is_set() {
            errors.push(parent.child(name).required(""));
        }
    }
}

fn has_status(holder: &Value) -> bool {
    !at(holder, &["subresources", "status"]).is_null()
}

fn version(errors: &mut Vec<FieldError>, version: &Field<'_>, with_status: bool, ratchet: &Ratchet) {
    names::any_label(errors, &version.child("name"));
    deprecation(errors, version);
    schema::check(errors, &version.child("schema"), with_status);
    columns::subresources(errors, &version.child("subresources"));
    columns::printed(errors, &version.child("additionalPrinterColumns"));
    let selectable = version.child("selectableFields");
    if selectable.items().is_empty() {
        return;
    }
    match at(version.value, &["schema", "openAPIV3Schema"]) {
        Value::Null => errors.push(selectable.invalid_as("", "may only be set when `version.schema.openAPIV3Schema` is not included")),
        schema => {
            let name = text(version.value, &["name"]);
            columns::selectable(errors, &selectable, schema, ratchet.many_selectable.contains(name));
        }
    }
}

fn deprecation(errors: &mut Vec<FieldError>, version: &Field<'_>) {
    let warning = version.child("deprecationWarning");
    let Some(text) = warning.value.as_str() else { return };
    let mut fault = |detail: String| errors.push(warning.invalid(detail));
    if !version.child("deprecated").is_true() {
        return fault("can only be set for deprecated versions".to_owned());
    }
    if text.len() > LONGEST_WARNING {
        fault(format!("must be <= {LONGEST_WARNING} characters long"));
    }
    if text.is_empty() {
        fault("must not be an empty string".to_owned());
    }
    if let Some((index, _)) = text.char_indices().find(|(_, c)| !is_printable(*c)) {
        fault(format!("must only contain printable UTF-8 characters; non-printable character found at index {index}"));
    }
}

/// Letters, marks, numbers, punctuation, symbols and the space; nothing that is not seen or that turns the text around.
fn is_printable(c: char) -> bool {
    let invisible = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let private = matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    c == ' ' || !(c.is_control() || c.is_whitespace() || invisible || private)
}

/// What all versions have is not said in each.
fn identical(errors: &mut Vec<FieldError>, versions: &Field<'_>) {
    let all = versions.items();
    let same =
        |field: &str| all.first().is_some_and(|first| all.iter().all(|one| !is_empty(one, &[field]) && at(one, &[field]) == at(first, &[field])));
    for (field, plural, place) in [
        ("schema", "schemas", "validation"),
        ("subresources", "subresources", "subresources"),
        ("additionalPrinterColumns", "additionalPrinterColumns", "additionalPrinterColumns"),
    ] {
        if same(field) {
            let detail = format!("per-version {plural} may not all be set to identical values (top-level {place} should be used instead)");
            errors.push(versions.invalid(detail));
        }
    }
}

/// Versions have names of their own, and objects are stored in one of them.
fn storage(errors: &mut Vec<FieldError>, versions: &Field<'_>) {
    let mut seen = HashSet::new();
    if !versions.items().iter().all(|version| seen.insert(text(version, &["name"]))) {
        errors.push(versions.invalid("must contain unique version names"));
    }
    if versions.items().iter().filter(|version| flag(version, &["storage"])).count() != 1 {
        errors.push(versions.invalid("must have exactly one version marked as storage version"));
    }
}
