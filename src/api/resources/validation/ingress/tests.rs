use serde_json::{Value, json};

use super::*;
use crate::resources::validation::tests::texts;

fn object(spec: Value) -> Object {
    Object::from_value(json!({"metadata": {"name": "i", "namespace": "n"}, "spec": spec})).expect("an object")
}

fn with_path(kind: &str, path: &str) -> Value {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    json!({"rules": [{"http": {"paths": [{"pathType": kind, "path": path, "backend": backend}]}}]})
}

#[test]
fn hosts_and_paths_are_what_servers_can_tell_apart() {
    let cases = [
        (with_path("Prefix", "/a"), ""),
        (json!({}), "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"),
        (with_path("Prefix", "a"), "spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path"),
        (with_path("Exact", "/a//b"), "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'"),
        (with_path("Exact", "/a/.."), "spec.rules[0].http.paths[0].path: Invalid value: \"/a/..\": cannot end with '/..'"),
        (with_path("ImplementationSpecific", "*"), "spec.rules[0].http.paths[0].path: Invalid value: \"*\": must be an absolute path"),
        (
            with_path("Any", "/"),
            "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Any\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
        ),
        (
            json!({"rules": [{"http": {"paths": [{"path": "/"}]}}]}),
            "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
        ),
        (json!({"rules": [{"http": {}}]}), "spec.rules[0].http.paths: Required value"),
        (json!({"rules": [{"host": "10.0.0.1"}]}), "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"),
        (json!({"rules": [{"host": "a.*.b"}]}), "spec.rules[0].host: Invalid value: \"a.*.b\": a wildcard DNS-1123 subdomain must start with '*.'"),
        (json!({"rules": [{"host": "a\nb"}]}), "spec.rules[0].host: Invalid value: \"a\\nb\": a lowercase RFC 1123 subdomain must consist of"),
        (
            json!({"rules": [{}], "tls": [{"hosts": ["A"]}]}),
            "spec.tls[0].hosts[0]: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            json!({"rules": [{}], "tls": [{"secretName": "../s"}]}),
            "spec.tls[0].secretName: Invalid value: \"../s\": a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            json!({"rules": [{}], "ingressClassName": ""}),
            "spec.ingressClassName: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of",
        ),
    ];
    for (spec, wanted) in cases {
        let errors = texts(ingress(&object(spec.clone())));
        assert_eq!(errors.len(), usize::from(!wanted.is_empty()), "{spec}: {errors:#?}");
        assert!(errors.concat().starts_with(wanted), "{spec}: {errors:#?}");
    }
}

#[test]
fn a_backend_is_one_service_with_one_port_or_one_object() {
    let service = |port: Value| json!({"service": {"name": "s", "port": port}});
    let cases = [
        (json!({}), "spec.defaultBackend: Invalid value: \"\": resource or service backend is required"),
        (service(json!({})), "spec.defaultBackend: Required value: port name or number is required"),
        (service(json!({"name": "a", "number": 1})), "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number"),
        (service(json!({"number": 70_000})), "spec.defaultBackend.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive"),
        (json!({"service": {"port": {"number": 1}}}), "spec.defaultBackend.service.name: Required value"),
        (
            json!({"service": {"name": "s"}, "resource": {"kind": "K", "name": "n"}}),
            "spec.defaultBackend: Invalid value: \"\": cannot set both resource and service backends",
        ),
        (json!({"resource": {"name": "n"}}), "spec.defaultBackend.resource.kind: Required value"),
        (json!({"resource": {"kind": "K", "name": ".."}}), "spec.defaultBackend.resource.name: Invalid value: \"..\": may not be '..'"),
    ];
    for (backend, wanted) in cases {
        assert_eq!(texts(ingress(&object(json!({"defaultBackend": backend})))), [wanted], "{backend}");
    }
}

#[test]
fn an_older_ingress_keeps_what_was_allowed_once() {
    let old = object(json!({"rules": [{"host": "*.a", "http": {}}], "tls": [{"secretName": "A"}]}));
    let mut new = old.clone();
    new.set(&["spec", "tls"], json!([{"secretName": "B"}]));
    new.set(&["spec", "rules"], json!([{"host": "*.b", "http": {}}]));
    assert_eq!(texts(ingress_update(&new, &old)), Vec::<String>::new());
    assert_eq!(texts(ingress_update(&new, &object(with_path("Prefix", "/")))).len(), 2);
}

#[test]
fn a_new_ingress_names_its_class_once() {
    let mut new = object(json!({"rules": [{}], "ingressClassName": "a"}));
    new.set(&["metadata", "annotations"], json!({"kubernetes.io/ingress.class": "b"}));
    assert_eq!(
        texts(ingress(&new)),
        ["annotations.kubernetes.io/ingress.class: Invalid value: \"b\": must match `ingressClassName` when both are specified"]
    );
}

#[test]
fn a_class_has_a_controller_and_parameters_somewhere() {
    let of = |spec: Value| texts(ingress_class(&object(spec)));
    let with = |parameters: Value| of(json!({"controller": "a.io/c", "parameters": parameters}));
    assert_eq!(with(json!({"kind": "K", "name": "n", "scope": "Cluster"})), Vec::<String>::new());
    assert_eq!(of(json!({})), ["spec.controller: Required value"]);
    assert_eq!(of(json!({"controller": "c"})), ["spec.controller: Invalid value: \"c\": must be a domain-prefixed path (such as \"acme.io/foo\")"]);
    assert_eq!(
        of(json!({"controller": "a.io/c d"})),
        ["spec.controller: Invalid value: \"c d\": Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')"]
    );
    assert_eq!(
        with(json!({"kind": "K", "name": "n", "scope": "Namespace"})),
        ["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"]
    );
    assert_eq!(
        with(json!({"kind": "K", "name": "n", "scope": "Cluster", "namespace": "n"})),
        ["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"]
    );
    assert_eq!(
        with(json!({"name": "a/b", "scope": "Here"})),
        [
            "spec.parameters.kind: Required value",
            "spec.parameters.name: Invalid value: \"a/b\": may not contain '/'",
            "spec.parameters.scope: Unsupported value: \"Here\": supported values: \"Cluster\", \"Namespace\"",
        ]
    );
    let (new, old) = (object(json!({"controller": "a.io/d"})), object(json!({"controller": "a.io/c"})));
    assert_eq!(texts(ingress_class_update(&new, &old)), ["spec.controller: Invalid value: \"a.io/d\": field is immutable"]);
}
