//! What patches cost, and where they end.

use serde_json::{Value, json};

use super::*;
use crate::{
    growth::assert_linear,
    meta::{GroupVersionKind, limits::MAX_DEPTH},
    schema::{Schemas, strict},
};

fn schema(group: &str, kind: &str) -> std::sync::Arc<Schema> {
    Schemas::builtin().get(&GroupVersionKind::new(group, "v1", kind)).expect("a built-in kind")
}

/// A kind that takes any data.
fn revision(data: Value) -> Object {
    let value = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "a"}, "revision": 1, "data": data});
    Object::from_value(value).expect("an object")
}

fn patched(patch_type: PatchType, patch: &str, data: Value) -> Result<Object, Status> {
    apply(patch_type, patch.as_bytes(), &revision(data), &schema("apps", "ControllerRevision"))
}

fn operations(listed: Vec<Value>) -> String {
    Value::from(listed).to_string()
}

#[test]
fn a_json_patch_has_at_most_as_many_operations_as_upstream_takes() {
    let many = |count| operations(vec![json!({"op": "test", "path": "/revision", "value": 1}); count]);
    assert!(patched(PatchType::Json, &many(10_000), json!({})).is_ok());
    let status = patched(PatchType::Json, &many(10_001), json!({})).expect_err("too many");
    let message = "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
    assert_eq!((status.code, &*status.message), (413, message));
}

#[test]
fn copies_within_each_other_end_at_the_depth_limit() {
    let nested = operations(vec![json!({"op": "copy", "from": "/data", "path": "/data/a"}); 10_000]);
    assert_eq!(patched(PatchType::Json, &nested, json!({"x": 1})).expect_err("too deep").code, 422);
    let added = operations((0..500).map(|depth| json!({"op": "add", "path": format!("/data{}", "/a".repeat(depth + 1)), "value": {}})).collect());
    assert_eq!(patched(PatchType::Json, &added, json!({})).expect_err("too deep").code, 422);
    let within = operations((0..90).map(|depth| json!({"op": "add", "path": format!("/data{}", "/a".repeat(depth + 1)), "value": {}})).collect());
    assert!(patched(PatchType::Json, &within, json!({})).is_ok());
}

#[test]
fn moves_into_each_other_end_at_the_depth_limit() {
    let chain: Vec<Value> = (0..300).map(|at| json!({"op": "move", "from": format!("/data/{at}"), "path": format!("/data/{}/in", at + 1)})).collect();
    let data: serde_json::Map<_, _> = (0..301).map(|at| (at.to_string(), json!({}))).collect();
    assert_eq!(patched(PatchType::Json, &operations(chain), data.into()).expect_err("too deep").code, 422);
}

#[test]
fn copies_that_double_end_at_upstreams_size() {
    let doubling: Vec<Value> = (0..30).map(|round| json!({"op": "copy", "from": "/data/list", "path": format!("/data/list/l{round}")})).collect();
    assert_eq!(patched(PatchType::Json, &operations(doubling), json!({"list": {"x": "y".repeat(1000)}})).expect_err("too much").code, 422);
    let wide: Vec<Value> = (0..1000).map(|round| json!({"op": "copy", "from": "/data/text", "path": format!("/data/t{round}")})).collect();
    assert_eq!(patched(PatchType::Json, &operations(wide), json!({"text": "y".repeat(10_000)})).expect_err("too much").code, 422);
    let few: Vec<Value> = (0..100).map(|round| json!({"op": "copy", "from": "/data/text", "path": format!("/data/t{round}")})).collect();
    assert!(patched(PatchType::Json, &operations(few), json!({"text": "y".repeat(10_000)})).is_ok());
}

#[test]
fn a_patch_that_shifts_a_long_list_over_and_over_is_refused() {
    let first: Vec<Value> = vec![json!({"op": "add", "path": "/data/list/0", "value": 0}); 10_000];
    let list = |length: usize| json!({"list": vec![0; length]});
    assert_eq!(patched(PatchType::Json, &operations(first.clone()), list(100_000)).expect_err("too much work").code, 422);
    assert!(patched(PatchType::Json, &operations(first[..1000].to_vec()), list(10_000)).is_ok());
    let last: Vec<Value> = vec![json!({"op": "add", "path": "/data/list/-", "value": 0}); 10_000];
    assert!(patched(PatchType::Json, &operations(last), list(100_000)).is_ok(), "nothing is shifted at the end");
}

#[test]
fn deep_patches_of_every_type_are_refused() {
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let deep = format!(r#"{{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{{"name":"a"}},"data":{}}}"#, nested(20_000));
    let schema = schema("apps", "ControllerRevision");
    for patch_type in [PatchType::Merge, PatchType::StrategicMerge] {
        let status = patched(patch_type, &deep, json!({})).expect_err("too deep");
        assert!(status.code == 400 && status.message.ends_with("exceeded max depth"), "{}", status.message);
    }
    assert_eq!(decode_apply(deep.as_bytes(), &schema).expect_err("too deep").code, 400);
    let json_patch = format!(r#"[{{"op":"add","path":"/data/x","value":{}}}]"#, nested(20_000));
    assert_eq!(patched(PatchType::Json, &json_patch, json!({})).expect_err("too deep").code, 400);
    let fits = format!(r#"{{"data":{}}}"#, nested(MAX_DEPTH - 2));
    assert!(patched(PatchType::Merge, &fits, json!({})).is_ok());
}

/// A pod whose only container has `count` environment variables, and a strategic patch for all of them.
fn variables(count: usize) -> (Object, String) {
    let env = |value: &str| (0..count).map(|at| json!({"name": format!("V{at}"), "value": value})).collect::<Vec<_>>();
    let order = env("").into_iter().map(|entry| json!({"name": entry["name"]})).collect::<Vec<_>>();
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i", "env": env("1")}]}});
    let patch = json!({"spec": {"containers": [{"name": "c", "$setElementOrder/env": order, "env": env("2")}]}});
    (Object::from_value(pod).expect("an object"), patch.to_string())
}

#[test]
fn strategic_merges_of_long_lists_take_linear_time() {
    let schema = schema("", "Pod");
    assert_linear(400, variables, |(pod, patch)| {
        let merged = apply(PatchType::StrategicMerge, patch.as_bytes(), pod, &schema).expect("applies");
        let env = merged.get(&["spec", "containers"]).and_then(|containers| containers[0]["env"].as_array()).expect("a list");
        assert!(env.iter().all(|entry| entry["value"] == "2"));
    });
}

#[test]
fn lists_of_scalars_merge_and_shrink_in_linear_time() {
    let schema = schema("", "Pod");
    let input = |count: usize| {
        let names = |prefix: &str| (0..count).map(|at| format!("{prefix}/{at}")).collect::<Vec<_>>();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "finalizers": names("a")}});
        let patch = json!({"metadata": {"finalizers": names("b"), "$deleteFromPrimitiveList/finalizers": names("a")}});
        (Object::from_value(pod).expect("an object"), patch.to_string())
    };
    assert_linear(1000, input, |(pod, patch)| {
        apply(PatchType::StrategicMerge, patch.as_bytes(), pod, &schema).expect("applies");
    });
}

#[test]
fn an_object_of_many_fields_decodes_in_linear_time() {
    let schema = schema("", "ConfigMap");
    let body = |count: usize| (0..count).map(|at| format!("\"f{at}\":1")).collect::<Vec<_>>().join(",");
    assert_linear(
        2000,
        |count| format!("{{{}}}", body(count)),
        |body| {
            let decoded = schema.decode(body.as_bytes(), Format::Json).expect("decodes");
            assert_eq!(decoded.problems.len(), strict::PROBLEM_LIMIT);
        },
    );
    assert_linear(
        2000,
        |count| format!("{{\"data\":{{{}}}}}", body(count)),
        |patch| {
            parse_patch(patch.as_bytes(), "").expect("parses");
        },
    );
}

#[test]
fn what_is_refused_is_quoted_no_longer_than_anybody_reads() {
    let big = "x".repeat(1 << 20);
    let map = |data: Value| Object::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}));
    let (live, schema) = (map(json!({"a": big})).expect("an object"), schema("", "ConfigMap"));
    let number = json!({"data": {"b": 1}}).to_string();
    let unknown = json!({"data": {"b": "1"}, big.as_str(): 1}).to_string();
    let replaced = operations(vec![json!({"op": "replace", "path": "/data/a", "value": [big]})]);
    for (patch_type, patch) in
        [(PatchType::Merge, &number), (PatchType::StrategicMerge, &number), (PatchType::Merge, &unknown), (PatchType::Json, &replaced)]
    {
        let status = apply_checked(patch_type, patch.as_bytes(), &live, &schema, FieldValidation::Strict).expect_err("refused");
        let told: usize = status.details.iter().flat_map(|details| &details.causes).map(|cause| cause.message.len()).sum();
        assert!(status.message.len() <= 9 << 10 && told <= 9 << 10, "{patch_type:?}: {} and {told} bytes", status.message.len());
    }
    let wrong = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": true}, "immutable": big}).to_string();
    let status = decode_apply(wrong.as_bytes(), &schema).expect_err("no object of its kind");
    assert!(status.message.len() < 9 << 10, "{} bytes", status.message.len());
    let status = Status::invalid("", "ConfigMap", "a", vec![FieldError::invalid("data", big, "is bad")]);
    assert!(status.message.len() < 9 << 10 && status.message.contains("xxx...\": is bad"), "{} bytes", status.message.len());
}
