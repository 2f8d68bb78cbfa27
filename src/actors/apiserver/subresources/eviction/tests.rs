use serde_json::{Value, json};
use troupe_api::{
    Reason,
    service::{Body, DeleteOptions, Operation, PatchType, WriteOptions},
    status::Status,
};

use crate::apiserver::testing::{TestApi, boot};

/// A running pod labelled `app: web`.
async fn pod(api: &TestApi, name: &str, ready: bool) {
    let spec = json!({"containers": [{"name": "c", "image": "i"}], "nodeName": "n"});
    let meta = json!({"name": name, "namespace": "default", "labels": {"app": "web"}});
    api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})).await;
    let ready = json!({"type": "Ready", "status": if ready { "True" } else { "False" }});
    set_status(api, "pods", name, json!({"phase": "Running", "conditions": [ready]})).await;
}

async fn set_status(api: &TestApi, resource: &str, name: &str, status: Value) {
    let target = api.subresource(resource, "default", name, "status");
    api.patch(target, PatchType::Merge, json!({"status": status})).await.expect("the status is written");
}

async fn budget(api: &TestApi, name: &str, spec: Value, status: Value) {
    let mut full = json!({"selector": {"matchLabels": {"app": "web"}}, "minAvailable": 1});
    full.as_object_mut().expect("fields").extend(spec.as_object().expect("fields").clone());
    let meta = json!({"name": name, "namespace": "default"});
    api.create(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": full})).await;
    set_status(api, "poddisruptionbudgets.policy", name, status).await;
}

async fn evict(api: &TestApi, name: &str, options: Value) -> Result<(), Status> {
    let meta = json!({"name": name, "namespace": "default"});
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta, "deleteOptions": options});
    let operation = Operation::Create { body: Body::Json(body.to_string().into()), options: WriteOptions::default() };
    api.call(api.subresource("pods", "default", name, "eviction"), operation).await.map(drop)
}

#[actix::test]
async fn evictions_of_older_clients_are_taken() {
    let api = boot().await;
    for (api_version, code) in [("policy/v1beta1", None), ("policy/v2", Some(400))] {
        pod(&api, "p", false).await;
        let meta = json!({"name": "p", "namespace": "default"});
        let options = json!({"gracePeriodSeconds": 0});
        let body = json!({"apiVersion": api_version, "kind": "Eviction", "metadata": meta, "deleteOptions": options});
        let operation = Operation::Create { body: Body::Json(body.to_string().into()), options: WriteOptions::default() };
        let done = api.call(api.subresource("pods", "default", "p", "eviction"), operation).await;
        assert_eq!(done.err().map(|status| status.code), code, "{api_version}");
    }
}

fn counted(allowed: i32, current: i32, desired: i32) -> Value {
    json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": current, "desiredHealthy": desired, "expectedPods": current})
}

#[actix::test]
async fn an_eviction_marks_the_pod_and_spends_the_budget() {
    let api = boot().await;
    pod(&api, "p", true).await;
    budget(&api, "b", json!({}), counted(1, 2, 1)).await;
    evict(&api, "p", json!({"gracePeriodSeconds": 30})).await.expect("evicts");
    let going = api.get("pods", "default", "p").await.expect("has its grace");
    assert!(going.is_terminating());
    let mark = going.list(&["status", "conditions"]).iter().find(|condition| condition["type"] == "DisruptionTarget").expect("is marked").clone();
    assert_eq!((&mark["status"], &mark["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
    let budget = api.get("poddisruptionbudgets.policy", "default", "b").await.expect("is there");
    assert_eq!(budget.int(&["status", "disruptionsAllowed"]), Some(0));
    assert!(!budget.str(&["status", "disruptedPods", "p"]).is_empty());
    assert_eq!(budget.list(&["status", "conditions"])[0]["reason"], "InsufficientPods");
}

#[actix::test]
async fn a_spent_budget_refuses_with_429_and_says_why() {
    let api = boot().await;
    pod(&api, "p", true).await;
    budget(&api, "b", json!({}), counted(0, 1, 1)).await;
    let status = evict(&api, "p", json!({})).await.expect_err("is refused");
    assert_eq!((status.code, status.reason), (429, Reason::TooManyRequests));
    assert_eq!(status.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = &status.details.expect("details").causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.message.as_str()),
        ("DisruptionBudget", "The disruption budget b needs 1 healthy pods and has 1 currently")
    );
}

#[actix::test]
async fn a_budget_that_was_not_looked_at_yet_refuses() {
    let api = boot().await;
    pod(&api, "p", true).await;
    budget(&api, "b", json!({}), json!({"observedGeneration": 0, "disruptionsAllowed": 5})).await;
    let details = evict(&api, "p", json!({})).await.expect_err("is refused").details.expect("details");
    assert_eq!(details.retry_after_seconds, 10);
    assert_eq!(details.causes[0].message, "The disruption budget b is still being processed by the server.");
}

#[actix::test]
async fn two_budgets_for_one_pod_are_an_error() {
    let api = boot().await;
    pod(&api, "p", true).await;
    budget(&api, "a", json!({}), counted(1, 2, 1)).await;
    budget(&api, "b", json!({}), counted(1, 2, 1)).await;
    let status = evict(&api, "p", json!({})).await.expect_err("is refused");
    assert_eq!(
        (status.code, status.message.as_str()),
        (500, "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
    );
}

#[actix::test]
async fn pods_that_do_not_work_go_without_asking() {
    let api = boot().await;
    for (name, phase) in [("pending", "Pending"), ("done", "Succeeded")] {
        pod(&api, name, false).await;
        set_status(&api, "pods", name, json!({"phase": phase})).await;
    }
    budget(&api, "b", json!({}), counted(0, 0, 1)).await;
    for name in ["pending", "done"] {
        evict(&api, name, json!({"gracePeriodSeconds": 0})).await.expect("evicts");
        assert!(api.get("pods", "default", name).await.expect_err("is gone").is_not_found());
    }
}

#[actix::test]
async fn unready_pods_go_where_the_budget_is_met_or_says_so() {
    let api = boot().await;
    pod(&api, "p", false).await;
    budget(&api, "b", json!({}), counted(0, 0, 1)).await;
    assert_eq!(evict(&api, "p", json!({})).await.expect_err("the budget is not met").code, 429);
    set_status(&api, "poddisruptionbudgets.policy", "b", counted(0, 1, 1)).await;
    evict(&api, "p", json!({"gracePeriodSeconds": 0})).await.expect("the budget is met");
    pod(&api, "q", false).await;
    api.delete("poddisruptionbudgets.policy", "default", "b", DeleteOptions::default()).await.expect("deletes");
    budget(&api, "b", json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"}), counted(0, 0, 1)).await;
    evict(&api, "q", json!({"gracePeriodSeconds": 0})).await.expect("always allowed");
}

#[actix::test]
async fn a_dry_run_spends_nothing_and_preconditions_hold() {
    let api = boot().await;
    pod(&api, "p", true).await;
    budget(&api, "b", json!({}), counted(1, 2, 1)).await;
    evict(&api, "p", json!({"dryRun": ["All"]})).await.expect("would evict");
    let untouched = api.get("poddisruptionbudgets.policy", "default", "b").await.expect("is there");
    assert_eq!(untouched.int(&["status", "disruptionsAllowed"]), Some(1));
    let status = evict(&api, "p", json!({"preconditions": {"uid": "other"}})).await.expect_err("is another pod");
    assert!(status.is_conflict() && status.message.contains("the UID in the precondition (other)"), "{status}");
    let wrong = evict(&api, "p", json!({"dryRun": ["Some"], "propagationPolicy": "Up"})).await.expect_err("are no options");
    let dry_run = r#"dryRun: Unsupported value: ["Some"]: supported values: "All""#;
    let policy = r#"propagationPolicy: Unsupported value: "Up": supported values: "Foreground", "Background", "Orphan", "nil""#;
    assert_eq!(wrong.message, format!("DeleteOptions.meta.k8s.io \"\" is invalid: [{dry_run}, {policy}]"));
    assert!(!api.get("pods", "default", "p").await.expect("is there").is_terminating());
}
