use serde_json::{Value, json};

use super::{super::*, many, object, refused, slices::base};

const LABEL: &str = "a lowercase RFC 1123 label must consist of";

/// The base with one field of its device changed.
fn on_device(rows: Vec<(&str, Value, &[&str])>) {
    let rows: Vec<(String, Value, &[&str])> =
        rows.into_iter().map(|(field, value, want)| (format!("/spec/devices/0/{field}"), value, want)).collect();
    refused(slice, &base(), rows.iter().map(|(pointer, value, want)| (pointer.as_str(), value.clone(), *want)).collect());
}

#[test]
fn attributes_have_names_and_one_value_each() {
    let long = "x".repeat(65);
    let identifier = "a valid C identifier must start with";
    let attributes = |count: usize| Value::Object((0..count).map(|at| (format!("a{at}"), json!({"int": at}))).collect());
    let longest = "y".repeat(100);
    let shown = format!("{}...{}", "y".repeat(47), "y".repeat(46));
    on_device(vec![
        ("attributes", attributes(32), &["spec.devices[0]: Invalid value: 33: the total number of attributes and capacities must not exceed 32"]),
        (
            "attributes",
            json!({"a": {"ints": (0..49).collect::<Vec<_>>()}}),
            &["spec.devices[0]: Invalid value: 49: the total number of attribute values must not exceed 48"],
        ),
        ("attributes", json!({"a-b": {"int": 1}}), &[&format!("spec.devices[0].attributes: Invalid value: \"a-b\": {identifier}")]),
        ("attributes", json!({"/a": {"int": 1}}), &["spec.devices[0].attributes: Invalid value: \"\": the domain must not be empty"]),
        ("attributes", json!({"a/": {"int": 1}}), &["spec.devices[0].attributes: Invalid value: \"\": the name must not be empty"]),
        ("attributes", json!({"a_b/c": {"int": 1}}), &["spec.devices[0].attributes: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain"]),
        (
            "attributes",
            json!({longest.as_str(): {}}),
            &[
                "spec.devices[0].attributes: Too long: may not be more than 32 bytes",
                &format!("spec.devices[0].attributes[{shown}]: Invalid value: \"\": exactly one value must be specified"),
            ],
        ),
        (
            "attributes",
            json!({"a": {"int": 1, "bool": true}}),
            &["spec.devices[0].attributes[a]: Invalid value: {\"bool\":true,\"int\":1}: exactly one value must be specified"],
        ),
        ("attributes", json!({"a": {"string": long}}), &["spec.devices[0].attributes[a].string: Too long: may not be more than 64 bytes"]),
        (
            "attributes",
            json!({"a": {"version": "1.2"}}),
            &["spec.devices[0].attributes[a].version: Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0"],
        ),
        ("attributes", json!({"a": {"strings": []}}), &["spec.devices[0].attributes[a].strings: Invalid value: []: must not be empty if specified"]),
        ("attributes", json!({"a": {"strings": ["", long]}}), &["spec.devices[0].attributes[a].strings[1]: Too long: may not be more than 64 bytes"]),
    ]);
}

#[test]
fn parts_of_shared_devices_are_asked_for_in_steps() {
    let mut shared = base();
    super::set(&mut shared, "/spec/devices/0/allowMultipleAllocations", json!(true));
    let policy = |policy: Value| json!({"memory": {"value": "10", "requestPolicy": policy}});
    let at = "spec.devices[0].capacity[memory].requestPolicy";
    let capacity = "/spec/devices/0/capacity";
    refused(
        slice,
        &shared,
        vec![
            (capacity, json!({"a b": {"value": "1"}}), &["spec.devices[0].capacity: Invalid value: \"a b\": a valid C identifier"]),
            (
                capacity,
                policy(json!({"default": "1", "validValues": ["1"], "validRange": {"min": "1"}})),
                &[&format!(
                    "{at}: Forbidden: exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time"
                )],
            ),
            (capacity, policy(json!({"validValues": ["1"]})), &[&format!("{at}.default: Required value: required when validValues is defined")]),
            (capacity, policy(json!({"validRange": {}})), &[&format!("{at}.default: Required value: required when validRange is defined")]),
            (
                capacity,
                policy(json!({"default": "3", "validValues": ["2", "1", "1", "11"]})),
                &[
                    &format!("{at}.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order"),
                    &format!("{at}.validValues[3]: Invalid value: \"11\": option is larger than capacity value: 10"),
                    &format!("{at}.validValues[2]: Duplicate value: \"1\""),
                    &format!("{at}.validValues: Invalid value: \"3\": default value is not valid according to the requestPolicy"),
                ],
            ),
            (
                capacity,
                policy(json!({"default": "1", "validValues": many(11, |_| "1".into())})),
                &[
                    &format!("{at}.validValues: Too many: 11: must have at most 10 items"),
                    &format!("{at}.validValues: Invalid value: \"1\": default value is not valid according to the requestPolicy"),
                ],
            ),
            (
                capacity,
                policy(json!({"default": "1", "validRange": {"max": "1"}})),
                &[&format!("{at}.validRange.min: Required value: required when validRange is defined")],
            ),
            (
                capacity,
                policy(json!({"default": "13", "validRange": {"min": "14", "max": "12"}})),
                &[
                    &format!("{at}.validRange.min: Invalid value: \"14\": min is larger than capacity value: 10"),
                    &format!("{at}.validRange.min: Invalid value: \"13\": default is less than min: 14"),
                    &format!("{at}.validRange.max: Invalid value: \"14\": min is larger than max: 12"),
                    &format!("{at}.validRange.max: Invalid value: \"12\": max is larger than capacity value: 10"),
                    &format!("{at}.validRange.max: Invalid value: \"13\": default is more than max: 12"),
                ],
            ),
            (
                capacity,
                policy(json!({"default": "4", "validRange": {"min": "1", "max": "6", "step": "10"}})),
                &[
                    &format!("{at}.validRange.step: Invalid value: \"10\": one step 11 is larger than capacity value: 10"),
                    &format!("{at}.validRange.step: Invalid value: \"4\": value is not a multiple of a given step (10) from (1)"),
                    &format!("{at}.validRange.step: Invalid value: \"6\": value is not a multiple of a given step (10) from (1)"),
                ],
            ),
            (
                capacity,
                policy(json!({"default": "4", "validRange": {"min": "1", "step": "0"}})),
                &[&format!("{at}.validRange.step: Invalid value: \"4\": value is not a multiple of a given step (0) from (1)")],
            ),
        ],
    );
    on_device(vec![("capacity", policy(json!({})), &[&format!("{at}: Forbidden: allowMultipleAllocations must be true")])]);
}

#[test]
fn taints_have_a_key_and_an_effect() {
    on_device(vec![
        ("taints", many(17, |_| json!({})), &["spec.devices[0].taints: Too many: 17: must have at most 16 items"]),
        (
            "taints",
            json!([{"key": "a b", "value": "c d"}]),
            &[
                "spec.devices[0].taints[0].key: Invalid value: \"a b\": name part must consist of",
                "spec.devices[0].taints[0].value: Invalid value: \"c d\": a valid label must be",
                "spec.devices[0].taints[0].effect: Required value",
            ],
        ),
        (
            "taints",
            json!([{"key": "a", "effect": "PreferNoSchedule"}]),
            &["spec.devices[0].taints[0].effect: Unsupported value: \"PreferNoSchedule\": supported values: \"NoExecute\", \"NoSchedule\", \"None\""],
        ),
    ]);
}

#[test]
fn taints_that_stand_may_stay() {
    let mut old = base();
    super::set(&mut old, "/spec/devices/0/taints", json!([{"key": "a", "effect": "Later"}]));
    assert!(slice_update(&object(old.clone()), &object(old.clone())).is_empty());
    let mut new = old.clone();
    super::set(&mut new, "/spec/devices/0/taints/0/key", json!("b"));
    assert_eq!(slice_update(&object(new), &object(old)).len(), 1);
}

#[test]
fn counters_are_named_and_few() {
    let counters = |count: usize| Value::Object((0..count).map(|at| (format!("c{at}"), json!({"value": "1"}))).collect());
    on_device(vec![
        ("consumesCounters", many(3, |_| json!({})), &["spec.devices[0].consumesCounters: Too many: 3: must have at most 2 items"]),
        (
            "consumesCounters",
            json!([{}]),
            &["spec.devices[0].consumesCounters[0].counterSet: Required value", "spec.devices[0].consumesCounters[0].counters: Required value"],
        ),
        (
            "consumesCounters",
            json!([{"counterSet": "a", "counters": counters(33)}]),
            &["spec.devices[0].consumesCounters[0].counters: Too many: 33: must have at most 32 items"],
        ),
        (
            "consumesCounters",
            json!([{"counterSet": "A", "counters": {"B": {"value": "1"}}}, {"counterSet": "A", "counters": counters(1)}]),
            &[
                &format!("spec.devices[0].consumesCounters[0].counterSet: Invalid value: \"A\": {LABEL}"),
                &format!("spec.devices[0].consumesCounters[0].counters: Invalid value: \"B\": {LABEL}"),
                &format!("spec.devices[0].consumesCounters[1].counterSet: Invalid value: \"A\": {LABEL}"),
                "spec.devices[0].consumesCounters[1]: Duplicate value: \"A\"",
            ],
        ),
    ]);
    let mut sets = base();
    super::set(&mut sets, "/spec/devices", Value::Null);
    super::set(&mut sets, "/spec/sharedCounters", json!([{"name": "a", "counters": counters(1)}]));
    refused(
        slice,
        &sets,
        vec![
            ("/spec/sharedCounters", many(9, |_| json!({})), &["spec.sharedCounters: Too many: 9: must have at most 8 items"]),
            ("/spec/sharedCounters/0/name", Value::Null, &["spec.sharedCounters[0].name: Required value"]),
            ("/spec/sharedCounters/0/counters", json!({}), &["spec.sharedCounters[0].counters: Required value"]),
        ],
    );
}

#[test]
fn a_device_says_where_it_is_where_its_slice_does_not() {
    let wanted =
        "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let only_then = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    on_device(vec![("allNodes", json!(true), &[&format!("spec.devices[0]: Invalid value: null: {only_then}")])]);
    let mut each = base();
    super::set(&mut each, "/spec/nodeName", Value::Null);
    super::set(&mut each, "/spec/perDeviceNodeSelection", json!(true));
    super::set(&mut each, "/spec/devices/0/nodeName", json!("node-1"));
    let name = "/spec/devices/0/nodeName";
    refused(
        slice,
        &each,
        vec![
            (name, Value::Null, &[&format!("spec.devices[0]: Required value: {wanted}")]),
            (
                name,
                json!(""),
                &["spec.devices[0].nodeName: Invalid value: \"\": must not be empty", &format!("spec.devices[0]: Required value: {wanted}")],
            ),
            (name, json!("A"), &["spec.devices[0].nodeName: Invalid value: \"A\": a lowercase RFC 1123 subdomain"]),
            ("/spec/devices/0/allNodes", json!(false), &["spec.devices[0].allNodes: Invalid value: false: must be either unset or set to true"]),
            ("/spec/devices/0/allNodes", json!(true), &[&format!("spec.devices[0]: Invalid value: \"{{`nodeName`, `allNodes`}}\": {wanted}")]),
        ],
    );
}

#[test]
fn binding_conditions_come_in_pairs_of_lists() {
    let mut bound = base();
    super::set(&mut bound, "/spec/devices/0/bindingConditions", json!(["a"]));
    super::set(&mut bound, "/spec/devices/0/bindingFailureConditions", json!(["b"]));
    let (good, bad) = ("/spec/devices/0/bindingConditions", "/spec/devices/0/bindingFailureConditions");
    let at = "spec.devices[0]";
    refused(
        slice,
        &bound,
        vec![
            (good, many(5, |n| format!("a{n}").into()), &[&format!("{at}.bindingConditions: Too many: 5: must have at most 4 items")]),
            (good, json!(["a b"]), &[&format!("{at}.bindingConditions[0]: Invalid value: \"a b\": name part must consist of")]),
            (good, json!(["a", "a"]), &[&format!("{at}.bindingConditions[1]: Duplicate value: \"a\"")]),
            (
                bad,
                json!(["a"]),
                &[&format!(
                    "{at}.bindingFailureConditions[0]: Invalid value: \"a\": bindingFailureConditions must not overlap with bindingConditions"
                )],
            ),
            (
                good,
                Value::Null,
                &[&format!("{at}.bindingConditions: Invalid value: null: bindingConditions are required to use bindingFailureConditions")],
            ),
            (
                bad,
                Value::Null,
                &[&format!("{at}.bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions")],
            ),
        ],
    );
}

#[test]
fn mappings_are_of_what_nodes_have() {
    let at = "spec.devices[0].nodeAllocatableResourceMappings";
    on_device(vec![
        (
            "nodeAllocatableResourceMappings",
            json!({"example.com/gpu": {"allocationMultiplier": "1"}}),
            &[&format!("{at}[example.com/gpu]: Invalid value: \"example.com/gpu\": must be a node allocatable resource name")],
        ),
        (
            "nodeAllocatableResourceMappings",
            json!({"cpu": {}}),
            &[&format!("{at}[cpu]: Invalid value: \"\": at least one of allocationMultiplier or capacityKey must be set")],
        ),
        (
            "nodeAllocatableResourceMappings",
            json!({"cpu": {"allocationMultiplier": "-1", "capacityKey": "x"}}),
            &[
                &format!("{at}[cpu].allocationMultiplier: Invalid value: \"-1\": must be positive"),
                &format!("{at}[cpu].capacityKey: Not found: \"x\""),
            ],
        ),
    ]);
}
