use serde_json::json;

use super::*;
use crate::{meta::GroupVersionKind, schema::Schemas};

fn schema(group: &str, kind: &str) -> std::sync::Arc<Schema> {
    Schemas::builtin().get(&GroupVersionKind::new(group, "v1", kind)).expect("a built-in kind")
}

fn deployment() -> Object {
    let value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "1", "b": "2"}, "finalizers": ["x/a", "x/b"]},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
                {"name": "web", "image": "web:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "resources": {}},
                {"name": "side", "image": "side:1", "args": ["x", "y"], "resources": {}}
            ]}},
        },
    });
    Object::from_value(value).expect("an object")
}

fn patched(patch_type: PatchType, patch: serde_json::Value) -> serde_json::Value {
    let schema = schema("apps", "Deployment");
    let once = apply(patch_type, patch.to_string().as_bytes(), &deployment(), &schema).expect("applies");
    if patch_type != PatchType::Json {
        let twice = apply(patch_type, patch.to_string().as_bytes(), &once, &schema).expect("applies");
        assert_eq!(twice, once, "patching again changes nothing");
    }
    once.into_value()
}

#[test]
fn a_merge_patch_merges_objects_replaces_lists_and_removes_by_null() {
    let value = patched(PatchType::Merge, json!({"metadata": {"labels": {"a": null, "c": "3"}}, "spec": {"replicas": 0}}));
    assert_eq!(value["metadata"]["labels"], json!({"b": "2", "c": "3"}));
    assert_eq!(value["spec"]["replicas"], 0);
}

#[test]
fn a_strategic_patch_merges_containers_by_name() {
    let patch =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "side:2", "args": ["z"]}, {"name": "new", "image": "n"}]}}}});
    let value = patched(PatchType::StrategicMerge, patch);
    let containers = value["spec"]["template"]["spec"]["containers"].as_array().expect("a list");
    let names = containers.iter().map(|c| c["name"].as_str().expect("named")).collect::<Vec<_>>();
    assert_eq!(names, ["web", "side", "new"]);
    assert_eq!(containers[1], json!({"name": "side", "image": "side:2", "args": ["z"], "resources": {}}));
}

#[test]
fn strategic_directives_delete_replace_retain_and_order() {
    let patch = json!({
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"]},
        "spec": {
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
            "template": {"metadata": {"labels": {"$patch": "replace", "new": "1"}}, "spec": {
                "$setElementOrder/containers": [{"name": "side"}, {"name": "web"}],
                "containers": [{"name": "web", "env": [{"name": "A", "$patch": "delete"}], "image": null}],
            }},
        },
    });
    let value = patched(PatchType::StrategicMerge, patch);
    assert_eq!(value["metadata"]["finalizers"], json!(["x/b"]));
    assert_eq!(value["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(value["spec"]["template"]["metadata"]["labels"], json!({"new": "1"}));
    let containers = &value["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["name"], "side");
    assert_eq!(containers[1], json!({"name": "web", "env": [{"name": "B", "value": "2"}], "resources": {}}));
}

#[test]
fn a_list_replaced_by_directive_holds_only_the_patch() {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"$patch": "replace"}, {"name": "only", "image": "o"}]}}}});
    let value = patched(PatchType::StrategicMerge, patch);
    assert_eq!(value["spec"]["template"]["spec"]["containers"], json!([{"name": "only", "image": "o"}]));
}

/// As a kubelet tells the addresses of a host that got a second family: the first of them is the host's main one.
#[test]
fn a_list_replaced_by_directive_keeps_the_order_of_the_patch() {
    let pod = |addresses: serde_json::Value| {
        let value = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
            "status": {"hostIP": "192.0.2.6", "hostIPs": addresses},
        });
        Object::from_value(value).expect("an object")
    };
    let (schema, v4, v6) = (schema("", "Pod"), json!({"ip": "192.0.2.6"}), json!({"ip": "2001:db8:51::2"}));
    for before in [json!([v4]), json!([v6]), json!([v6, v4]), json!([v4, v6]), json!([])] {
        for patch in [json!([{"$patch": "replace"}, v4, v6]), json!([v4, v6, {"$patch": "replace"}])] {
            let patch = json!({"status": {"hostIPs": patch}}).to_string();
            let after = apply(PatchType::StrategicMerge, patch.as_bytes(), &pod(before.clone()), &schema).expect("applies");
            assert_eq!(after.get(&["status", "hostIPs"]), Some(&json!([v4, v6])), "{before} patched with {patch}");
        }
    }
}

/// An item that goes and one that comes share a place, as upstream's lists change in place: what the client does not know stays in front.
#[test]
fn a_new_item_stands_where_the_list_used_to_go_on() {
    let named = |names: &[&str]| names.iter().map(|name| json!({"name": name, "image": "i"})).collect::<Vec<_>>();
    let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": named(&["old", "injected", "last"])}});
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "new"}, {"name": "last"}],
        "containers": [{"name": "new", "image": "i"}, {"name": "old", "$patch": "delete"}],
    }});
    let pod = Object::from_value(value).expect("an object");
    let after = apply(PatchType::StrategicMerge, patch.to_string().as_bytes(), &pod, &schema("", "Pod")).expect("applies");
    let order = after.get(&["spec", "containers"]).and_then(|list| list.as_array()).expect("a list");
    assert_eq!(order.iter().map(|item| item["name"].as_str().expect("named")).collect::<Vec<_>>(), ["injected", "new", "last"]);
}

#[test]
fn a_json_patch_tests_adds_and_removes() {
    let value = patched(
        PatchType::Json,
        json!([
            {"op": "test", "path": "/spec/replicas", "value": 3},
            {"op": "replace", "path": "/spec/replicas", "value": 5},
            {"op": "add", "path": "/spec/template/spec/containers/-1/env", "value": [{"name": "X", "value": "1"}]},
            {"op": "remove", "path": "/metadata/labels/a"},
            {"op": "remove", "path": "/metadata/finalizers/-1"},
        ]),
    );
    assert_eq!(value["spec"]["replicas"], 5);
    assert_eq!(value["metadata"]["labels"], json!({"b": "2"}));
    assert_eq!(value["metadata"]["finalizers"], json!(["x/a"]));
}

#[test]
fn a_json_patch_may_test_that_a_field_is_not_there() {
    let absent = json!({"op": "test", "path": "/metadata/nowhere", "value": null});
    let value = patched(PatchType::Json, json!([absent, {"op": "remove", "path": "/metadata/labels/a"}]));
    assert_eq!(value["metadata"]["labels"], json!({"b": "2"}));
    let schema = schema("apps", "Deployment");
    for there in ["/metadata/labels", "/nowhere/name", "/metadata/finalizers/9", ""] {
        let patch = json!([{"op": "test", "path": there, "value": null}]).to_string();
        assert_eq!(apply(PatchType::Json, patch.as_bytes(), &deployment(), &schema).expect_err(there).code, 422);
    }
}

#[test]
fn a_json_patch_may_replace_a_field_that_is_not_there_yet() {
    let labels = json!({"op": "replace", "path": "/metadata/labels/new", "value": "1"});
    let last = json!({"op": "replace", "path": "/spec/template/spec/containers/-1/workingDir", "value": "/x"});
    let value = patched(PatchType::Json, json!([labels, last, {"op": "copy", "from": "/metadata/labels/nowhere", "path": "/metadata/annotations"}]));
    assert_eq!((&value["metadata"]["labels"]["new"], &value["metadata"]["annotations"]), (&json!("1"), &json!(null)));
    let schema = schema("apps", "Deployment");
    for gone in ["/nowhere/name", "/metadata/finalizers/9"] {
        let patch = json!([{"op": "replace", "path": gone, "value": "x"}]).to_string();
        let refused = apply(PatchType::Json, patch.as_bytes(), &deployment(), &schema).expect_err(gone);
        assert_eq!((refused.code, refused.to_json()["details"].clone()), (422, json!({})));
    }
}

#[test]
fn why_an_operation_is_not_applied_reads_as_upstreams() {
    let object = json!({"metadata": {"name": "a", "finalizers": ["x/a"]}});
    for (operation, why) in [
        (json!({"op": "replace", "path": "/nope/x", "value": 1}), "replace operation does not apply: doc is missing path: /nope/x: missing value"),
        (json!({"op": "add", "path": "/nope/x", "value": 1}), "add operation does not apply: doc is missing path: \"/nope/x\": missing value"),
        (
            json!({"op": "replace", "path": "/metadata/finalizers/4", "value": "x"}),
            "replace operation does not apply: doc is missing key: /metadata/finalizers/4: missing value",
        ),
        (
            json!({"op": "remove", "path": "/metadata/nope"}),
            "error in remove for path: '/metadata/nope': Unable to remove nonexistent key: nope: missing value",
        ),
        (
            json!({"op": "add", "path": "/metadata/finalizers/4", "value": "x"}),
            "error in add for path: '/metadata/finalizers/4': Unable to access invalid index: 4: invalid index referenced",
        ),
        (json!({"op": "test", "path": "/metadata/name", "value": "b"}), "testing value /metadata/name failed: test failed"),
        (json!({"op": "test", "path": "/metadata/nope", "value": "b"}), "testing value /metadata/nope failed: test failed"),
        (json!({"op": "move", "from": "/nope/x", "path": "/y"}), "move operation does not apply: doc is missing from path: /nope/x: missing value"),
        (json!({"op": "turn", "path": "/metadata"}), "Unexpected kind: turn"),
        (json!({"op": "add", "path": "invalid", "value": 1}), "add operation does not apply: doc is missing path: \"invalid\": missing value"),
        (json!({"op": "remove", "path": ""}), "remove operation does not apply: doc is missing path: \"\": missing value"),
    ] {
        let refused = json::apply_operations(vec![operation], object.clone()).expect_err(why);
        assert_eq!(refused.to_string(), why);
    }
}

#[test]
fn unknown_fields_of_an_operation_are_told() {
    let schema = schema("apps", "Deployment");
    let patch = br#"[{"op":"test","path":"/spec/replicas","value":3},{"op":"add","path":"/metadata/labels/c","value":"3","zoo":1}]"#;
    let run = |validation| apply_checked(PatchType::Json, patch, &deployment(), &schema, validation);
    let strict = run(FieldValidation::Strict).expect_err("strict");
    assert_eq!(strict.code, 422);
    assert!(strict.message.contains("strict decoding error: json patch unknown field \"[1].zoo\""), "{}", strict.message);
    assert_eq!(run(FieldValidation::Warn).expect("applies").warnings, ["json patch unknown field \"[1].zoo\""]);
    assert!(run(FieldValidation::Ignore).expect("applies").warnings.is_empty());
}

#[test]
fn bad_patches_get_upstreams_codes() {
    let schema = schema("apps", "Deployment");
    let run = |kind, patch: &str| apply(kind, patch.as_bytes(), &deployment(), &schema).expect_err(patch);
    assert_eq!(run(PatchType::Json, r#"[{"op":"test","path":"/spec/replicas","value":4}]"#).code, 422);
    assert_eq!(run(PatchType::Json, "{}").code, 400);
    assert_eq!(run(PatchType::Json, "[1]").code, 400);
    assert_eq!(run(PatchType::Json, r#"[{"op":"turn","path":"/spec"}]"#).code, 422);
    for operation in [json!({}), json!({"op": "x", "path": "/a"}), json!({"op": "add"}), json!({"op": "remove", "path": "/metadata/labels/nope"})] {
        let status = run(PatchType::Json, &json!([operation]).to_string());
        assert_eq!((status.code, &*status.message), (422, "the server rejected our request due to an error in our request"), "{operation}");
    }
    assert_eq!(run(PatchType::Merge, "[]").code, 400);
    assert_eq!(run(PatchType::Merge, "{").code, 400);
    let typed = run(PatchType::Merge, r#"{"spec":{"replicas":"x"}}"#);
    assert_eq!(typed.code, 422);
    assert!(typed.message.starts_with(" \"\" is invalid: patch: Invalid value: \"{"), "{}", typed.message);
    assert!(typed.message.ends_with("json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"));
    let strict = apply_checked(PatchType::Merge, br#"{"spec":{"foo":1}}"#, &deployment(), &schema, FieldValidation::Strict);
    assert!(strict.expect_err("strict").message.ends_with("strict decoding error: unknown field \"spec.foo\""));
    let warned = apply_checked(PatchType::Merge, br#"{"spec":{"foo":1}}"#, &deployment(), &schema, FieldValidation::Warn).expect("applies");
    assert_eq!(warned.warnings, ["unknown field \"spec.foo\""]);
}

#[test]
fn a_strategic_patch_that_does_not_merge_gets_upstreams_words() {
    let schema = schema("apps", "Deployment");
    let containers = |patch: &str| format!(r#"{{"spec":{{"template":{{"spec":{{"containers":[{patch}]}}}}}}}}"#);
    for (patch, why) in [
        (containers(r#"{"image":"x"}"#), "map: map[image:x] does not contain declared merge key: name"),
        (containers(r#"{"name":"c","$patch":"foo"}"#), "unknown patch type: foo in map: map[$patch:foo name:c]"),
        (r#"{"spec":{"$patch":"foo"}}"#.to_owned(), "unknown patch type: foo in map: map[$patch:foo]"),
    ] {
        let refused = apply(PatchType::StrategicMerge, patch.as_bytes(), &deployment(), &schema).expect_err(&patch);
        assert_eq!((refused.code, refused.reason, refused.message.as_str()), (500, Reason::Unknown, why));
    }
}

#[test]
fn a_strategic_patch_of_a_wrong_type_is_refused_in_the_words_of_upstreams_converter() {
    let schema = schema("apps", "Deployment");
    let run = |patch: &str| apply_checked(PatchType::StrategicMerge, patch.as_bytes(), &deployment(), &schema, FieldValidation::Strict);
    let cases = [
        (r#"{"spec":{"replicas":"a"}}"#, "map[spec:map[replicas:a]]", "unrecognized type: int32"),
        (r#"{"spec":{"replicas":1.5}}"#, "map[spec:map[replicas:1.5]]", "cannot convert float64 to int32"),
        (r#"{"spec":{"paused":1}}"#, "map[spec:map[paused:1]]", "unrecognized type: bool"),
        (r#"{"spec":{"template":[true]}}"#, "map[spec:map[template:[true]]]", "cannot restore struct from: slice"),
        (r#"{"metadata":{"labels":{"a":1}}}"#, "map[metadata:map[labels:map[a:1]]]", "cannot convert int64 to string"),
        (r#"{"metadata":{"labels":{"a":true}}}"#, "map[metadata:map[labels:map[a:true]]]", "unrecognized type: string"),
        (r#"{"metadata":{"labels":"x"}}"#, "map[metadata:map[labels:x]]", "cannot restore map from string"),
        (
            r#"{"spec":{"template":{"spec":{"$setElementOrder/volumes":[],"containers":"x"}}}}"#,
            "map[spec:map[template:map[spec:map[containers:x]]]]",
            "cannot restore slice from string",
        ),
        (r#"{"spec":{"b":1,"a":2}}"#, "map[spec:map[a:2 b:1]]", r#"strict decoding error: unknown field "spec.a", unknown field "spec.b""#),
    ];
    for (patch, shown, why) in cases {
        let status = run(patch).expect_err(patch);
        assert_eq!((status.code, status.message), (422, format!(" \"\" is invalid: patch: Invalid value: {shown:?}: {why}")), "{patch}");
    }
    let whole = run(r#"{"spec":{"replicas":2.0}}"#).expect("a whole number").object;
    assert_eq!(whole.get(&["spec", "replicas"]), Some(&json!(2)));
    let list = run("[]").expect_err("a list");
    assert_eq!((list.code, list.message.as_str()), (400, "json: cannot unmarshal array into Go value of type map[string]interface {}"));
}
