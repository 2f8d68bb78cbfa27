use serde_json::{Value, json};
use troupe_api::service::{Body, Operation, WriteOptions};

use crate::apiserver::testing::{TestApi, boot};

async fn pod(api: &TestApi, name: &str) {
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec})).await;
}

async fn post(api: &TestApi, subresource: &str, name: &str, body: Value) -> Result<troupe_api::ApiReply, troupe_api::Status> {
    let operation = Operation::Create { body: Body::Json(body.to_string().into()), options: WriteOptions::default() };
    api.call(api.subresource("pods", "default", name, subresource), operation).await
}

fn binding(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": "default"}, "target": {"kind": "Node", "name": node}})
}

#[actix::test]
async fn a_pod_is_bound_once() {
    let api = boot().await;
    pod(&api, "p").await;
    let mut elsewhere = binding("p", "n1");
    elsewhere["metadata"]["namespace"] = "other".into();
    let status = post(&api, "binding", "p", elsewhere).await.expect_err("is in another namespace");
    assert_eq!(status.message, "the namespace of the provided object does not match the namespace sent on the request");
    let reply = post(&api, "binding", "p", binding("p", "n1")).await.expect("binds");
    assert_eq!(reply.code, 201);
    let bound = api.get("pods", "default", "p").await.expect("is there");
    assert_eq!(bound.str(&["spec", "nodeName"]), "n1");
    let conditions = bound.list(&["status", "conditions"]);
    assert!(conditions.iter().any(|condition| condition["type"] == "PodScheduled" && condition["status"] == "True"));
    let status = post(&api, "binding", "p", binding("p", "n2")).await.expect_err("is bound");
    assert_eq!(status.message, "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\"");
}

#[actix::test]
async fn an_eviction_deletes_the_pod() {
    let api = boot().await;
    pod(&api, "p").await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}});
    post(&api, "eviction", "p", eviction).await.expect("evicts");
    assert_eq!(api.get("pods", "default", "p").await.expect_err("is gone").code, 404);
}

#[actix::test]
async fn a_status_update_changes_only_the_status() {
    let api = boot().await;
    let mut object = api
        .create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"}, "spec": {
            "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        }}))
        .await;
    assert_eq!(object.int(&["metadata", "generation"]), Some(1));
    object.set(&["spec", "replicas"], 7);
    object.set(&["status", "replicas"], 1);
    let updated = api.try_update_at(api.subresource("deployments.apps", "default", "d", "status"), object.into_value()).await.expect("updates");
    assert_eq!((updated.int(&["spec", "replicas"]), updated.int(&["status", "replicas"])), (Some(1), Some(1)));
    assert_eq!(updated.int(&["metadata", "generation"]), Some(1));
}

#[actix::test]
async fn a_scale_reads_and_writes_the_replicas() {
    let api = boot().await;
    api.create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }}))
    .await;
    let target = || api.subresource("deployments.apps", "default", "d", "scale");
    let mut scale = api.call(target(), Operation::Get { resource_version: None }).await.expect("reads").into_tree().expect("a scale");
    assert_eq!((scale.kind(), scale.int(&["spec", "replicas"]), scale.str(&["status", "selector"])), ("Scale", Some(1), "a=b"));
    scale.set(&["spec", "replicas"], 3);
    let written = api.try_update_at(target(), scale.clone().into_value()).await.expect("scales");
    assert_eq!(written.int(&["spec", "replicas"]), Some(3));
    let stale = api.try_update_at(target(), scale.into_value()).await.expect_err("is stale");
    assert!(stale.is_conflict(), "{stale}");
    let patch = json!({"spec": {"replicas": 5}});
    api.patch(target(), troupe_api::service::PatchType::Merge, patch).await.expect("scales");
    let deployment = api.get("deployments.apps", "default", "d").await.expect("is there");
    assert_eq!((deployment.int(&["spec", "replicas"]), deployment.int(&["metadata", "generation"])), (Some(5), Some(3)));
    let negative = api.patch(target(), troupe_api::service::PatchType::Merge, json!({"spec": {"replicas": -1}})).await.expect_err("is refused");
    assert_eq!(negative.message, "Scale.autoscaling \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0");
}
