use std::sync::Arc;

use serde_json::{Value, json};
use troupe_api::{
    ApiService,
    features::FeatureGates,
    meta::Cause,
    notices::Notices,
    service::{ApiCall, Body, DeleteOptions, FieldValidation, Operation, PatchType, WriteOptions},
};
use troupe_api_server::store::memory::MemoryStore;

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot, boot_with},
};

async fn config_map(api: &TestApi, name: &str) -> troupe_api::meta::Object {
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"a": "1"}})).await
}

#[actix::test]
async fn a_created_object_has_its_identity_and_can_be_read_at_once() {
    let api = boot().await;
    let created = config_map(&api, "a").await;
    assert!(!created.uid().is_empty() && !created.str(&["metadata", "creationTimestamp"]).is_empty());
    assert_eq!(api.get("configmaps", "default", "a").await.expect("is there"), created);
    let again = api.try_create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}})).await;
    assert_eq!(again.expect_err("exists").message, "configmaps \"a\" already exists");
}

#[actix::test]
async fn an_update_with_a_stale_resource_version_conflicts() {
    let api = boot().await;
    let first = config_map(&api, "a").await;
    let mut changed = first.clone();
    changed.set(&["data", "a"], "2");
    let second = api.try_update(changed.clone().into_value()).await.expect("is current");
    assert_ne!(second.resource_version(), first.resource_version());
    changed.set(&["data", "a"], "3");
    let status = api.try_update(changed.clone().into_value()).await.expect_err("is stale");
    assert_eq!((status.code, status.is_conflict()), (409, true));
    changed.remove(&["metadata", "resourceVersion"]);
    let third = api.try_update(changed.into_value()).await.expect("unconditional");
    assert_eq!(third.str(&["data", "a"]), "3");
}

#[actix::test]
async fn an_update_that_changes_nothing_keeps_the_resource_version() {
    let api = boot().await;
    let first = config_map(&api, "a").await;
    let mut same = first.clone();
    same.remove(&["metadata", "resourceVersion"]);
    let second = api.try_update(same.into_value()).await.expect("succeeds");
    assert_eq!(second.resource_version(), first.resource_version());
}

#[actix::test]
async fn patches_change_only_what_they_name() {
    let api = boot().await;
    config_map(&api, "a").await;
    let patched = api.patch(api.target("configmaps", "default", "a"), PatchType::Merge, json!({"data": {"b": "2"}})).await.expect("patches");
    assert_eq!((patched.str(&["data", "a"]), patched.str(&["data", "b"])), ("1", "2"));
}

#[actix::test]
async fn a_deletion_waits_for_the_last_finalizer() {
    let api = boot().await;
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default", "finalizers": ["x.io/y"]}})).await;
    let reply = api.delete("configmaps", "default", "a", DeleteOptions::default()).await.expect("accepted");
    let marked = reply.into_tree().expect("the object");
    assert!(marked.is_terminating());
    let added =
        api.patch(api.target("configmaps", "default", "a"), PatchType::Merge, json!({"metadata": {"finalizers": ["x.io/y", "z.io/z"]}})).await;
    assert_eq!(
        added.expect_err("too late").message,
        "ConfigMap \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"z.io/z\"}"
    );
    api.patch(api.target("configmaps", "default", "a"), PatchType::Merge, json!({"metadata": {"finalizers": null}})).await.expect("lets go");
    assert_eq!(api.get("configmaps", "default", "a").await.expect_err("is gone").code, 404);
}

#[actix::test]
async fn generated_names_are_unique_and_the_namespace_must_agree() {
    let api = boot().await;
    let one = api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-", "namespace": "default"}})).await;
    let two = api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-", "namespace": "default"}})).await;
    assert!(one.name().starts_with("x-") && one.name() != two.name());
    let target = api.target("configmaps", "default", "");
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "kube-system"}}).to_string();
    let operation = Operation::Create { body: Body::Json(body.into()), options: WriteOptions::default() };
    let status = api.call(target, operation).await.expect_err("is refused");
    assert_eq!(status.message, "the namespace of the provided object does not match the namespace sent on the request");
}

#[actix::test]
async fn the_name_in_the_body_must_be_the_one_in_the_url() {
    let api = boot().await;
    let created = config_map(&api, "a").await;
    let status = api.try_update_at(api.target("configmaps", "default", "b"), created.into_value()).await.expect_err("is refused");
    assert_eq!(status.message, "the name of the object (a) does not match the name on the URL (b)");
}

#[actix::test]
async fn an_update_of_another_uid_conflicts_and_a_missing_object_is_not_found() {
    let api = boot().await;
    let mut created = config_map(&api, "a").await;
    created.remove(&["metadata", "resourceVersion"]);
    created.set(&["metadata", "uid"], "other");
    let status = api.try_update(created.into_value()).await.expect_err("is refused");
    assert!(status.is_conflict() && status.message.contains("Precondition failed: UID in precondition: other"), "{}", status.message);
    let missing = api.try_update(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "z", "namespace": "default"}})).await;
    assert_eq!(missing.expect_err("is not there").message, "configmaps \"z\" not found");
}

#[actix::test]
async fn every_write_records_who_owns_its_fields() {
    let api = boot().await;
    let created = config_map(&api, "a").await;
    let managed = created.list(&["metadata", "managedFields"]);
    assert_eq!(managed.len(), 1);
    assert_eq!(managed[0]["operation"], "Update");
    assert!(managed[0]["fieldsV1"]["f:data"]["f:a"].is_object(), "{}", managed[0]);
}

#[actix::test]
async fn server_side_apply_creates_and_then_owns() {
    let api = boot().await;
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"a": "1"}});
    let apply = |manager: &str, body: serde_json::Value, force: bool| {
        let options = WriteOptions { field_manager: manager.into(), force, ..WriteOptions::default() };
        Operation::Patch { patch_type: PatchType::Apply, body: body.to_string().into(), options }
    };
    let reply = api.call(api.target("configmaps", "default", "a"), apply("one", applied.clone(), false)).await.expect("creates");
    assert_eq!(reply.code, 201);
    let mut other = applied.clone();
    other["data"]["a"] = json!("2");
    let status = api.call(api.target("configmaps", "default", "a"), apply("two", other.clone(), false)).await.expect_err("conflicts");
    assert_eq!(status.code, 409);
    let forced = api.call(api.target("configmaps", "default", "a"), apply("two", other, true)).await.expect("forces");
    assert_eq!(forced.into_tree().expect("an object").str(&["data", "a"]), "2");
    let again = api
        .call(
            api.target("configmaps", "default", "a"),
            apply(
                "two",
                json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "default"}, "data": {"a": "2"}}),
                false,
            ),
        )
        .await
        .expect("changes nothing");
    assert_eq!(again.code, 200);
}

#[actix::test]
async fn who_applies_to_an_object_that_is_gone_makes_no_new_one() {
    let api = boot().await;
    let gone = config_map(&api, "a").await;
    api.delete("configmaps", "default", "a", DeleteOptions::default()).await.expect("deletes");
    let metadata = json!({"uid": gone.uid(), "resourceVersion": gone.resource_version()});
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}).to_string().into();
    let options = WriteOptions { field_manager: "one".into(), ..WriteOptions::default() };
    let apply = Operation::Patch { patch_type: PatchType::Apply, body, options };
    let status = api.call(api.target("configmaps", "default", "a"), apply).await.expect_err("it is gone");
    let why = format!("uid mismatch: the provided object specified uid {}, and no existing object was found", gone.uid());
    assert!(status.code == 409 && status.message.ends_with(&why), "{status}");
    assert!(api.get("configmaps", "default", "a").await.is_err());
}

#[actix::test]
async fn concurrent_patches_all_win_in_the_end() {
    let api = boot().await;
    config_map(&api, "a").await;
    let patches = (0..20).map(|n| api.patch(api.target("configmaps", "default", "a"), PatchType::Merge, json!({"data": {format!("k{n}"): "v"}})));
    for result in futures::future::join_all(patches).await {
        result.expect("wins in the end");
    }
    let all = api.get("configmaps", "default", "a").await.expect("is there");
    assert_eq!(all.get(&["data"]).and_then(|data| data.as_object()).map(serde_json::Map::len), Some(21));
}

#[actix::test]
async fn fields_of_features_that_are_off_are_dropped() {
    let api = boot().await;
    let lifecycle = json!({"stopSignal": "SIGUSR1"});
    let container = json!({"name": "c", "image": "i", "lifecycle": lifecycle});
    let spec = json!({"os": {"name": "linux"}, "containers": [container]});
    let pod = api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": spec})).await;
    assert_eq!(pod.list(&["spec", "containers"])[0].get("lifecycle"), None);
    let containers = ["spec", "template", "spec", "containers"];
    let mut deployment = api
        .create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec},
        }}))
        .await;
    assert_eq!(deployment.list(&containers)[0].get("lifecycle"), None);
    deployment.list_mut(&containers).expect("has some")[0]["lifecycle"] = lifecycle;
    let updated = api.try_update(deployment.into_value()).await.expect("changes nothing");
    assert_eq!((updated.list(&containers)[0].get("lifecycle"), updated.int(&["metadata", "generation"])), (None, Some(1)));
}

#[actix::test]
async fn fields_are_kept_while_their_features_are_on() {
    let said = |entries: &[&str]| FeatureGates::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).expect("known gates");
    for (features, kept, group) in [(said(&[]), None, None), (said(&["MaxUnavailableStatefulSet=true", "GenericWorkload=true"]), Some(2), Some("g"))]
    {
        let api = boot_with(ApiServerOptions { features, ..ApiServerOptions::new(Arc::new(MemoryStore::new())) }).await;
        let spec = json!({"containers": [{"name": "c", "image": "i"}], "schedulingGroup": {"podGroupName": "g"}});
        let set = api
            .create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s", "namespace": "default"}, "spec": {
                "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}},
            }}))
            .await;
        assert_eq!(set.int(&["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"]), kept);
        let named = set.get(&["spec", "template", "spec", "schedulingGroup", "podGroupName"]).and_then(Value::as_str);
        assert_eq!(named, group);
    }
}

#[actix::test]
async fn values_of_features_that_are_off_are_refused_and_those_stored_stay() {
    let store = Arc::new(MemoryStore::new());
    let booted = async |gates: &str| {
        let features = FeatureGates::parse(&[gates.to_owned()]).expect("known gates");
        boot_with(ApiServerOptions { features, ..ApiServerOptions::new(store.clone()) }).await
    };
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {
            "containers": [{"name": "c", "image": "i"}], "tolerations": [{"key": "sla", "operator": "Gt", "value": "950"}],
        }})
    };
    let on = booted("TaintTolerationComparisonOperators=true").await;
    let mut stored = on.create(pod("a")).await;
    let off = booted("").await;
    let refused = off.try_create(pod("b")).await.expect_err("the feature is off");
    let why = "spec.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\", \"Lt\", \"Gt\"";
    assert!(refused.message.ends_with(why), "{refused:?}");
    stored.set(&["metadata", "labels"], json!({"a": "b"}));
    assert_eq!(off.try_update(stored.into_value()).await.expect("it has one already").label("a"), Some("b"));
}

#[actix::test]
async fn warnings_of_refused_writes_reach_the_client() {
    let api = boot().await;
    let warned = async |name: &str, operation: Operation| {
        let (target, notices) = (api.target("configmaps", "default", name), Notices::default());
        let call = ApiCall { user: api.user.clone(), target, operation, cause: Cause::root(), notices: notices.clone() };
        api.server.call(call).await.expect_err("is refused");
        notices.warnings()
    };
    let options = WriteOptions { field_validation: FieldValidation::Warn, ..WriteOptions::default() };
    let body = |metadata: serde_json::Value| {
        let text = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "foo": 1}).to_string();
        Body::Json(text.into())
    };
    let invalid = Operation::Create { body: body(json!({"name": "A_"})), options: options.clone() };
    assert_eq!(warned("", invalid).await, ["unknown field \"foo\""]);
    let nameless = Operation::Update { body: body(json!({})), options: options.clone() };
    assert_eq!(warned("a", nameless).await, ["unknown field \"foo\""]);
    let missing = Operation::Update { body: body(json!({"name": "a"})), options };
    assert_eq!(warned("a", missing).await, ["unknown field \"foo\""]);
}

#[actix::test]
async fn only_a_deletion_begins_one() {
    let api = boot().await;
    config_map(&api, "a").await;
    for (field, value) in [("deletionTimestamp", json!("2026-01-01T00:00:00Z")), ("deletionGracePeriodSeconds", json!(5))] {
        let patch = json!({"metadata": {field: value.clone()}});
        let refused = api.patch(api.target("configmaps", "default", "a"), PatchType::Merge, patch).await.expect_err("is refused");
        assert_eq!(refused.message, format!("ConfigMap \"a\" is invalid: metadata.{field}: Invalid value: {value}: field is immutable"));
    }
}

#[actix::test]
async fn a_generation_that_is_not_counted_stays_as_it_was_sent() {
    let api = boot().await;
    let of = |generation: i64| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "g", "namespace": "default", "generation": generation}});
    let refused = api.try_create(of(-1)).await.expect_err("is refused").message;
    assert_eq!(refused, "ConfigMap \"g\" is invalid: metadata.generation: Invalid value: -1: must be greater than or equal to 0");
    assert_eq!(api.create(of(7)).await.int(&["metadata", "generation"]), Some(7));
}

#[actix::test]
async fn owners_that_cannot_be_read_are_none() {
    let api = boot().await;
    let metadata = json!({"name": "o", "namespace": "default", "managedFields": [{"manager": "m", "operation": "Guess"}]});
    let made = api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).await;
    assert_eq!(made.get(&["metadata", "managedFields"]), None);
}

#[actix::test]
async fn an_event_that_is_wrong_is_one_of_the_core_group() {
    let api = boot().await;
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "type": "Odd", "action": "A", "reason": "R",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c", "reportingInstance": "i", "regarding": {"namespace": "default"},
    });
    let refused = api.try_create(event).await.expect_err("is refused").message;
    assert_eq!(refused, "Event \"e\" is invalid: type: Invalid value: \"\": has invalid value: Odd");
}
