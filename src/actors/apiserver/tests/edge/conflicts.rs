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
