use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::resource::{
    v1::{ResourceClaim, ResourceSlice},
    v1alpha3::{ResourcePoolStatusRequest, ResourcePoolStatusRequestStatus},
};
use serde_json::{Value, from_value, json, to_value};

use super::plan::{Action, Known, plan};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// One of second 1000.
fn request(spec: Value) -> ResourcePoolStatusRequest {
    let mut spec = spec;
    spec["driver"] = "d".into();
    from_value(json!({"metadata": {"name": "r", "creationTimestamp": at(1000).to_string()}, "spec": spec})).expect("a request")
}

fn slice(pool: &str, generation: i64, count: i64, node: Option<&str>, devices: usize) -> Arc<ResourceSlice> {
    let devices: Value = (0..devices).map(|at| json!({"name": format!("g{at}")})).collect();
    let pool = json!({"name": pool, "generation": generation, "resourceSliceCount": count});
    Arc::new(from_value(json!({"metadata": {}, "spec": {"driver": "d", "pool": pool, "nodeName": node, "devices": devices}})).expect("a slice"))
}

fn known() -> Known {
    let result = |driver: &str, pool: &str| json!({"request": "r", "driver": driver, "pool": pool, "device": "g0"});
    let results = json!([result("d", "a"), result("d", "b"), result("other", "a")]);
    let claim: ResourceClaim =
        from_value(json!({"metadata": {}, "spec": {}, "status": {"allocation": {"devices": {"results": results}}}})).expect("a claim");
    let slices = vec![
        slice("b", 1, 2, Some("n1"), 9),
        slice("b", 2, 2, Some("n1"), 2),
        slice("b", 2, 2, Some("n1"), 3),
        slice("a", 1, 2, Some("n1"), 1),
        slice("a", 1, 2, Some("n2"), 1),
    ];
    (slices, vec![Arc::new(claim)])
}

fn told(request: &ResourcePoolStatusRequest, known: &dyn Fn() -> Known) -> ResourcePoolStatusRequestStatus {
    match plan(request, known, at(1010)) {
        Action::Tell(status) => status,
        other => panic!("it is to be answered, not {other:?}"),
    }
}

#[test]
fn pools_are_told_with_what_is_free_in_order() {
    let status = told(&request(json!({})), &known);
    let pool = |name: &str, generation: i64, total: i32, allocated: i32| {
        json!({
            "driver": "d", "poolName": name, "generation": generation, "resourceSliceCount": 2, "totalDevices": total,
            "allocatedDevices": allocated, "availableDevices": total - allocated, "unavailableDevices": 0,
        })
    };
    let mut of_node = pool("b", 2, 5, 1);
    of_node["nodeName"] = "n1".into();
    assert_eq!(to_value(&status.pools).expect("JSON"), json!([pool("a", 1, 2, 1), of_node]), "the pool of two nodes has none");
    assert_eq!(status.pool_count, 2);
    let condition = &status.conditions.as_deref().unwrap_or_default()[0];
    assert_eq!((condition.type_.as_str(), condition.status.as_str(), condition.reason.as_str()), ("Complete", "True", "CalculationComplete"));
    assert_eq!((condition.message.as_str(), condition.last_transition_time.0), ("Calculated status for 2 pools", at(1010)));
}

#[test]
fn a_request_may_want_one_pool_or_few() {
    let names = |spec: Value| {
        let status = told(&request(spec), &known);
        (status.pool_count, status.pools.unwrap_or_default().iter().map(|pool| pool.pool_name.clone()).collect::<Vec<_>>())
    };
    assert_eq!(names(json!({"poolName": "b"})), (1, vec!["b".to_owned()]));
    assert_eq!(names(json!({"limit": 1})), (2, vec!["a".to_owned()]));
    assert_eq!(names(json!({"poolName": "none"})), (0, vec![]));
}

#[test]
fn drivers_have_a_moment_to_publish_their_pools() {
    let half = || -> Known { (vec![slice("a", 1, 2, None, 4)], vec![]) };
    let asked = request(json!({}));
    assert_eq!(plan(&asked, &half, at(1001)), Action::Wait(Duration::from_secs(1)));
    let status = told(&asked, &half);
    let pool = &status.pools.as_deref().unwrap_or_default()[0];
    assert_eq!(pool.validation_error.as_deref(), Some("pool d/a is incomplete: observed 1/2 slices at generation 1"));
    assert_eq!((pool.total_devices, pool.resource_slice_count), (None, None));
    assert_eq!(status.conditions.unwrap_or_default()[0].message, "Calculated status for 1 pools (1 incomplete)");
}

#[test]
fn requests_stay_for_an_hour_after_their_answer_and_for_a_day_without() {
    let mut asked = request(json!({}));
    assert_eq!(plan(&asked, &known, at(1000 + 24 * 3600)), Action::Remove);
    asked.status = Some(told(&asked, &known));
    let unasked = || -> Known { panic!("it is answered") };
    assert_eq!(plan(&asked, &unasked, at(1010 + 600)), Action::Wait(Duration::from_secs(3000)));
    assert_eq!(plan(&asked, &unasked, at(1010 + 3600)), Action::Remove);
}
