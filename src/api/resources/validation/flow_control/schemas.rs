//! Flow schemas: which requests they take, by whom and for what.

use serde_json::{Value, json};

use super::{EXEMPT, equal, fixed_spec};
use crate::{
    meta::{Object, names},
    resources::validation::Field,
    status::FieldError,
};

const LAST_PRECEDENCE: i64 = 10_000;
const METHODS: [&str; 2] = ["ByNamespace", "ByUser"];
const SUBJECT_KINDS: [&str; 3] = ["Group", "ServiceAccount", "User"];
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// Checks a flow schema, new or changed.
pub fn check(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null));
    precedence(&mut errors, &spec.child("matchingPrecedence"), object.name());
    let method = spec.child("distinguisherMethod");
    if method.is_set() && !METHODS.contains(&method.child("type").text()) {
        let shown = json!({"Type": method.child("type").text()});
        errors.push(FieldError::not_supported(method.child("type"), shown, &METHODS));
    }
    let level = spec.child("priorityLevelConfiguration");
    let level = level.child("name");
    if level.text().is_empty() {
        errors.push(level.required("must reference a priority level"));
    }
    level.check_name(&mut errors, names::subdomain);
    spec.child("rules").each().for_each(|one| rule(&mut errors, &one));
    if fixed_spec(object).is_some_and(|fixed| !equal(spec.value, &fixed)) {
        errors.push(spec.invalid(format!("spec of '{}' must equal the fixed value", object.name())));
    }
    errors.extend(super::status(object));
    errors
}

fn precedence(errors: &mut Vec<FieldError>, precedence: &Field<'_>, name: &str) {
    match precedence.int() {
        ..=0 => errors.push(precedence.invalid_as(precedence.int(), "must be a positive value")),
        1 if name != EXEMPT => errors.push(precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1")),
        number if number > LAST_PRECEDENCE => errors.push(precedence.invalid(format!("must not be greater than {LAST_PRECEDENCE}"))),
        _ => {}
    }
}

fn rule(errors: &mut Vec<FieldError>, rule: &Field<'_>) {
    let subjects = rule.child("subjects");
    if subjects.items().is_empty() {
        errors.push(subjects.required("subjects must contain at least one value"));
    }
    subjects.each().for_each(|one| subject(errors, &one));
    let (resources, paths) = (rule.child("resourceRules"), rule.child("nonResourceRules"));
    if resources.items().is_empty() && paths.items().is_empty() {
        errors.push(rule.required("at least one of resourceRules and nonResourceRules has to be non-empty"));
    }
    resources.each().for_each(|one| resource_rule(errors, &one));
    paths.each().for_each(|one| path_rule(errors, &one));
}

fn subject(errors: &mut Vec<FieldError>, subject: &Field<'_>) {
    let kind = subject.child("kind");
    let own = match kind.text() {
        "ServiceAccount" => "serviceAccount",
        "User" => "user",
        "Group" => "group",
        other => return errors.push(FieldError::not_supported(kind, other, &SUBJECT_KINDS)),
    };
    let named = subject.child(own);
    if named.is_set() {
        who(errors, &named, own);
    } else {
        errors.push(named.required(format!("{own} is required when subject kind is '{}'", kind.text())));
    }
    for (field, kind) in [("serviceAccount", "ServiceAccount"), ("user", "User"), ("group", "Group")] {
        if field != own && subject.child(field).is_set() {
            errors.push(subject.child(field).forbidden(format!("{field} is forbidden when subject kind is not '{kind}'")));
        }
    }
}

fn who(errors: &mut Vec<FieldError>, named: &Field<'_>, kind: &str) {
    let (name, namespace) = (named.child("name"), named.child("namespace"));
    name.check_required(errors);
    if kind != "serviceAccount" {
        return;
    }
    if name.text() != "*" {
        name.check_name(errors, names::subdomain);
    }
    if namespace.text().is_empty() {
        errors.push(namespace.required("must specify namespace for service account"));
    }
    namespace.check_name(errors, names::label);
}

fn has_wildcard(list: &Field<'_>) -> bool {
    list.items().iter().any(|item| item == "*")
}

/// A wildcard that does not stand alone.
fn lonely_wildcard(errors: &mut Vec<FieldError>, list: &Field<'_>, what: &str) {
    if list.items().len() > 1 && has_wildcard(list) {
        errors.push(list.invalid(format!("if '*' is present, must not specify other {what}")));
    }
}

fn verbs(errors: &mut Vec<FieldError>, verbs: &Field<'_>) {
    if verbs.items().is_empty() {
        errors.push(verbs.required("verbs must contain at least one value"));
    }
    lonely_wildcard(errors, verbs, "verbs");
    let known = |verb: &Value| verb.as_str().is_some_and(|verb| VERBS.contains(&verb));
    if !has_wildcard(verbs) && !verbs.items().iter().all(known) {
        errors.push(verbs.not_supported(&VERBS));
    }
}

fn path_rule(errors: &mut Vec<FieldError>, rule: &Field<'_>) {
    verbs(errors, &rule.child("verbs"));
    let urls = rule.child("nonResourceURLs");
    if urls.items().is_empty() {
        errors.push(urls.required("nonResourceURLs must contain at least one value"));
    }
    lonely_wildcard(errors, &urls, "non-resource URLs");
    if !has_wildcard(&urls) {
        errors.extend(urls.each().filter_map(|url| path_fault(url.text()).map(|why| url.invalid(why))));
    }
}

fn path_fault(path: &str) -> Option<&'static str> {
    let wildcards = path.matches('*').count();
    if path.is_empty() {
        Some("must not be empty")
    } else if !path.starts_with('/') {
        Some("must start with slash")
    } else if path.contains(' ') {
        Some("must not contain white-space")
    } else if path.contains("//") {
        Some("must not contain double slash")
    } else if wildcards > 1 || wildcards == 1 && !path.ends_with("/*") {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}

fn resource_rule(errors: &mut Vec<FieldError>, rule: &Field<'_>) {
    verbs(errors, &rule.child("verbs"));
    for (name, missing, others) in [
        ("apiGroups", "resource rules must supply at least one api group", "api groups"),
        ("resources", "resource rules must supply at least one resource", "resources"),
    ] {
        if rule.child(name).items().is_empty() {
            errors.push(rule.child(name).required(missing));
        }
        lonely_wildcard(errors, &rule.child(name), others);
    }
    let namespaces = rule.child("namespaces");
    if namespaces.items().is_empty() && !rule.child("clusterScope").is_true() {
        errors.push(namespaces.required("resource rules that are not cluster scoped must supply at least one namespace"));
    }
    lonely_wildcard(errors, &namespaces, "namespaces");
    if has_wildcard(&namespaces) {
        return;
    }
    for namespace in namespaces.each() {
        let faults = names::label(namespace.text(), false).into_iter();
        errors.extend(faults.map(|fault| namespace.invalid(format!("each member of this list must be '*' or a DNS-1123 label; {fault}"))));
    }
}
