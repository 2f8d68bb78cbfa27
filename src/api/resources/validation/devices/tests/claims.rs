use serde_json::{Value, json};

use super::{super::*, many, object, refused, texts};

const LABEL: &str = "a lowercase RFC 1123 label must consist of";

fn request() -> Value {
    json!({"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com", "allocationMode": "ExactCount", "count": 1}})
}

fn alternative(name: &str) -> Value {
    json!({"name": name, "deviceClassName": "a", "allocationMode": "All"})
}

fn base() -> Value {
    json!({"metadata": {"name": "c", "namespace": "d"}, "spec": {"devices": {
        "requests": [request(), {"name": "any", "firstAvailable": [alternative("big"), alternative("small")]}],
        "constraints": [{"requests": ["gpu", "any/big"], "matchAttribute": "example.com/numa"}],
        "config": [{"requests": ["any"], "opaque": {"driver": "example.com", "parameters": {}}}],
    }}})
}

#[test]
fn what_is_asked_for_has_names_and_bounds() {
    let named = |name: &str| json!({"name": name, "exactly": {"deviceClassName": "a", "allocationMode": "All"}});
    let neither = "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required";
    let mut both = request();
    both["firstAvailable"] = json!([alternative("a")]);
    refused(
        claim,
        &base(),
        vec![
            (
                "/spec/devices",
                json!({"requests": many(33, |at| named(&format!("r{at}")))}),
                &["spec.devices.requests: Too many: 33: must have at most 32 items"],
            ),
            ("/spec/devices", json!({"requests": [named("a"), named("a")]}), &["spec.devices.requests[1]: Duplicate value: \"a\""]),
            ("/spec/devices", json!({"requests": [named("")]}), &[&format!("spec.devices.requests[0].name: Invalid value: \"\": {LABEL}")]),
            ("/spec/devices", json!({"requests": [named("../a")]}), &[&format!("spec.devices.requests[0].name: Invalid value: \"../a\": {LABEL}")]),
            ("/spec/devices/requests/0", json!({"name": "gpu"}), &[neither]),
            (
                "/spec/devices/requests/0",
                both,
                &[
                    "spec.devices.requests[0]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
                ],
            ),
            ("/spec/devices/constraints", many(33, |_| json!({})), &["spec.devices.constraints: Too many: 33: must have at most 32 items"]),
            ("/spec/devices/config", many(33, |_| json!({})), &["spec.devices.config: Too many: 33: must have at most 32 items"]),
            (
                "/spec/devices/requests/1/firstAvailable",
                many(9, |at| alternative(&format!("a{at}"))),
                &[
                    "spec.devices.requests[1].firstAvailable: Too many: 9: must have at most 8 items",
                    "spec.devices.constraints[0].requests[1]: Invalid value: \"any/big\": must be the name of a request in the claim",
                ],
            ),
            (
                "/spec/devices/requests/1/firstAvailable/1",
                alternative("big"),
                &["spec.devices.requests[1].firstAvailable[1]: Duplicate value: \"big\""],
            ),
            (
                "/spec/devices/requests/1/firstAvailable/1/deviceClassName",
                json!("A"),
                &["spec.devices.requests[1].firstAvailable[1].deviceClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain"],
            ),
        ],
    );
}

#[test]
fn an_exact_request_counts_selects_and_tolerates() {
    let exactly = "/spec/devices/requests/0/exactly";
    let at = |field: &str| format!("{exactly}/{field}");
    let toleration = |value: Value| json!([value]);
    let rows: Vec<(String, Value, &[&str])> = vec![
        (at("deviceClassName"), Value::Null, &["spec.devices.requests[0].exactly.deviceClassName: Required value"]),
        (at("selectors"), json!([{}]), &["spec.devices.requests[0].exactly.selectors[0].cel: Required value"]),
        (at("count"), json!(-1), &["spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero"]),
        (at("count"), Value::Null, &["spec.devices.requests[0].exactly.count: Invalid value: 0: must be greater than zero"]),
        (
            at("allocationMode"),
            json!("All"),
            &["spec.devices.requests[0].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'"],
        ),
        (
            at("allocationMode"),
            json!("Some"),
            &["spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\""],
        ),
        (
            at("tolerations"),
            toleration(json!({"key": "a b", "operator": "Equal", "value": "c d"})),
            &[
                "spec.devices.requests[0].exactly.tolerations[0].key: Invalid value: \"a b\": name part must consist of",
                "spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"c d\": a valid label must be",
            ],
        ),
        (
            at("tolerations"),
            toleration(json!({"operator": "Exists", "value": "x"})),
            &["spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"x\": must be empty for operator `Exists`"],
        ),
        (at("tolerations"), toleration(json!({})), &["spec.devices.requests[0].exactly.tolerations[0].operator: Required value"]),
        (
            at("tolerations"),
            toleration(json!({"operator": "Gt", "effect": "Evict"})),
            &[
                "spec.devices.requests[0].exactly.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\"",
                "spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: \"Evict\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
            ],
        ),
    ];
    refused(claim, &base(), rows.iter().map(|(pointer, value, want)| (pointer.as_str(), value.clone(), *want)).collect());
}

#[test]
fn constraints_name_requests_and_attributes() {
    let unknown = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let constraint = |requests: Value, attribute: &str| json!({"requests": requests, "matchAttribute": attribute});
    let at = "spec.devices.constraints[0]";
    let pointer = "/spec/devices/constraints/0";
    refused(
        claim,
        &base(),
        vec![
            (pointer, constraint(json!(["x"]), "a.b/c"), &[&format!("{at}.requests[0]: Invalid value: \"x\": {unknown}")]),
            (pointer, constraint(json!(["gpu/x"]), "a.b/c"), &[&format!("{at}.requests[0]: Invalid value: \"gpu/x\": {unknown}")]),
            (pointer, constraint(json!(["any/big/x"]), "a.b/c"), &[&format!("{at}.requests[0]: Invalid value: \"any/big/x\": {unknown}")]),
            (
                pointer,
                constraint(json!(["X"]), "a.b/c"),
                &[&format!("{at}.requests[0]: Invalid value: \"X\": {LABEL}"), &format!("{at}.requests[0]: Invalid value: \"X\": {unknown}")],
            ),
            (pointer, constraint(json!(["gpu", "gpu"]), "a.b/c"), &[&format!("{at}.requests[1]: Duplicate value: \"gpu\"")]),
            (pointer, constraint(many(33, |_| "gpu".into()), "a.b/c"), &[&format!("{at}.requests: Too many: 33: must have at most 32 items")]),
            (
                pointer,
                json!({}),
                &[&format!(
                    "{at}: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set"
                )],
            ),
            (
                pointer,
                constraint(json!([]), "numa"),
                &[&format!("{at}.matchAttribute: Invalid value: \"numa\": a fully qualified name must be a domain and a name separated by a slash")],
            ),
            (
                pointer,
                json!({"distinctAttribute": "/"}),
                &[
                    &format!("{at}.distinctAttribute: Invalid value: \"\": the domain must not be empty"),
                    &format!("{at}.distinctAttribute: Invalid value: \"\": the name must not be empty"),
                ],
            ),
            (
                pointer,
                constraint(json!([]), &format!("A_/{}-", "b".repeat(32))),
                &[
                    &format!("{at}.matchAttribute: Invalid value: \"A_\": a lowercase RFC 1123 subdomain"),
                    &format!("{at}.matchAttribute: Too long: may not be more than 32 bytes"),
                    &format!("{at}.matchAttribute: Invalid value: \"{}-\": a valid C identifier must start with", "b".repeat(32)),
                ],
            ),
            ("/spec/devices/config/0/requests", json!(["x"]), &[&format!("spec.devices.config[0].requests[0]: Invalid value: \"x\": {unknown}")]),
            ("/spec/devices/config/0/opaque", Value::Null, &["spec.devices.config[0].opaque: Required value"]),
        ],
    );
}

#[test]
fn the_spec_of_a_claim_stays() {
    let old = object(base());
    let mut new = old.clone();
    new.set(&["spec", "devices"], json!({"requests": [{"name": "../x"}]}));
    let errors = texts(&claim_update(&new, &old));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("spec: Invalid value: {") && errors[0].ends_with("}: field is immutable"), "{}", errors[0]);
    assert!(claim_update(&old, &old).is_empty());
}

#[test]
fn a_template_is_a_claim_with_labels_and_annotations() {
    let base = json!({"metadata": {"name": "t", "namespace": "d"}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": base()["spec"]}});
    refused(
        template,
        &base,
        vec![
            ("/spec/metadata", json!({"name": "x"}), &["spec.metadata.name: Forbidden: cannot be set"]),
            (
                "/spec/metadata",
                json!({"uid": "x", "finalizers": ["a/b"]}),
                &["spec.metadata.finalizers: Forbidden: cannot be set", "spec.metadata.uID: Forbidden: cannot be set"],
            ),
            ("/spec/metadata", json!({"labels": {"a": "b c"}}), &["spec.metadata.labels: Invalid value: \"b c\": a valid label must be"]),
            ("/spec/spec/devices/requests/0", json!({"name": "gpu"}), &["spec.spec.devices.requests[0]: Required value: exactly one of"]),
        ],
    );
    let (old, mut new) = (object(base.clone()), object(base));
    new.set(&["spec", "metadata", "labels", "a"], "c");
    let errors = texts(&template_update(&new, &old));
    assert!(errors.len() == 1 && errors[0].ends_with(": field is immutable"), "{errors:?}");
}
