use serde_json::{Value, json};

use super::*;
use crate::resources::validation::tests::texts;

fn node_of(spec: Value, status: Value) -> Object {
    Object::from_value(json!({"metadata": {"name": "n"}, "spec": spec, "status": status})).expect("an object")
}

#[test]
fn what_a_node_may_not_be() {
    let cases: &[(Value, Value, &[&str])] = &[
        (json!({"podCIDRs": ["10.0.0.0/24", "fd00::/64"], "taints": [{"key": "a", "effect": "NoSchedule"}]}), json!({}), &[]),
        (
            json!({"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "value": "x y", "effect": "NoSchedule"}, {"key": "b", "effect": "Never"}]}),
            json!({}),
            &[
                "metadata.taints[1].value: Invalid value: \"x y\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                "metadata.taints[1]: Duplicate value: {\"Key\":\"a\",\"Value\":\"x y\",\"Effect\":\"NoSchedule\",\"TimeAdded\":null}: taints must be unique by key and effect pair",
                "metadata.taints[2].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ],
        ),
        (
            json!({"podCIDRs": ["10.0.0.0/24", "10.1.0.0/24"]}),
            json!({}),
            &["spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one CIDR for each IP family"],
        ),
        (
            json!({"podCIDRs": ["10.0.0.7/24"]}),
            json!({}),
            &["spec.podCIDRs[0]: Invalid value: \"10.0.0.7/24\": must not have bits set beyond the prefix length"],
        ),
        (
            json!({"podCIDRs": ["0.0.0.0/0"]}),
            json!({}),
            &["spec.podCIDRs[0]: Invalid value: \"0.0.0.0/0\": must be a range of addresses that pods can have"],
        ),
        (
            json!({"podCIDRs": ["10.0.0.0/24 -j ACCEPT"]}),
            json!({}),
            &["spec.podCIDRs[0]: Invalid value: \"10.0.0.0/24 -j ACCEPT\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"],
        ),
        (
            json!({}),
            json!({"capacity": {"cpu": "-1", "pods": "500m"}, "allocatable": {"example.com/gpu": "1500m"}}),
            &[
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                "status.capacity.pods: Invalid value: \"500m\": must be an integer",
                "status.allocatable.example.com/gpu: Invalid value: \"1500m\": must be an integer",
            ],
        ),
        (
            json!({}),
            json!({"declaredFeatures": ["B", "A", "A", "low"], "nodeInfo": {"swap": {"capacity": 0}}}),
            &[
                "metadata.nodeSwapStatus.capacity: Invalid value: 0: must be greater than zero",
                "status.declaredFeatures[1]: Invalid value: \"A\": list must be sorted alphabetically",
                "status.declaredFeatures[2]: Duplicate value: \"A\"",
                "status.declaredFeatures[3]: Invalid value: \"low\": invalid feature name \"low\": must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes",
            ],
        ),
    ];
    for (spec, status, wanted) in cases {
        assert_eq!(texts(node(&node_of(spec.clone(), status.clone()))), *wanted, "{spec} {status}");
    }
}

#[test]
fn what_an_update_may_not_do_to_a_node() {
    let old = node_of(json!({"podCIDRs": ["10.0.0.0/24"], "providerID": "p", "externalID": "e"}), json!({}));
    let new = node_of(
        json!({"podCIDRs": ["10.1.0.0/24"], "providerID": "q", "externalID": "f", "configSource": {}}),
        json!({
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "config": {"active": {"configMap": {"name": "C", "namespace": "n", "kubeletConfigKey": "../k"}}},
        }),
    );
    let errors = texts(node_update(&new, &old, ""));
    for wanted in [
        "status.addresses[1]: Duplicate value: {\"Type\":\"InternalIP\",\"Address\":\"10.0.0.1\"}",
        "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
        "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
        "spec.externalID: Forbidden: may not be updated",
        "spec.configSource: Invalid value: {}: exactly one reference subfield must be non-nil",
        "status.config.active.configMap.uid: Required value",
        "status.config.active.configMap.resourceVersion: Required value",
        "status.config.active.configMap.kubeletConfigKey: Invalid value: \"../k\": a valid config key must consist of",
        "status.config.active.configMap.name: Invalid value: \"C\": a lowercase RFC 1123 subdomain must consist of",
    ] {
        assert!(errors.iter().any(|error| error.starts_with(wanted)), "{wanted}: {errors:#?}");
    }
    let fresh = node_of(json!({}), json!({}));
    let ranged = node_of(json!({"podCIDRs": ["10.1.0.0/24"], "providerID": "q"}), json!({}));
    assert_eq!(texts(node_update(&ranged, &fresh, "")), Vec::<String>::new());
}

#[test]
fn what_once_stood_in_annotations_keeps_its_rules() {
    let with = |name: &str, text: &str| {
        let mut node = node_of(json!({}), json!({}));
        node.set(&["metadata", "annotations"], json!({name: text}));
        texts(super::node(&node))
    };
    let taints = "scheduler.alpha.kubernetes.io/taints";
    assert_eq!(
        with(taints, "[{\"key\": \"a\", \"effect\": \"No\"}]"),
        [
            "metadata.annotations.scheduler.alpha.kubernetes.io/taints[0].effect: Unsupported value: \"No\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
        ]
    );
    assert_eq!(
        with(taints, "{}"),
        [
            "metadata.annotations: Invalid value: \"scheduler.alpha.kubernetes.io/taints\": json: cannot unmarshal object into Go value of type []v1.Taint"
        ]
    );
    let avoid = "scheduler.alpha.kubernetes.io/preferAvoidPods";
    assert_eq!(
        with(avoid, "{\"preferAvoidPods\": [{}, {\"podSignature\": {\"podController\": {\"controller\": false}}}]}"),
        [
            "metadata.annotations.scheduler.alpha.kubernetes.io/preferAvoidPods[0].PodSignature: Required value",
            "metadata.annotations.scheduler.alpha.kubernetes.io/preferAvoidPods[1].PodSignature.PodController.Controller: Invalid value: false: must point to a controller",
        ]
    );
}
