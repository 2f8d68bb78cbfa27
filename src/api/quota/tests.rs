use serde_json::{Value, json};

use super::*;
use crate::meta::{Object, amounts::Amounts, operation::Operation};

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn now() -> jiff::Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn quota(spec: Value, hard: Value, used: Value) -> Object {
    let mut quota = object(json!({"metadata": {"name": "q", "namespace": "n"}, "spec": spec, "status": {"hard": hard, "used": used}}));
    quota.set_default(&["spec", "hard"], quota.get(&["status", "hard"]).cloned().unwrap_or_default());
    quota
}

fn pod(resources: Value) -> Object {
    object(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}}))
}

fn create(quota: Object, evaluator: &Evaluator, new: &Object) -> Result<Vec<Demand>, String> {
    demands(&[quota], Write { evaluator, operation: Operation::Create, new, old: None }, now())
}

#[test]
fn a_pod_costs_its_requests_its_limits_and_its_place() {
    let pod = pod(json!({"requests": {"cpu": "100m", "memory": "1Gi", "example.com/gpu": "2", "hugepages-2Mi": "4Mi"}, "limits": {"cpu": "1"}}));
    let cost = Evaluator::Pods.cost(&pod, now());
    assert_eq!(
        cost.to_string(),
        "count/pods=1,cpu=100m,hugepages-2Mi=4Mi,limits.cpu=1,memory=1Gi,pods=1,requests.cpu=100m,requests.example.com/gpu=2,requests.hugepages-2Mi=4Mi,requests.memory=1Gi"
    );
}

#[test]
fn a_pod_that_ended_or_should_be_gone_only_counts_as_an_object() {
    let mut ended = pod(json!({"requests": {"cpu": "1"}}));
    ended.set(&["status", "phase"], "Succeeded");
    assert_eq!(Evaluator::Pods.cost(&ended, now()).to_string(), "count/pods=1");
    let mut stuck = pod(json!({"requests": {"cpu": "1"}}));
    stuck.set(&["metadata", "deletionTimestamp"], "2025-12-31T23:59:00Z");
    stuck.set(&["metadata", "deletionGracePeriodSeconds"], 30);
    assert_eq!(Evaluator::Pods.cost(&stuck, now()).to_string(), "count/pods=1");
}

#[test]
fn what_fits_is_demanded_and_what_does_not_is_refused_in_upstreams_words() {
    let quota = quota(json!({}), json!({"requests.cpu": "1", "pods": "2"}), json!({"requests.cpu": "900m", "pods": "1"}));
    let found = create(quota.clone(), &Evaluator::Pods, &pod(json!({"requests": {"cpu": "200m"}}))).expect("a demand");
    assert_eq!(found, [Demand { quota: "q".into(), amounts: Amounts::read(Some(&json!({"requests.cpu": "200m", "pods": "1"}))) }]);
    let refusal = exceeded("q", &found[0].amounts, &used(&quota), &hard(&quota)).expect("too much");
    assert_eq!(refusal, "exceeded quota: q, requested: requests.cpu=200m, used: requests.cpu=900m, limited: requests.cpu=1");
    let less = Amounts::read(Some(&json!({"requests.cpu": "100m", "pods": "1"})));
    assert_eq!(exceeded("q", &less, &used(&quota), &hard(&quota)), None);
}

#[test]
fn containers_must_say_what_a_quota_tracks() {
    let quota = quota(json!({}), json!({"limits.cpu": "1", "memory": "1Gi"}), json!({"limits.cpu": "0", "memory": "0"}));
    let refusal = create(quota, &Evaluator::Pods, &pod(json!({"limits": {"memory": "1"}}))).expect_err("is refused");
    assert_eq!(refusal, "failed quota: q: must specify limits.cpu for: c; memory for: c");
}

#[test]
fn a_quota_that_was_not_counted_yet_lets_nothing_through() {
    let quota = quota(json!({}), json!({"pods": "1"}), json!({}));
    let refusal = create(quota, &Evaluator::Pods, &pod(json!({}))).expect_err("is refused");
    assert_eq!(refusal, "status unknown for quota: q, resources: pods");
}

#[test]
fn negative_requests_are_refused() {
    let quota = quota(json!({}), json!({"requests.example.com/gpu": "1"}), json!({"requests.example.com/gpu": "0"}));
    let refusal = create(quota, &Evaluator::Pods, &pod(json!({"requests": {"example.com/gpu": "-1"}}))).expect_err("is refused");
    assert_eq!(refusal, "quota usage is negative for resource(s): requests.example.com/gpu");
}

#[test]
fn a_quota_with_scopes_only_counts_what_is_in_all_of_them() {
    let scoped = |scope: &str| quota(json!({"scopes": [scope]}), json!({"pods": "1"}), json!({"pods": "0"}));
    let best_effort = pod(json!({}));
    assert_eq!(create(scoped("BestEffort"), &Evaluator::Pods, &best_effort).expect("a demand").len(), 1);
    assert_eq!(create(scoped("NotBestEffort"), &Evaluator::Pods, &best_effort).expect("none"), []);
    assert_eq!(create(scoped("Terminating"), &Evaluator::Pods, &best_effort).expect("none"), []);
}

#[test]
fn an_update_costs_what_it_adds() {
    let quota = quota(json!({}), json!({"services.nodeports": "2", "services": "1"}), json!({"services.nodeports": "1", "services": "1"}));
    let service =
        |ports: usize, kind: &str| object(json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": vec![json!({"port": 80}); ports]}}));
    let update = |new: &Object, old: &Object| {
        let write = Write { evaluator: &Evaluator::Services, operation: Operation::Update, new, old: Some(old) };
        demands(std::slice::from_ref(&quota), write, now()).expect("demands")
    };
    let more = update(&service(3, "NodePort"), &service(1, "NodePort"));
    assert_eq!(more[0].amounts.to_string(), "services.nodeports=2");
    assert_eq!(update(&service(1, "ClusterIP"), &service(1, "NodePort")), []);
}

#[test]
fn an_update_into_a_scope_costs_everything() {
    let quota = quota(json!({"scopes": ["Terminating"]}), json!({"pods": "1"}), json!({"pods": "0"}));
    let old = pod(json!({}));
    let mut new = old.clone();
    new.set(&["spec", "activeDeadlineSeconds"], 5);
    assert!(Evaluator::Pods.handles(Operation::Update, "", &new, Some(&old)) && !Evaluator::Pods.handles(Operation::Update, "", &new, Some(&new)));
    let write = Write { evaluator: &Evaluator::Pods, operation: Operation::Update, new: &new, old: Some(&old) };
    assert_eq!(demands(&[quota], write, now()).expect("demands")[0].amounts.to_string(), "pods=1");
}

#[test]
fn claims_cost_by_storage_class_and_in_whole_bytes() {
    let claim = object(json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "500m"}}}}));
    assert_eq!(
        Evaluator::Claims.cost(&claim, now()).to_string(),
        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/requests.storage=1,persistentvolumeclaims=1,requests.storage=1"
    );
    assert!(Evaluator::Claims.tracks("gold.storageclass.storage.k8s.io/requests.storage"));
    assert!(!Evaluator::Claims.tracks("gold.storageclass.storage.k8s.io/pods"));
}

#[test]
fn any_resource_can_be_counted() {
    let secrets = Evaluator::of(&crate::meta::GroupResource::new("", "secrets"));
    assert!(secrets.tracks("secrets") && secrets.tracks("count/secrets") && !secrets.tracks("count/pods"));
    let deployments = Evaluator::of(&crate::meta::GroupResource::new("apps", "deployments"));
    assert!(deployments.tracks("count/deployments.apps") && !deployments.tracks("deployments"));
    assert!(is_ignored(&crate::meta::GroupResource::new("", "events")));
}

#[test]
fn usage_sums_up_what_is_in_scope_and_names_everything_it_tracks() {
    let quota = quota(json!({"scopes": ["NotBestEffort"]}), json!({"requests.cpu": "1", "pods": "5", "limits.memory": "1Gi"}), json!({}));
    let pods = [pod(json!({"requests": {"cpu": "250m"}})), pod(json!({"requests": {"cpu": "250m"}})), pod(json!({}))];
    assert_eq!(usage(&quota, &Evaluator::Pods, &pods, now()).to_string(), "limits.memory=0,pods=2,requests.cpu=500m");
    assert!(is_tracked(&quota, &Evaluator::Pods) && !is_tracked(&quota, &Evaluator::Services));
}

#[test]
fn resource_claims_cost_the_devices_that_they_may_get_by_class() {
    let exactly = |class: &str, mode: &str, count: i64| json!({"deviceClassName": class, "allocationMode": mode, "count": count});
    let requests = json!([
        {"name": "a", "exactly": exactly("gold", "ExactCount", 2)},
        {"name": "b", "exactly": exactly("silver", "All", 0)},
        {"name": "c", "firstAvailable": [exactly("gold", "ExactCount", 3), exactly("gold", "ExactCount", 5), exactly("iron", "ExactCount", 1)]},
    ]);
    let claim = object(json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": requests}}}));
    let resource = crate::meta::GroupResource { group: "resource.k8s.io".into(), resource: "resourceclaims".into() };
    let evaluator = Evaluator::of(&resource);
    assert_eq!(
        evaluator.cost(&claim, now()).to_string(),
        "count/resourceclaims.resource.k8s.io=1,gold.deviceclass.resource.k8s.io/devices=7,iron.deviceclass.resource.k8s.io/devices=1,silver.deviceclass.resource.k8s.io/devices=32"
    );
    assert!(evaluator.tracks("gold.deviceclass.resource.k8s.io/devices") && !evaluator.tracks("gold.storageclass.storage.k8s.io/devices"));
}
