use serde_json::{Value, json};

use super::{super::*, many, object, refused, texts};

const LABEL: &str = "a lowercase RFC 1123 label must consist of";

/// A good slice of one device.
pub fn base() -> Value {
    let device =
        json!({"name": "gpu-0", "attributes": {"example.com/model": {"string": "x"}, "cores": {"int": 4}}, "capacity": {"memory": {"value": "8Gi"}}});
    json!({"metadata": {"name": "s"}, "spec": {
        "driver": "gpu.example.com", "pool": {"name": "node-1", "resourceSliceCount": 1}, "nodeName": "node-1", "devices": [device],
    }})
}

#[test]
fn a_slice_has_a_driver_a_pool_and_one_place() {
    let place = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let term = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
    refused(
        slice,
        &base(),
        vec![
            ("/spec/driver", Value::Null, &["spec.driver: Required value"]),
            (
                "/spec/pool",
                json!({}),
                &["spec.pool.name: Required value", "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"],
            ),
            ("/spec/pool/name", json!("../x"), &["spec.pool.name: Invalid value: \"..\": a lowercase RFC 1123 subdomain"]),
            ("/spec/pool/generation", json!(-1), &["spec.pool.generation: Invalid value: -1: must be greater than or equal to zero"]),
            ("/spec/nodeName", Value::Null, &[&format!("spec: Required value: {place}")]),
            (
                "/spec/nodeName",
                json!(""),
                &["spec.nodeName: Invalid value: \"\": must be either unset or set to a non-empty string", &format!("spec: Required value: {place}")],
            ),
            ("/spec/nodeName", json!("a/b"), &["spec.nodeName: Invalid value: \"a/b\": a lowercase RFC 1123 subdomain"]),
            ("/spec/allNodes", json!(true), &[&format!("spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {place}, but multiple fields are set")]),
            ("/spec/allNodes", json!(false), &["spec.allNodes: Invalid value: false: must be either unset or set to true"]),
            (
                "/spec/perDeviceNodeSelection",
                json!(false),
                &["spec.perDeviceNodeSelection: Invalid value: false: must be either unset or set to true"],
            ),
            (
                "/spec/nodeSelector",
                json!({"nodeSelectorTerms": [term, term]}),
                &[
                    "spec.nodeSelector.nodeSelectorTerms: Invalid value: [{",
                    &format!("spec: Invalid value: \"{{`nodeName`, `nodeSelector`}}\": {place}, but multiple fields are set"),
                ],
            ),
            (
                "/spec/sharedCounters",
                json!([{"name": "set", "counters": {"a": {"value": "1"}}}]),
                &["spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed"],
            ),
        ],
    );
}

#[test]
fn a_slice_stays_with_its_driver_pool_and_node() {
    let mut new = base();
    for (pointer, value) in [("/spec/driver", "other.example.com"), ("/spec/nodeName", "node-2"), ("/spec/pool/name", "pool")] {
        super::set(&mut new, pointer, json!(value));
    }
    assert_eq!(
        texts(&slice_update(&object(new), &object(base()))),
        [
            "spec.pool.name: Invalid value: \"pool\": field is immutable",
            "spec.driver: Invalid value: \"other.example.com\": field is immutable",
            "spec.nodeName: Invalid value: \"node-2\": field is immutable",
        ]
    );
}

#[test]
fn devices_are_few_and_each_has_its_name() {
    let named = |at: usize| json!({"name": format!("d{at}")});
    let tainted = |at: usize| json!({"name": format!("d{at}"), "taints": [{"key": "a", "effect": "None"}]});
    refused(
        slice,
        &base(),
        vec![
            ("/spec/devices", many(129, named), &["spec.devices: Too many: 129: must have at most 128 items"]),
            ("/spec/devices", many(65, tainted), &["spec.devices: Too many: 65: must have at most 64 items"]),
            ("/spec/devices", json!([named(1), named(1)]), &["spec.devices[1]: Duplicate value: \"d1\""]),
            ("/spec/devices/0/name", json!("../sda"), &[&format!("spec.devices[0].name: Invalid value: \"../sda\": {LABEL}")]),
        ],
    );
}
