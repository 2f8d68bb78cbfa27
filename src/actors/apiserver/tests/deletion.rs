use serde_json::{Value, json};
use troupe_api::{
    meta::LabelSelector,
    service::{DeleteOptions, ListOptions, Operation, PatchType, Propagation, ReplyBody},
};

use crate::apiserver::testing::{TestApi, boot};

async fn config_map(api: &TestApi, name: &str, finalizers: &[&str]) {
    let metadata = json!({"name": name, "namespace": "default", "labels": {"n": name}, "finalizers": finalizers});
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).await;
}

#[actix::test]
async fn a_finished_deletion_answers_with_what_is_gone() {
    let api = boot().await;
    config_map(&api, "a", &[]).await;
    let uid = api.get("configmaps", "default", "a").await.expect("is there").uid().to_owned();
    let reply = api.delete("configmaps", "default", "a", DeleteOptions::default()).await.expect("deletes");
    match reply.body {
        ReplyBody::Success { details } => assert_eq!(details, json!({"name": "a", "kind": "configmaps", "uid": uid})),
        other => panic!("expected a Status, got {other:?}"),
    }
    assert_eq!(api.delete("configmaps", "default", "a", DeleteOptions::default()).await.expect_err("is gone").code, 404);
}

#[actix::test]
async fn preconditions_protect_another_object_of_the_same_name() {
    let api = boot().await;
    config_map(&api, "a", &[]).await;
    let options = DeleteOptions { precondition_uid: Some("other".into()), ..DeleteOptions::default() };
    let status = api.delete("configmaps", "default", "a", options).await.expect_err("is refused");
    assert!(status.is_conflict());
    let wanted = "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match the UID in record";
    assert!(status.message.starts_with(wanted), "{}", status.message);
}

#[actix::test]
async fn a_priority_class_of_the_system_stays() {
    let api = boot().await;
    let metadata = json!({"name": "system-node-critical"});
    api.ensure(json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": metadata, "value": 2_000_001_000})).await;
    let refused = api.delete("priorityclasses.scheduling.k8s.io", "", "system-node-critical", DeleteOptions::default()).await;
    let wanted = "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and cannot be deleted";
    assert_eq!(refused.expect_err("is refused").message, wanted);
}

#[actix::test]
async fn who_deletes_a_job_hears_of_its_pods() {
    let api = boot().await;
    let pods = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    let spec = json!({"template": {"spec": pods}});
    api.create(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "default"}, "spec": spec})).await;
    let mut options = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    let warned = api.delete("jobs.batch", "default", "j", options.clone()).await.expect("would delete").warnings;
    assert!(matches!(warned.as_slice(), [text] if text.starts_with("child pods are preserved by default")), "{warned:?}");
    options.propagation = Some(Propagation::Background);
    assert_eq!(api.delete("jobs.batch", "default", "j", options).await.expect("would delete").warnings, Vec::<String>::new());
}

#[actix::test]
async fn what_volumes_use_is_born_with_a_finalizer() {
    let api = boot().await;
    let metadata = json!({"name": "fast"});
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": metadata, "driverName": "d.example.com", "parameters": {"a": "b"}});
    let made = api.create(class).await;
    assert_eq!(made.get(&["metadata", "finalizers"]), Some(&json!(["kubernetes.io/vac-protection"])));
}

#[actix::test]
async fn propagation_policies_become_finalizers() {
    let api = boot().await;
    for (name, policy, want) in [("a", Propagation::Foreground, json!(["foregroundDeletion"])), ("b", Propagation::Orphan, json!(["orphan"]))] {
        config_map(&api, name, &[]).await;
        let options = DeleteOptions { propagation: Some(policy), ..DeleteOptions::default() };
        let marked = api.delete("configmaps", "default", name, options).await.expect("begins").into_tree().expect("the object");
        assert_eq!(marked.get(&["metadata", "finalizers"]), Some(&want));
        assert_eq!(marked.int(&["metadata", "deletionGracePeriodSeconds"]), Some(0));
    }
}

#[actix::test]
async fn a_collection_is_deleted_by_selector() {
    let api = boot().await;
    for name in ["a", "b", "c"] {
        config_map(&api, name, &[]).await;
    }
    let list = ListOptions { labels: LabelSelector::parse("n in (a,b)").expect("parses"), ..ListOptions::default() };
    let operation = Operation::DeleteCollection { delete: DeleteOptions::default(), list };
    api.call(api.target("configmaps", "default", ""), operation).await.expect("deletes");
    assert_eq!(api.names("configmaps", "default").await, ["c"]);
}

#[actix::test]
async fn a_dry_run_deletes_nothing() {
    let api = boot().await;
    config_map(&api, "a", &[]).await;
    api.delete("configmaps", "default", "a", DeleteOptions { dry_run: true, ..DeleteOptions::default() }).await.expect("would delete");
    assert_eq!(api.names("configmaps", "default").await, ["a"]);
}

#[actix::test]
async fn a_grace_that_no_clock_counts_is_refused() {
    let api = boot().await;
    config_map(&api, "a", &[]).await;
    let options = DeleteOptions { grace_period_seconds: Some(1 << 62), ..DeleteOptions::default() };
    let status = api.delete("configmaps", "default", "a", options).await.expect_err("is refused");
    let want =
        "DeleteOptions.meta.k8s.io \"\" is invalid: gracePeriodSeconds: Invalid value: 4611686018427387904: must be less than or equal to 2147483647";
    assert_eq!((status.code, status.message.as_str()), (422, want));
}

#[actix::test]
async fn a_namespace_stays_until_it_is_finalized() {
    let api = boot().await;
    api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}, "spec": {"finalizers": ["kubernetes"]}})).await;
    let reply = api.delete("namespaces", "", "x", DeleteOptions::default()).await.expect("begins");
    let mut namespace = reply.into_tree().expect("the namespace");
    assert_eq!(namespace.str(&["status", "phase"]), "Terminating");
    namespace.set(&["spec", "finalizers"], Value::Array(Vec::new()));
    api.try_update_at(api.subresource("namespaces", "", "x", "finalize"), namespace.into_value()).await.expect("finalizes");
    assert_eq!(api.get("namespaces", "", "x").await.expect_err("is gone").code, 404);
}

#[actix::test]
async fn an_object_that_lost_its_last_finalizer_by_patch_is_gone() {
    let api = boot().await;
    config_map(&api, "a", &["x.io/y"]).await;
    api.delete("configmaps", "default", "a", DeleteOptions::default()).await.expect("begins");
    let patch = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    api.patch(api.target("configmaps", "default", "a"), PatchType::Json, patch).await.expect("lets go");
    assert_eq!(api.names("configmaps", "default").await, Vec::<String>::new());
}
