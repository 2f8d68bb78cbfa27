use serde_json::{Value, json};
use troupe_api::{meta::Object, service::PatchType};

use super::sites::{good_world, site};

fn owned(object: &Object, manager: &str) -> Value {
    let entries = object.list(&["metadata", "managedFields"]);
    let found = entries.iter().find(|entry| entry["manager"] == manager);
    found.map_or(Value::Null, |entry| json!([entry["apiVersion"], entry["fieldsV1"]["f:spec"]]))
}

#[actix::test]
async fn managers_of_several_versions_meet_in_each_others_fields() {
    let world = good_world().await;
    world.apply("one", site("v1", "a", json!({"hostPort": "h:80"})), false).await.expect("applies");
    let both = world.apply("two", site("v2", "a", json!({"tags": {"x": "y"}})), false).await.expect("applies");
    assert_eq!(both.get(&["spec"]), Some(&json!({"host": "h", "port": "80", "note": "of v1", "tags": {"x": "y"}})));
    assert_eq!(owned(&both, "one"), json!(["example.com/v1", {"f:hostPort": {}}]));
    assert_eq!(owned(&both, "two"), json!(["example.com/v2", {"f:tags": {"f:x": {}}}]));
    let same = json!({"host": "h", "port": "80", "tags": {"x": "y"}});
    world.apply("two", site("v2", "a", same), false).await.expect("changes nothing of the other's");
    let other = || site("v2", "a", json!({"host": "h", "port": "81", "tags": {"x": "y"}}));
    let status = world.apply("two", other(), false).await.expect_err("is another's");
    assert_eq!((status.code, &*status.message), (409, "Apply failed with 1 conflict: conflict with \"one\": .spec.hostPort"));
    let forced = world.apply("two", other(), true).await.expect("takes it");
    assert_eq!((forced.str(&["spec", "port"]), owned(&forced, "one")), ("81", Value::Null));
    let plain = world.api.patch(world.at("v1", "a", ""), PatchType::Merge, json!({"spec": {"hostPort": "z:1"}})).await.expect("patches");
    assert_eq!(owned(&plain, "two"), json!(["example.com/v2", {"f:tags": {"f:x": {}}}]), "host and port are the patch's now");
}

#[actix::test]
async fn what_is_applied_no_more_goes_though_it_was_applied_in_another_version() {
    let world = good_world().await;
    world.apply("one", site("v1", "a", json!({"hostPort": "h:80", "tags": {"a": "b", "c": "d"}})), false).await.expect("applies");
    world.apply("two", site("v1", "a", json!({"tags": {"c": "d"}})), false).await.expect("applies");
    let left = world.apply("one", site("v2", "a", json!({"host": "h"})), false).await.expect("applies");
    assert_eq!(left.get(&["spec", "tags"]), Some(&json!({"c": "d"})), "the other's stays");
    assert_eq!(left.str(&["spec", "host"]), "h");
    assert_eq!(owned(&left, "one"), json!(["example.com/v2", {"f:host": {}}]));
}

#[actix::test]
async fn entries_of_versions_that_are_gone_are_forgotten() {
    let world = good_world().await;
    let mut made = site("v1", "a", json!({"hostPort": "h:80"}));
    made["metadata"]["managedFields"] = json!([
        {"manager": "old", "operation": "Update", "apiVersion": "example.com/v0", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:x": {}}}},
    ]);
    world.api.create(made).await;
    let applied = world.apply("one", site("v1", "a", json!({"note": "n"})), true).await.expect("applies");
    assert_eq!(owned(&applied, "old"), Value::Null);
}
