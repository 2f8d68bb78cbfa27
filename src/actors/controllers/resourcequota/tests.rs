use serde_json::{Value, json};
use troupe_api::{
    meta::{Object, amounts::Amounts},
    status::Status,
};

use super::{
    answered,
    plan::{Plan, plan, wants_counting},
};

fn amounts(value: Value) -> Amounts {
    Amounts::read(Some(&value))
}

fn quota(spec: Value, status: Value) -> Object {
    Object::from_value(json!({"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": spec}, "status": status})).expect("an object")
}

fn apply(mut quota: Object, plan: &Plan) -> Object {
    quota.set(&["status"], json!({"hard": plan.hard.to_value(), "used": plan.used.to_value()}));
    quota
}

#[test]
fn a_new_quota_is_counted_and_then_left_alone() {
    let fresh = quota(json!({"pods": "2", "example.com/unknown": "1"}), json!({}));
    let counted = amounts(json!({"pods": "1"}));
    let planned = plan(&fresh, &counted).expect("a plan");
    assert_eq!((planned.hard.to_string(), planned.used.to_string()), ("example.com/unknown=1,pods=2".into(), "pods=1".into()));
    assert!(planned.limits_changed && !planned.lowers);
    assert_eq!(plan(&apply(fresh, &planned), &counted), None);
}

#[test]
fn limits_that_go_take_their_usage_with_them() {
    let status = json!({"hard": {"pods": "2", "services": "1"}, "used": {"pods": "1", "services": "1"}});
    let planned = plan(&quota(json!({"pods": "2"}), status), &amounts(json!({"pods": "1"}))).expect("a plan");
    assert_eq!(planned.used.to_string(), "pods=1");
    assert!(planned.limits_changed && !planned.lowers);
}

#[test]
fn usage_that_went_down_is_told_from_usage_that_went_up() {
    let status = json!({"hard": {"pods": "2"}, "used": {"pods": "1"}});
    let lowers = |pods: &str| plan(&quota(json!({"pods": "2"}), status.clone()), &amounts(json!({"pods": pods}))).map(|plan| plan.lowers);
    assert_eq!((lowers("0"), lowers("1"), lowers("2")), (Some(true), None, Some(false)));
}

#[test]
fn a_quota_wants_counting_until_its_status_covers_it() {
    let typed = |value: Object| serde_json::from_value(value.into_value()).expect("a quota");
    let hard = json!({"pods": "2"});
    assert!(wants_counting(&typed(quota(hard.clone(), json!({})))));
    assert!(wants_counting(&typed(quota(hard.clone(), json!({"hard": {"pods": "2"}})))));
    assert!(!wants_counting(&typed(quota(hard, json!({"hard": {"pods": "2"}, "used": {"pods": "0"}})))));
}

#[tokio::test(start_paused = true)]
async fn an_extension_server_that_fails_or_hangs_leaves_the_others_to_be_counted() {
    let failing = || std::future::ready(Err::<u32, _>(Status::unavailable("down")));
    assert_eq!(answered(true, failing()).await.ok(), Some(None));
    assert_eq!(answered(true, std::future::pending::<Result<u32, Status>>()).await.ok(), Some(None));
    assert_eq!(answered(true, std::future::ready(Ok(1))).await.ok(), Some(Some(1)));
    assert_eq!(answered(false, failing()).await.map_err(|status| status.code), Err(503));
}
