//! Writes that meet what is there.

use serde_json::{Value, json};

use super::door::Door;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[actix::test]
async fn who_creates_over_an_object_that_is_being_deleted_is_told_so() {
    let mut door = Door::open().await;
    let held = json!({"metadata": {"name": "c", "finalizers": ["example.com/held"]}});
    assert_eq!(door.post(MAPS, &held).await.status, 201);
    assert_eq!(door.post(MAPS, &held).await.refusal(), (409, "configmaps \"c\" already exists".to_owned()));
    assert_eq!(door.send("DELETE", &format!("{MAPS}/c"), &[], "").await.status, 200);
    for path in [MAPS.to_owned(), format!("{MAPS}?dryRun=All")] {
        let refused = door.post(&path, &held).await;
        assert_eq!(refused.refusal(), (409, "object is being deleted: configmaps \"c\" already exists".to_owned()), "{path}");
        assert_eq!(refused.json()["reason"], "AlreadyExists");
    }
    door.close().await;
}

#[actix::test]
async fn an_applied_list_with_a_key_twice_is_refused() {
    let mut door = Door::open().await;
    let env = json!([{"name": "T", "value": "1"}, {"name": "T", "value": "2"}]);
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i:1", "env": env}]}});
    let refused = door.apply("/api/v1/namespaces/default/pods/p", &pod).await;
    let why = "failed to create typed patch object (/p; /v1, Kind=Pod): .spec.containers[name=\"a\"].env: duplicate entries for key [name=\"T\"]";
    assert_eq!(refused.refusal(), (500, why.to_owned()));
    door.close().await;
}

#[actix::test]
async fn a_refusal_counts_the_fields_that_others_own_and_names_as_many_as_anybody_reads() {
    let mut door = Door::open().await;
    let data: serde_json::Map<String, Value> = (0..3000).map(|at| (format!("k{at:05}"), json!("a"))).collect();
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
    assert_eq!(door.post(MAPS, &map).await.status, 201);
    map["data"] = (0..3000).map(|at| (format!("k{at:05}"), json!("b"))).collect::<serde_json::Map<_, _>>().into();
    let refused = door.apply(&format!("{MAPS}/c"), &map).await;
    let (code, message) = refused.refusal();
    assert_eq!(code, 409);
    let manager = "conflicts with \"unknown\" using v1:";
    assert!(message.starts_with(&format!("Apply failed with 3000 conflicts: {manager}\n- .data.k00000\n- .data.k00001\n")), "{message}");
    assert!(message.ends_with("\n- .data.k00999\n- and 2000 more"), "{message}");
    assert_eq!(refused.json()["details"]["causes"].as_array().map(Vec::len), Some(1000));
    map["data"] = json!({"k00000": "b"});
    let one = door.apply(&format!("{MAPS}/c"), &map).await;
    assert_eq!(one.refusal(), (409, "Apply failed with 1 conflict: conflict with \"unknown\" using v1: .data.k00000".to_owned()));
    door.close().await;
}

/// Manifests that were exported with a status are applied again and again.
#[actix::test]
async fn an_applied_status_conflicts_with_nobody_and_changes_nothing() {
    let mut door = Door::open().await;
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "s"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}, "status": {"replicas": 9}});
    assert_eq!(door.apply(&format!("{sets}/s"), &set).await.status, 201);
    let mut observed = door.get(&format!("{sets}/s")).await.json();
    observed["status"] = json!({"replicas": 1, "observedGeneration": 1});
    let written = door.put(&format!("{sets}/s/status"), &observed).await;
    assert_eq!((written.status.as_u16(), &written.json()["status"]["replicas"]), (200, &json!(1)));
    let before = door.get(&format!("{sets}/s")).await.json();
    for _ in 0..2 {
        let again = door.apply(&format!("{sets}/s"), &set).await;
        assert_eq!((again.status.as_u16(), again.json()), (200, before.clone()));
    }
    let status = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "s"}, "status": {"replicas": 9}});
    let refused = door.apply(&format!("{sets}/s/status"), &status).await;
    let why = "Apply failed with 1 conflict: conflict with \"unknown\" with subresource \"status\" using apps/v1: .status.replicas";
    assert_eq!(refused.refusal(), (409, why.to_owned()));
    door.close().await;
}
