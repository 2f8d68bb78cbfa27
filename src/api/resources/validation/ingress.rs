//! Ingresses and their classes.

use serde_json::Value;

use super::{Field, IMMUTABLE, address};
use crate::{
    meta::{
        Object,
        names::{self, path_segment},
    },
    status::FieldError,
};

const NONE: &Value = &Value::Null;
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const LONGEST_CONTROLLER: usize = 250;
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const BAD_PARTS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];

fn spec_of(object: &Object) -> Field<'_> {
    Field::root("spec", object.get(&["spec"]).unwrap_or(NONE))
}

/// What an older object may keep although later rules refuse it.
#[derive(Clone, Copy, Default)]
struct Tolerated {
    secret_names: bool,
    wildcard_rules: bool,
}

impl Tolerated {
    fn of(old: &Object) -> Self {
        let spec = spec_of(old);
        let (rules, entries) = (spec.child("rules"), spec.child("tls"));
        let is_bad_rule = |rule: &Field<'_>| {
            let mut errors = Vec::new();
            routes(&mut errors, rule);
            rule.child("host").text().contains('*') && !errors.is_empty()
        };
        Tolerated {
            secret_names: entries.each().any(|entry| !secret_name(entry.child("secretName").text()).is_empty()),
            wildcard_rules: rules.each().any(|rule| is_bad_rule(&rule)),
        }
    }
}

/// Checks a new ingress.
pub fn ingress(object: &Object) -> Vec<FieldError> {
    let mut errors = of_spec(object, Tolerated::default());
    let class = object.get(&["spec", "ingressClassName"]).and_then(Value::as_str);
    if let (Some(annotation), Some(class)) = (object.annotation(CLASS_ANNOTATION), class)
        && annotation != class
    {
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(format!("annotations.{CLASS_ANNOTATION}"), annotation, detail));
    }
    errors
}

/// Checks an update.
pub fn ingress_update(new: &Object, old: &Object) -> Vec<FieldError> {
    of_spec(new, Tolerated::of(old))
}

fn of_spec(object: &Object, tolerated: Tolerated) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    let (rules, default) = (spec.child("rules"), spec.child("defaultBackend"));
    if rules.items().is_empty() && !default.is_set() {
        errors.push(spec.invalid_as(rules.value.clone(), "either `defaultBackend` or `rules` must be specified"));
    }
    if default.is_set() {
        backend(&mut errors, &default);
    }
    for rule in rules.each() {
        host(&mut errors, &rule.child("host"));
        if !(tolerated.wildcard_rules && rule.child("host").text().contains('*')) {
            routes(&mut errors, &rule);
        }
    }
    for entry in spec.child("tls").each() {
        entry.child("hosts").each().for_each(|host| domain(&mut errors, &host));
        if !tolerated.secret_names {
            let name = entry.child("secretName");
            name.judge(&mut errors, secret_name(name.text()));
        }
    }
    let class = spec.child("ingressClassName");
    if class.is_set() {
        class.judge(&mut errors, names::subdomain(class.text(), false));
    }
    errors
}

fn secret_name(name: &str) -> Vec<String> {
    if name.is_empty() { Vec::new() } else { names::subdomain(name, false) }
}

fn host(errors: &mut Vec<FieldError>, host: &Field<'_>) {
    if host.text().is_empty() {
        return;
    }
    if address::parse(host.text()).is_some() {
        errors.push(host.invalid("must be a DNS name, not an IP address"));
    }
    domain(errors, host);
}

fn domain(errors: &mut Vec<FieldError>, host: &Field<'_>) {
    let messages = if host.text().contains('*') { names::wildcard_subdomain(host.text()) } else { names::subdomain(host.text(), false) };
    host.judge(errors, messages);
}

fn routes(errors: &mut Vec<FieldError>, rule: &Field<'_>) {
    let http = rule.child("http");
    let paths = http.child("paths");
    if http.is_set() && paths.items().is_empty() {
        errors.push(paths.required(""));
    }
    for path in paths.each() {
        route(errors, &path);
    }
}

fn route(errors: &mut Vec<FieldError>, route: &Field<'_>) {
    let (kind, path) = (route.child("pathType"), route.child("path"));
    if !kind.is_set() {
        return errors.push(kind.required("pathType must be specified"));
    }
    let text = path.text();
    let (is_exact, is_absolute) = (matches!(kind.text(), "Exact" | "Prefix"), text.starts_with('/'));
    kind.check_supported(errors, &PATH_TYPES);
    if PATH_TYPES.contains(&kind.text()) && !is_absolute && (is_exact || !text.is_empty()) {
        errors.push(path.invalid_as(text, "must be an absolute path"));
    }
    if is_exact {
        let bad = BAD_PARTS.iter().filter(|part| text.contains(**part));
        errors.extend(bad.map(|part| path.invalid(format!("must not contain '{part}'"))));
        let bad = BAD_ENDS.iter().filter(|end| text.ends_with(**end));
        errors.extend(bad.map(|end| path.invalid(format!("cannot end with '{end}'"))));
    }
    backend(errors, &route.child("backend"));
}

fn backend(errors: &mut Vec<FieldError>, backend: &Field<'_>) {
    let (service, resource) = (backend.child("service"), backend.child("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => errors.push(backend.invalid_as("", "cannot set both resource and service backends")),
        (true, false) => service_backend(errors, backend, &service),
        (false, true) => reference(errors, &resource),
        (false, false) => errors.push(backend.invalid_as("", "resource or service backend is required")),
    }
}

fn service_backend(errors: &mut Vec<FieldError>, backend: &Field<'_>, service: &Field<'_>) {
    service.child("name").check_required_name(errors, names::label);
    let port = service.child("port");
    let (name, number) = (port.child("name"), port.child("number"));
    match (name.text().is_empty(), number.int() == 0) {
        (false, false) => errors.push(backend.invalid_as("", "cannot set both port name & port number")),
        (false, true) => name.judge(errors, names::port_name(name.text())),
        (true, false) => number.check_between(errors, 1, 65_535),
        (true, true) => errors.push(backend.required("port name or number is required")),
    }
}

/// A reference to an object of any kind.
fn reference(errors: &mut Vec<FieldError>, reference: &Field<'_>) {
    let group = reference.child("apiGroup");
    if group.is_set() {
        group.judge(errors, names::subdomain(group.text(), false));
    }
    for name in ["kind", "name"] {
        reference.child(name).check_required_name(errors, path_segment);
    }
}

/// Checks an ingress class.
pub fn ingress_class(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    controller(&mut errors, &spec.child("controller"));
    let parameters = spec.child("parameters");
    if parameters.is_set() {
        reference(&mut errors, &parameters);
        scope(&mut errors, &parameters);
    }
    errors
}

/// Checks an update: the controller stays.
pub fn ingress_class_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let controller = |object: &Object| object.str(&["spec", "controller"]).to_owned();
    if controller(new) != controller(old) {
        errors.push(FieldError::invalid("spec.controller", controller(new), IMMUTABLE));
    }
    errors.extend(ingress_class(new));
    errors
}

/// A domain and a path.
fn controller(errors: &mut Vec<FieldError>, controller: &Field<'_>) {
    let text = controller.text();
    if text.len() > LONGEST_CONTROLLER {
        errors.push(controller.too_long(LONGEST_CONTROLLER));
    }
    if text.is_empty() {
        return errors.push(controller.required(""));
    }
    let Some((domain, path)) = text.split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty()) else {
        return errors.push(controller.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"));
    };
    errors.extend(names::subdomain(domain, false).into_iter().map(|message| controller.invalid_as(domain, message)));
    if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)) {
        let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(controller.invalid_as(path, detail));
    }
}

fn scope(errors: &mut Vec<FieldError>, parameters: &Field<'_>) {
    let (scope, namespace) = (parameters.child("scope"), parameters.child("namespace"));
    match scope.text() {
        _ if !scope.is_set() => errors.push(scope.required("")),
        "Namespace" if !namespace.is_set() => errors.push(namespace.required("`parameters.scope` is set to 'Namespace'")),
        "Namespace" => namespace.judge(errors, names::label(namespace.text(), false)),
        "Cluster" if namespace.is_set() => errors.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'")),
        "Cluster" => {}
        _ => errors.push(scope.not_supported(&["Cluster", "Namespace"])),
    }
}

#[cfg(test)]
mod tests;
