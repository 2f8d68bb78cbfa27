use serde_json::{Value, json};
use troupe_api::{meta::Object, stored::StoredObject};

use super::{
    questions,
    review::{Subject, question, read},
};
use crate::webhook_client::ReviewVersion;

fn widget(name: &str) -> Object {
    let metadata = json!({"name": name, "namespace": "n", "uid": "u", "labels": {"a": "b"}, "finalizers": ["example.com/x"]});
    Object::from_value(json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": {"x": 1}})).expect("an object")
}

fn subjects(names: &[&str]) -> Vec<Subject> {
    names.iter().map(|name| Subject::of_tree(&widget(name))).collect()
}

fn answer(api_version: &str, uid: &str, objects: &[Value]) -> Vec<u8> {
    let response = json!({"uid": uid, "result": {"status": "Success"}, "convertedObjects": objects});
    json!({"kind": "ConversionReview", "apiVersion": api_version, "response": response}).to_string().into_bytes()
}

fn turned(name: &str, change: impl Fn(&mut Value)) -> Value {
    let mut object = widget(name).into_value();
    object["apiVersion"] = "example.com/v2".into();
    change(&mut object);
    object
}

fn told(version: ReviewVersion, body: &[u8], names: &[&str]) -> Result<Vec<Object>, String> {
    let read = read(body, version, "u", "example.com/v2", "example.com/v1, Kind=Widget", subjects(names));
    read.map(|objects| objects.into_iter().map(|(object, _)| object).collect()).map_err(|(_, why)| why)
}

#[test]
fn a_question_has_all_objects_and_the_version_that_is_wanted() {
    let body = question(ReviewVersion::V1Beta1, "u", "example.com/v2", &subjects(&["a", "b"]));
    let review: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&review["kind"], &review["apiVersion"]), (&json!("ConversionReview"), &json!("apiextensions.k8s.io/v1beta1")));
    let request = &review["request"];
    assert_eq!((&request["uid"], &request["desiredAPIVersion"]), (&json!("u"), &json!("example.com/v2")));
    let names: Vec<&Value> = request["objects"].as_array().expect("a list").iter().map(|object| &object["metadata"]["name"]).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn stored_objects_go_with_their_revision() {
    let mut object = widget("a");
    object.set(&["metadata", "resourceVersion"], "7");
    let stored = StoredObject::from_object(&object).expect("is stored");
    let subject = Subject::of_stored(&stored);
    assert_eq!(serde_json::from_slice::<Value>(&subject.json).expect("JSON"), object.into_value());
}

#[test]
fn metadata_but_labels_and_annotations_are_the_originals() {
    let change = |object: &mut Value| {
        object["metadata"] = json!({"name": "a", "namespace": "n", "uid": "u", "labels": {"c": "d"}, "annotations": {"e": "f"}, "generation": 5});
        object["spec"] = json!({"y": 1});
    };
    let objects = told(ReviewVersion::V1, &answer("apiextensions.k8s.io/v1", "u", &[turned("a", change)]), &["a"]).expect("is fine");
    let metadata = json!({
        "name": "a", "namespace": "n", "uid": "u", "labels": {"c": "d"}, "annotations": {"e": "f"}, "finalizers": ["example.com/x"],
    });
    assert_eq!((objects[0].get(&["metadata"]), objects[0].get(&["spec", "y"])), (Some(&metadata), Some(&json!(1))));
}

#[test]
fn the_older_form_is_held_to_less() {
    let body = answer("example.com/odd", "other", &[turned("a", |_| {})]);
    assert!(told(ReviewVersion::V1Beta1, &body, &["a"]).is_ok());
    let why = "conversion webhook for example.com/v1, Kind=Widget failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got example.com/odd, Kind=ConversionReview";
    assert_eq!(told(ReviewVersion::V1, &body, &["a"]), Err(why.to_owned()));
}

#[test]
fn faults_among_many_are_told_by_their_place() {
    let of = "conversion webhook for example.com/v1, Kind=Widget returned";
    let all = |second: Value| told(ReviewVersion::V1, &answer("apiextensions.k8s.io/v1", "u", &[turned("a", |_| {}), second]), &["a", "b"]);
    assert!(all(turned("b", |_| {})).is_ok());
    for (second, want) in [
        (turned("c", |_| {}), "invalid converted object at index 1: must have the same name: b != c"),
        (turned("b", |object| object["kind"] = "W".into()), "invalid converted object at index 1: invalid kind (expected Widget, received W)"),
        (
            turned("b", |object| object["metadata"]["annotations"] = json!([])),
            "invalid metadata in object at index 1: invalid metadata.annotations of type []interface {} in converted object",
        ),
        (json!({"apiVersion": "example.com/v2"}), "invalid converted object at index 1: Object 'Kind' is missing"),
    ] {
        assert_eq!(all(second), Err(format!("{of} {want}")));
    }
}

#[test]
fn questions_are_bounded_in_bytes_and_objects() {
    let of = |bytes: usize, count: usize| {
        let mut object = widget("a");
        object.set(&["spec", "x"], "x".repeat(bytes));
        let stored = std::sync::Arc::new(StoredObject::from_object(&object).expect("is stored"));
        questions((0..count).map(|at| (at, stored.clone())).collect()).iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(of(10, 600), [250, 250, 100]);
    assert_eq!(of(400 << 10, 5), [2, 2, 1]);
    assert_eq!(of(1200 << 10, 3), [1, 1, 1], "a large one goes alone");
    assert_eq!(of(10, 0), [0; 0]);
}
