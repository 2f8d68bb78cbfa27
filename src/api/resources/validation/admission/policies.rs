//! Admission policies: what they are asked about and what they say.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    FAILURE_POLICIES, REINVOCATION_POLICIES,
    environment::{Compiler, Wanted},
    expressions, required_choice, rules,
};
use crate::{
    meta::{Object, names},
    resources::{
        tree::text,
        validation::{Field, conditions::conditions},
    },
    status::FieldError,
};

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const PATCH_TYPES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
const MOST_ANNOTATIONS: usize = 20;
const LONGEST_ANNOTATION: usize = 5 * 1024;

fn spec(object: &Object) -> Field<'_> {
    Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null))
}

/// Checks a `ValidatingAdmissionPolicy`; `old` is what it replaces.
pub fn validating(object: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let (mut errors, spec) = (Vec::new(), spec(object));
    let mut compiler = common(&mut errors, object, old, false);
    let (validations, annotations) = (spec.child("validations"), spec.child("auditAnnotations"));
    if validations.items().is_empty() && annotations.items().is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.extend([validations.required(detail), annotations.required(detail)]);
    } else {
        validations.each().for_each(|one| validation(&mut errors, &one, &mut compiler));
        audit_annotations(&mut errors, &annotations, object.name(), &mut compiler);
    }
    errors
}

/// Checks a `MutatingAdmissionPolicy`; `old` is what it replaces.
pub fn mutating(object: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let (mut errors, spec) = (Vec::new(), spec(object));
    let mut compiler = common(&mut errors, object, old, true);
    let mutations = spec.child("mutations");
    if mutations.items().is_empty() {
        errors.push(mutations.required("mutations must contain at least one item"));
    }
    mutations.each().for_each(|one| mutation(&mut errors, &one, &mut compiler));
    spec.child("reinvocationPolicy").check_one_of(&mut errors, &REINVOCATION_POLICIES);
    errors
}

/// What both kinds of policies have; the compiler knows their variables.
fn common(errors: &mut Vec<FieldError>, object: &Object, old: Option<&Object>, mutating: bool) -> Compiler {
    let spec = spec(object);
    required_choice(errors, &spec.child("failurePolicy"), &FAILURE_POLICIES);
    let has_params = spec.child("paramKind").is_set();
    if has_params {
        param_kind(errors, &spec.child("paramKind"));
    }
    let matches = spec.child("matchConstraints");
    if matches.is_set() {
        rules::match_resources(errors, &matches);
        if matches.child("resourceRules").items().is_empty() {
            errors.push(matches.child("resourceRules").required(""));
        }
        if mutating {
            rules::mutating_operations(errors, &matches);
        }
    } else {
        errors.push(matches.required(""));
    }
    let same = |field: &str| old.is_some_and(|old| old.get(&["spec", field]) == object.get(&["spec", field]));
    if !(same("paramKind") && same("matchConditions")) {
        expressions::conditions_of_requests(errors, &spec.child("matchConditions"), has_params);
    }
    let variables = spec.child("variables");
    let mut compiler = Compiler::new(has_params, mutating || !variables.items().is_empty());
    expressions::variables(errors, &variables, &mut compiler);
    compiler
}

fn param_kind(errors: &mut Vec<FieldError>, kind: &Field<'_>) {
    let version = kind.child("apiVersion");
    match version.text() {
        "" => errors.push(version.required("")),
        text if text.matches('/').count() > 1 => errors.push(version.invalid(format!("unexpected GroupVersion string: {text}"))),
        text => group_version(errors, &version, text),
    }
    let name = kind.child("kind");
    let faults = names::dns_1035_label(&name.text().to_lowercase(), false);
    if name.text().is_empty() {
        errors.push(name.required(""));
    } else if !faults.is_empty() {
        errors.push(name.invalid(format!("may have mixed case, but should otherwise match: {}", faults.join(","))));
    }
}

fn group_version(errors: &mut Vec<FieldError>, field: &Field<'_>, text: &str) {
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    let mut judge = |part: &str, faults: Vec<String>| {
        if !faults.is_empty() {
            errors.push(field.invalid_as(part, faults.join(",")));
        }
    };
    if !group.is_empty() {
        judge(group, names::subdomain(group, false));
    }
    match version {
        "" => judge(text, vec!["version must be specified".to_owned()]),
        _ => judge(version, names::dns_1035_label(version, false)),
    }
}

fn validation(errors: &mut Vec<FieldError>, validation: &Field<'_>, compiler: &mut Compiler) {
    expressions::written(errors, &validation.child("expression"), compiler, Wanted::Condition, "expression is not specified");
    for name in ["messageExpression", "message"] {
        let field = validation.child(name);
        if !field.text().is_empty() && field.text().trim().is_empty() {
            errors.push(field.invalid("must be non-empty if specified"));
        } else if name == "messageExpression" && !field.text().is_empty() {
            expressions::written(errors, &field, compiler, Wanted::Message, "");
        } else if name == "message" && field.text().trim().contains(['\n', '\r']) {
            errors.push(field.invalid("must not contain line breaks"));
        }
    }
    validation.child("reason").check_supported(errors, &REASONS);
}

fn audit_annotations(errors: &mut Vec<FieldError>, list: &Field<'_>, policy: &str, compiler: &mut Compiler) {
    if list.items().len() > MOST_ANNOTATIONS {
        errors.push(list.invalid(format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations")));
    }
    let mut seen = HashSet::new();
    for annotation in list.each() {
        let (key, value) = (annotation.child("key"), annotation.child("valueExpression"));
        if policy.is_empty() {
            errors.push(key.invalid_as(key.text(), "requires metadata.name be non-empty"));
        } else {
            let whole = format!("{policy}/{}", key.text());
            errors.extend(names::qualified(&whole).into_iter().map(|fault| key.invalid_as(&*whole, fault)));
        }
        match value.text().trim() {
            "" => errors.push(value.required("valueExpression is not specified")),
            text if text.len() > LONGEST_ANNOTATION => errors.push(value.required(format!("must not exceed {LONGEST_ANNOTATION} bytes in length"))),
            text => errors.extend(compiler.compile(text, Wanted::Annotation).err().map(|why| value.invalid(why))),
        }
        if !seen.insert(text(annotation.value, &["key"])) {
            errors.push(key.duplicate());
        }
    }
}

fn mutation(errors: &mut Vec<FieldError>, mutation: &Field<'_>, compiler: &mut Compiler) {
    let kind = mutation.child("patchType");
    let (wanted, other, result) = match kind.text() {
        "JSONPatch" => ("jsonPatch", "applyConfiguration", Wanted::JsonPatch),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", Wanted::ApplyConfiguration),
        _ => return kind.check_one_of(errors, &PATCH_TYPES),
    };
    let (patch, extra) = (mutation.child(wanted), mutation.child(other));
    match patch.is_set() {
        true => expressions::trimmed(errors, &patch.child("expression"), compiler, result),
        false => errors.push(patch.required(format!("must be specified when patchType is {}", kind.text()))),
    }
    if extra.is_set() {
        errors.push(extra.invalid_as(format!("{{{other}}}"), format!("must not be specified when patchType is {}", kind.text())));
    }
}

/// Checks the status of a `ValidatingAdmissionPolicy`.
pub fn status(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::root("status", object.get(&["status"]).unwrap_or(&Value::Null));
    for warning in status.child("typeChecking").child("expressionWarnings").each() {
        warning.child("warning").check_required(&mut errors);
        expressions::expression(&mut errors, &warning.child("fieldRef"), "");
    }
    conditions(&mut errors, &status.child("conditions"));
    errors
}
