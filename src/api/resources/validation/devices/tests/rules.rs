use serde_json::{Value, json};

use super::{super::*, many, object, refused, set, texts};

fn rule() -> Value {
    let selector = json!({"driver": "gpu.example.com", "pool": "node-1", "device": "gpu-0"});
    let taint = json!({"key": "example.com/broken", "value": "yes", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"});
    json!({"metadata": {"name": "r"}, "spec": {"deviceSelector": selector, "taint": taint}})
}

#[test]
fn rules_select_by_names_and_have_one_taint() {
    refused(
        taint_rule,
        &rule(),
        vec![
            ("/spec/deviceSelector/driver", json!(""), &["spec.deviceSelector.driver: Required value"]),
            ("/spec/deviceSelector/driver", json!("no driver"), &["spec.deviceSelector.driver: Invalid value: \"no driver\""]),
            ("/spec/deviceSelector/pool", json!("a//b"), &["spec.deviceSelector.pool: Invalid value: \"\""]),
            ("/spec/deviceSelector/device", json!("No_Device"), &["spec.deviceSelector.device: Invalid value: \"No_Device\""]),
            ("/spec/taint/key", json!("a/b/c"), &["spec.taint.key: Invalid value: \"a/b/c\""]),
            ("/spec/taint/value", json!("not one"), &["spec.taint.value: Invalid value: \"not one\""]),
            ("/spec/taint/effect", json!(""), &["spec.taint.effect: Required value"]),
            (
                "/spec/taint/effect",
                json!("PreferNoSchedule"),
                &["spec.taint.effect: Unsupported value: \"PreferNoSchedule\": supported values: \"NoExecute\", \"NoSchedule\", \"None\""],
            ),
        ],
    );
    let mut every = rule();
    every["spec"]["deviceSelector"] = json!({});
    assert_eq!(texts(&taint_rule(&object(every))), Vec::<String>::new(), "the empty selector means all devices");
    let mut newer = rule();
    set(&mut newer, "/spec/taint/effect", json!("Later"));
    assert_eq!(texts(&taint_rule_update(&object(newer.clone()), &object(newer.clone()))), Vec::<String>::new(), "what stands stays");
    assert_eq!(taint_rule_update(&object(newer), &object(rule())).len(), 1);
}

#[test]
fn few_conditions_are_told_of_a_rule() {
    let condition = |at: usize| json!({"type": format!("C{at}"), "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let told = |count: usize| {
        let mut told = rule();
        told["status"] = json!({"conditions": many(count, condition)});
        texts(&taint_rule_status(&object(told)))
    };
    assert_eq!(told(8), Vec::<String>::new());
    assert_eq!(told(9), ["status.conditions: Too many: 9: must have at most 8 items"]);
}

fn request() -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"driver": "gpu.example.com", "poolName": "a/b", "limit": 100}})
}

#[test]
fn questions_about_pools_name_a_driver_and_stay_as_they_are() {
    refused(
        pool_status_request,
        &request(),
        vec![
            ("/spec/driver", json!(""), &["spec.driver: Required value"]),
            ("/spec/driver", json!("no driver"), &["spec.driver: Invalid value: \"no driver\""]),
            ("/spec/poolName", json!(""), &["spec.poolName: Invalid value: \"\": segment 0: must not be empty"]),
            ("/spec/limit", json!(0), &["spec.limit: Invalid value: 0: must be greater than or equal to 1"]),
            ("/spec/limit", json!(1001), &["spec.limit: Invalid value: 1001: must be less than or equal to 1000"]),
        ],
    );
    let mut other = request();
    other["spec"]["limit"] = json!(5);
    assert_eq!(texts(&pool_status_request_update(&object(other), &object(request()))), ["spec: Invalid value: null: field is immutable"]);
}

#[test]
fn an_answer_is_whole_and_for_good() {
    let pool = json!({"driver": "gpu.example.com", "poolName": "a", "generation": 1, "resourceSliceCount": 1, "totalDevices": 4});
    let mut answered = request();
    answered["status"] = json!({"poolCount": 1, "pools": [pool]});
    refused(
        |new| pool_status(new, &object(request())),
        &answered,
        vec![
            ("/status/poolCount", Value::Null, &["status.poolCount: Required value"]),
            ("/status/poolCount", json!(-1), &["status.poolCount: Invalid value: -1: must be greater than or equal to 0"]),
            ("/status/pools/0/driver", json!(""), &["status.pools[0].driver: Required value"]),
            ("/status/pools/0/totalDevices", json!(-1), &["status.pools[0].totalDevices: Invalid value: -1"]),
            ("/status/pools/0/resourceSliceCount", json!(0), &["status.pools[0].resourceSliceCount: Invalid value: 0"]),
            ("/status/pools/0/validationError", json!("x".repeat(257)), &["status.pools[0].validationError: Too long"]),
        ],
    );
    let mut other = answered.clone();
    other["status"]["poolCount"] = json!(2);
    assert_eq!(texts(&pool_status(&object(other), &object(answered))), ["status: Invalid value: null: field is immutable"]);
}
