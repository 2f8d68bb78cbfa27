use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    growth::assert_linear,
    meta::{GroupVersionKind, Object},
    patch::decode_apply,
    schema::{Schema, Schemas},
};

fn schema(group: &str, kind: &str) -> std::sync::Arc<Schema> {
    Schemas::builtin().get(&GroupVersionKind::new(group, "v1", kind)).expect("a built-in kind")
}

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("in range")
}

fn by(name: &str) -> Manager<'_> {
    Manager { name, subresource: "", status_resets: &[] }
}

fn through_status<'a>(name: &'a str, status_resets: &'a [&'a [&'a str]]) -> Manager<'a> {
    Manager { name, subresource: "status", status_resets }
}

fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": image, "ports": [{"containerPort": 80}]}]},
        }},
    })
}

/// Applies and defaults, as the API server does.
fn applied(current: Option<&Object>, patch: &Value, manager: &str, force: bool, second: i64) -> Result<Object, crate::Status> {
    let gvk = crate::meta::GroupVersion::parse(patch["apiVersion"].as_str().expect("named"));
    let schema = schema(&gvk.group, patch["kind"].as_str().expect("named"));
    let patch = decode_apply(patch.to_string().as_bytes(), &schema)?.object;
    let mut object = apply(current, &patch, by(manager), force, &schema, at(second))?;
    schema.apply_defaults(&mut object);
    Ok(object)
}

#[test]
fn a_configuration_names_the_kind_that_it_is_applied_to() {
    let schema = schema("apps", "Deployment");
    let said = |patch: Value| decode_apply(patch.to_string().as_bytes(), &schema).expect_err("is refused").message;
    for (patch, wanted) in [
        (json!({"apiVersion": "apps/v1"}), "invalid object type: apps/v1, Kind="),
        (json!({"kind": "Deployment"}), "invalid object type: /, Kind=Deployment"),
        (json!({"apiVersion": "v1", "kind": "Deployment"}), "invalid object type: /v1, Kind=Deployment"),
        (json!({"apiVersion": "apps/v1", "kind": "Pod", "data": {}}), "invalid object type: apps/v1, Kind=Pod"),
    ] {
        assert_eq!(said(patch), wanted);
    }
    let list = "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}";
    assert_eq!(said(json!([])), list);
    for managed in [json!([]), json!([{}])] {
        let patch = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "managedFields": managed}});
        assert_eq!(applied(None, &patch, "a", false, 0).expect_err("is refused").message, "metadata.managedFields must be nil");
    }
}

#[test]
fn values_of_wrong_types_are_told_as_typed_objects_do() {
    let schema = schema("apps", "Deployment");
    let said = |spec: Value| {
        let patch = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "t"}, "spec": spec});
        let status = decode_apply(patch.to_string().as_bytes(), &schema).expect_err("is refused");
        assert_eq!(status.code, 500);
        let head = "failed to create typed patch object (/t; apps/v1, Kind=Deployment): ";
        status.message.strip_prefix(head).expect("begins so").to_owned()
    };
    let container = |field: &str, value: Value| json!({"template": {"spec": {"containers": [{"name": "a", field: value}]}}});
    let a = ".spec.template.spec.containers[name=\"a\"]";
    for (spec, wanted) in [
        (json!({"replicas": "x"}), ".spec.replicas: expected numeric (int or float), got string".to_owned()),
        (json!({"replicas": {"a": 1}}), ".spec.replicas: expected numeric (int or float), got map[string]interface {}".to_owned()),
        (json!({"paused": "x"}), ".spec.paused: expected boolean, got &{x}".to_owned()),
        (json!({"template": {"spec": []}}), ".spec.template.spec: expected map, got &{[]}".to_owned()),
        (container("image", json!(5)), format!("{a}.image: expected string, got &value.valueUnstructured{{Value:5}}")),
        (
            container("image", json!({"b": "c"})),
            format!("{a}.image: expected string, got &value.valueUnstructured{{Value:map[string]interface {{}}{{\"b\":\"c\"}}}}"),
        ),
        (container("command", json!("x")), format!("{a}.command: expected list, got &{{x}}")),
        (container("command", json!([5])), format!("{a}.command[0]: expected string, got &value.valueUnstructured{{Value:5}}")),
        (
            json!({"template": {"spec": {"containers": [5]}}}),
            ".spec.template.spec.containers: element 0: associative list with keys may not have non-map elements".to_owned(),
        ),
        (
            json!({"paused": 1, "replicas": true}),
            "errors:\n  .spec.paused: expected boolean, got &{1}\n  .spec.replicas: expected numeric (int or float), got bool".to_owned(),
        ),
    ] {
        assert_eq!(said(spec), wanted);
    }
}

#[test]
fn custom_resources_are_typed_objects_too() {
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer"}, "name": {"type": "string", "nullable": true}, "on": {"type": "boolean"}, "many": {"type": "array", "items": {"type": "string"}},
        "either": {"x-kubernetes-int-or-string": true}, "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let root = json!({"type": "object", "properties": {"spec": spec}});
    let schema = crate::schema::structural::schema(GroupVersionKind::new("example.com", "v1", "Widget"), &root, false);
    let read = |spec: Value| {
        let patch = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "n"}, "spec": spec});
        decode_apply(patch.to_string().as_bytes(), &schema)
    };
    let head = "failed to create typed patch object (n/w; example.com/v1, Kind=Widget): ";
    for (spec, wanted) in [
        (json!({"size": "x"}), ".spec.size: expected numeric (int or float), got string"),
        (json!({"name": 5}), ".spec.name: expected string, got &value.valueUnstructured{Value:5}"),
        (json!({"on": "x"}), ".spec.on: expected boolean, got &{x}"),
        (json!({"many": "x"}), ".spec.many: expected list, got &{x}"),
        (json!({"many": [1]}), ".spec.many[0]: expected string, got &value.valueUnstructured{Value:1}"),
    ] {
        let status = read(spec).expect_err("is refused");
        assert_eq!((status.code, status.message), (500, format!("{head}{wanted}")));
    }
    let right = json!({"size": 2.5, "name": null, "on": true, "many": [], "either": "5", "free": {"a": [1, "b"]}});
    assert!(read(right).is_ok(), "validation looks at the rest");
}

fn fields_of(object: &Object, manager: &str) -> Value {
    let entries = object.list(&["metadata", "managedFields"]);
    entries.iter().find(|entry| entry["manager"] == manager).map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

#[test]
fn a_create_owns_what_it_set_in_upstreams_form() {
    let schema = schema("apps", "Deployment");
    let mut new = object(deployment("web:1"));
    schema.apply_defaults(&mut new);
    track_update(None, &mut new, by("kubectl-create"), &schema, at(0));
    let entry = &new.list(&["metadata", "managedFields"])[0];
    assert_eq!(entry["operation"], "Update");
    assert_eq!(entry["apiVersion"], "apps/v1");
    assert_eq!(entry["time"], "2023-11-14T22:13:20Z");
    let want = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}, "f:ports": {
                ".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}}}}},
        }},
    });
    assert_eq!(entry["fieldsV1"], want);
}

#[test]
fn a_create_owns_its_defaults_but_no_empty_times() {
    let owned = |group: &str, kind: &str, manifest: Value| {
        let schema = schema(group, kind);
        let mut new = object(manifest);
        schema.apply_defaults(&mut new);
        track_update(None, &mut new, by("one"), &schema, at(0));
        fields_of(&new, "one")
    };
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "a"}, "spec": {"selector": {"a": "b"}}});
    assert_eq!(owned("", "ReplicationController", controller)["f:spec"]["f:replicas"], json!({}));
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "reason": "R", "eventTime": null, "firstTimestamp": null});
    assert_eq!(owned("", "Event", event), json!({"f:reason": {}}));
    let claim = json!({"namespace": "n", "name": "c"});
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "a"}, "spec": {"claimRef": claim}});
    let wanted = json!({".": {}, "f:name": {}, "f:namespace": {}});
    assert_eq!(owned("", "PersistentVolume", volume)["f:spec"]["f:claimRef"], wanted);
}

#[test]
fn an_update_takes_over_what_it_changes_and_forgets_what_it_removes() {
    let schema = schema("apps", "Deployment");
    let mut old = object(deployment("web:1"));
    track_update(None, &mut old, by("one"), &schema, at(0));
    let mut new = old.clone();
    new.set(&["spec", "replicas"], 3);
    new.remove(&["metadata", "labels"]);
    track_update(Some(&old), &mut new, by("two"), &schema, at(1));
    assert_eq!(fields_of(&new, "two"), json!({"f:spec": {"f:replicas": {}}}));
    assert!(fields_of(&new, "one")["f:spec"].get("f:replicas").is_none());
    assert!(fields_of(&new, "one").get("f:metadata").is_none());
    let mut same = new.clone();
    track_update(Some(&new), &mut same, by("three"), &schema, at(2));
    assert_eq!(same, new, "an update that changes nothing leaves no trace");
}

#[test]
fn old_updates_are_folded_into_ancient_changes() {
    let schema = schema("", "ConfigMap");
    let mut current = object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"first": "x"}}));
    track_update(None, &mut current, by("creator"), &schema, at(0));
    for n in 0..15_i64 {
        let mut new = current.clone();
        new.set(&["data", &format!("k{n}")], "v");
        track_update(Some(&current), &mut new, by(&format!("m{n:02}")), &schema, at(n + 1));
        current = new;
    }
    assert_eq!(current.list(&["metadata", "managedFields"]).len(), 10);
    let ancient = fields_of(&current, "ancient-changes");
    assert!(ancient["f:data"].get("f:first").is_some() && ancient["f:data"].get("f:k5").is_some(), "{ancient}");
    assert_eq!(fields_of(&current, "m14"), json!({"f:data": {"f:k14": {}}}));
}

#[test]
fn applying_creates_then_applying_again_changes_nothing() {
    let first = applied(None, &deployment("web:1"), "me", false, 0).expect("applies");
    assert_eq!(first.list(&["metadata", "managedFields"])[0]["operation"], "Apply");
    let second = applied(Some(&first), &deployment("web:1"), "me", false, 9).expect("applies");
    assert_eq!(second, first);
}

#[test]
fn fields_that_are_no_longer_applied_go_unless_another_applies_them() {
    let config = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
    let first = applied(None, &config(json!({"a": "1", "b": "2"})), "one", false, 0).expect("applies");
    let shared = applied(Some(&first), &config(json!({"b": "2"})), "two", false, 1).expect("no conflict over equal values");
    let less = applied(Some(&shared), &config(json!({"a": "1"})), "one", false, 2).expect("applies");
    assert_eq!(less.get(&["data"]), Some(&json!({"a": "1", "b": "2"})), "two still applies b");
    let gone = applied(Some(&less), &config(json!({})), "two", false, 3).expect("applies");
    assert_eq!(gone.get(&["data"]), Some(&json!({"a": "1"})));
}

#[test]
fn a_conflict_names_the_manager_and_force_takes_the_field() {
    let first = applied(None, &deployment("web:1"), "one", false, 0).expect("applies");
    let status = applied(Some(&first), &deployment("web:2"), "two", false, 1).expect_err("a conflict");
    let field = ".spec.template.spec.containers[name=\"web\"].image";
    assert_eq!(status.code, 409);
    assert_eq!(status.message, format!("Apply failed with 1 conflict: conflict with \"one\": {field}"));
    let cause = &status.details.expect("details").causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", field));
    let forced = applied(Some(&first), &deployment("web:2"), "two", true, 1).expect("forced");
    let image = |object: &Object| object.list(&["spec", "template", "spec", "containers"])[0]["image"].clone();
    assert_eq!(image(&forced), "web:2");
    let container = &fields_of(&forced, "one")["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"web\"}"];
    assert!(container.get("f:image").is_none() && container.get("f:name").is_some());
}

#[test]
fn lists_of_maps_merge_by_key_and_items_go_with_their_last_owner() {
    let with = |containers: Value| {
        let mut value = deployment("web:1");
        value["spec"]["template"]["spec"]["containers"] = containers;
        value
    };
    let first = applied(None, &with(json!([{"name": "a", "image": "a"}, {"name": "b", "image": "b"}])), "one", false, 0).expect("applies");
    let side = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s"}]}}}});
    let both = applied(Some(&first), &side, "two", false, 1).expect("applies");
    let names = |object: &Object| object.list(&["spec", "template", "spec", "containers"]).iter().map(|c| c["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&both), ["a", "b", "side"]);
    let fewer = applied(Some(&both), &with(json!([{"name": "b", "image": "b"}])), "one", false, 2).expect("applies");
    assert_eq!(names(&fewer), ["b", "side"]);
}

#[test]
fn services_merge_ports_and_pods_their_environment() {
    let service =
        |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": ports}});
    let first = applied(None, &service(json!([{"port": 80, "name": "http"}])), "me", false, 0).expect("applies");
    let second = applied(Some(&first), &service(json!([{"port": 443, "name": "https"}])), "me", false, 1).expect("applies");
    assert_eq!(second.list(&["spec", "ports"]).len(), 1);
    assert_eq!(second.list(&["spec", "ports"])[0]["port"], 443);
    assert_eq!(second.list(&["spec", "ports"])[0]["protocol"], "TCP");
    let pod = |env: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "env": env}]}});
    let first = applied(None, &pod(json!([{"name": "A", "value": "1"}])), "me", false, 0).expect("applies");
    let second = applied(Some(&first), &pod(json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}])), "me", false, 1);
    let env = second.expect("applies").list(&["spec", "containers"])[0]["env"][0].clone();
    assert_eq!(env, json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}));
}

#[test]
fn an_object_without_owners_gets_one_before_its_first_apply() {
    let mut live = object(deployment("web:1"));
    schema("apps", "Deployment").apply_defaults(&mut live);
    let status = applied(Some(&live), &deployment("web:2"), "me", false, 0).expect_err("a conflict");
    assert!(status.message.contains("conflict with \"before-first-apply\" using apps/v1: .spec"), "{}", status.message);
    let same = applied(Some(&live), &deployment("web:1"), "me", false, 0).expect("applies");
    assert_eq!(same.list(&["metadata", "managedFields"]).len(), 2);
}

#[test]
fn kubectl_takes_over_what_its_client_side_apply_set() {
    let schema = schema("apps", "Deployment");
    let mut live = object(deployment("web:1"));
    schema.apply_defaults(&mut live);
    let annotation = deployment("web:1").to_string();
    live.set(&["metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"], annotation);
    track_update(None, &mut live, by("kubectl-client-side-apply"), &schema, at(0));
    let taken = applied(Some(&live), &deployment("web:2"), "kubectl", false, 1).expect("no conflict");
    assert_eq!(taken.list(&["spec", "template", "spec", "containers"])[0]["image"], "web:2");
    assert!(taken.annotation("kubectl.kubernetes.io/last-applied-configuration").expect("kept").contains("web:2"));
}

#[test]
fn status_is_not_owned_through_the_main_resource() {
    let schema = schema("apps", "Deployment");
    let mut old = object(deployment("web:1"));
    schema.apply_defaults(&mut old);
    track_update(None, &mut old, by("one"), &schema, at(0));
    let mut new = old.clone();
    new.set(&["status", "replicas"], 1);
    let mut through_main = new.clone();
    track_update(Some(&old), &mut through_main, by("two"), &schema, at(1));
    assert_eq!(fields_of(&through_main, "two"), Value::Null);
    track_update(Some(&old), &mut new, through_status("two", &[]), &schema, at(1));
    assert_eq!(fields_of(&new, "two"), json!({"f:status": {"f:replicas": {}}}));
    assert_eq!(new.list(&["metadata", "managedFields"])[1]["subresource"], "status");
}

#[test]
fn metadata_is_owned_through_the_status_unless_that_puts_it_back() {
    let schema = schema("apps", "DaemonSet");
    let mut old = object(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "web"}, "spec": {"minReadySeconds": 1}}));
    track_update(None, &mut old, by("zero"), &schema, at(0));
    let mut new = old.clone();
    new.set(&["metadata", "labels"], json!({"a": "b"}));
    let mut updated = new.clone();
    track_update(Some(&old), &mut updated, through_status("one", &[]), &schema, at(0));
    assert_eq!(fields_of(&updated, "one"), json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}));
    new.set(&["status", "observedGeneration"], 1);
    new.set(&["metadata", "managedFields"], Value::Null);
    let cases: [(&[&[&str]], Value); 3] =
        [(&[], json!({"f:labels": {"f:a": {}}})), (&[&["f:metadata", "f:labels"]], Value::Null), (&[&["f:metadata"]], Value::Null)];
    for (resets, owned) in cases {
        let made = apply(Some(&old), &new, through_status("one", resets), false, &schema, at(0)).expect("applied");
        assert_eq!(fields_of(&made, "one")["f:metadata"], owned, "{resets:?}");
        assert_eq!(fields_of(&made, "one")["f:status"], json!({"f:observedGeneration": {}}));
    }
}

#[test]
fn applying_an_unknown_field_is_refused() {
    let mut patch = deployment("web:1");
    patch["spec"]["foo"] = json!(1);
    let status = applied(None, &patch, "me", false, 0).expect_err("unknown");
    assert_eq!(status.message, "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema");
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    /// Names from a small alphabet, so that objects overlap.
    fn name() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
    }

    fn container() -> impl Strategy<Value = Value> {
        let env = prop::collection::btree_map(name(), name(), 0..3);
        let ports = prop::collection::btree_set(1..4_i64, 0..3);
        (name(), env, ports, prop::option::of(prop::collection::vec(name(), 0..3))).prop_map(|(image, env, ports, args)| {
            let env = env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>();
            let ports = ports.into_iter().map(|port| json!({"containerPort": port})).collect::<Vec<_>>();
            json!({"image": image, "env": env, "ports": ports, "args": args})
        })
    }

    fn manifest() -> impl Strategy<Value = Value> {
        let containers = prop::collection::btree_map(name(), container(), 1..4);
        (containers, prop::collection::btree_map(name(), name(), 0..3), prop::option::of(0..3_i32)).prop_map(|(containers, labels, replicas)| {
            let containers = containers.into_iter().map(|(name, mut container)| {
                container["name"] = name.into();
                container
            });
            let mut value = deployment("x");
            value["metadata"]["labels"] = json!(labels);
            value["spec"]["template"]["spec"]["containers"] = containers.collect();
            value["spec"]["replicas"] = json!(replicas);
            value
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn applying_the_same_again_changes_nothing(one in manifest(), two in manifest()) {
            let first = applied(None, &one, "one", false, 0).expect("applies");
            let second = applied(Some(&first), &two, "two", true, 1).expect("applies");
            prop_assert_eq!(&applied(Some(&second), &two, "two", false, 2).expect("applies"), &second);
        }

        #[test]
        fn a_lone_applier_gets_what_it_asks_for(one in manifest(), two in manifest()) {
            let first = applied(None, &one, "me", false, 0).expect("applies");
            let second = applied(Some(&first), &two, "me", false, 1).expect("applies");
            let fresh = applied(None, &two, "me", false, 1).expect("applies");
            prop_assert_eq!(second.get(&["spec"]), fresh.get(&["spec"]));
            prop_assert_eq!(second.get(&["metadata", "labels"]), fresh.get(&["metadata", "labels"]));
        }

        #[test]
        fn decoding_is_stable(one in manifest()) {
            let schema = schema("apps", "Deployment");
            let once = schema.decode(one.to_string().as_bytes(), crate::schema::Format::Json).expect("decodes").object;
            prop_assert_eq!(&schema.normalise(once.clone()).expect("decodes").object, &once);
        }

        #[test]
        fn field_sets_survive_their_encoding(one in manifest()) {
            let schema = schema("apps", "Deployment");
            let set = field_set(&one, &schema.root);
            prop_assert_eq!(FieldSet::from_fields(&set.to_fields()).expect("FieldsV1"), set);
        }
    }
}

/// A config map with `count` managers, each with a field of its own.
fn many_managers(count: usize, operation: &str) -> Object {
    let name = |at: usize| format!("k{at}");
    let entry = |at: usize| {
        json!({"manager": format!("m{at}"), "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "time": "2026-01-01T00:00:00Z",
            "fieldsV1": {"f:data": {format!("f:{}", name(at)): {}}}})
    };
    let data: serde_json::Map<_, _> = (0..count).map(|at| (name(at), "v".into())).collect();
    let entries = (0..count).map(entry).collect::<Vec<_>>();
    object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": entries}, "data": data}))
}

#[test]
fn many_managers_are_tracked_and_applied_beside_in_linear_time() {
    let schema = schema("", "ConfigMap");
    for operation in ["Update", "Apply"] {
        assert_linear(
            300,
            |count| many_managers(count, operation),
            |old| {
                let mut new = old.clone();
                new.set(&["data", "k1"], "w");
                track_update(Some(old), &mut new, by("me"), &schema, at(1));
                let kept = new.list(&["metadata", "managedFields"]).len();
                assert!(if operation == "Update" { kept <= 10 } else { kept > 100 }, "{kept}");
            },
        );
        let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k1": "w"}});
        assert_linear(
            300,
            |count| many_managers(count, operation),
            |old| {
                applied(Some(old), &patch, "me", true, 1).expect("applies");
            },
        );
    }
}

#[test]
fn managers_that_name_many_versions_cost_no_more_than_those_of_one() {
    let schema = schema("", "ConfigMap");
    let whole = |object: &Object, value: &str| -> serde_json::Map<String, Value> {
        let data = object.get(&["data"]).and_then(Value::as_object).expect("data");
        data.keys().map(|key| (key.clone(), value.into())).collect()
    };
    let input = |operation: &'static str| {
        move |count: usize| {
            let mut owned = many_managers(count, operation);
            let mut entries = owned.list(&["metadata", "managedFields"]).to_vec();
            for (at, entry) in entries.iter_mut().enumerate() {
                entry["apiVersion"] = format!("v{at}").into();
            }
            owned.set(&["metadata", "managedFields"], entries);
            owned
        }
    };
    for operation in ["Update", "Apply"] {
        // Everything changes, and each manager loses what it owned.
        assert_linear(60, input(operation), |old| {
            let mut new = old.clone();
            new.set(&["data"], whole(old, "w"));
            track_update(Some(old), &mut new, by("me"), &schema, at(1));
            assert_eq!(new.list(&["metadata", "managedFields"]).len(), 1);
        });
        assert_linear(60, input(operation), |old| {
            let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": whole(old, "w")});
            let all = applied(Some(old), &patch, "me", true, 1).expect("applies");
            assert_eq!(all.list(&["metadata", "managedFields"]).len(), 1);
        });
        // What was applied is applied no longer, while others own something.
        let two = |count: usize| {
            let old = input(operation)(count);
            let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"mine": "w"}});
            applied(Some(&old), &patch, "me", true, 1).expect("applies")
        };
        assert_linear(60, two, |old| {
            let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
            let less = applied(Some(old), &patch, "me", true, 2).expect("applies");
            assert!(less.get(&["data", "mine"]).is_none() && less.get(&["data", "k1"]).is_some());
        });
    }
}

#[test]
fn long_lists_are_applied_in_linear_time() {
    let pod = |count: usize, value: &str| {
        let env = (0..count).map(|at| json!({"name": format!("V{at}"), "value": value})).collect::<Vec<_>>();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i", "env": env}]}})
    };
    let input = |count: usize| (applied(None, &pod(count, "1"), "me", false, 0).expect("applies"), pod(count, "2"));
    assert_linear(200, input, |(old, patch)| {
        applied(Some(old), patch, "me", false, 1).expect("applies");
    });
}

#[test]
fn long_names_are_not_copied_for_each_field_below_them() {
    let pod = |count: usize| {
        let env = (0..count).map(|at| json!({"name": format!("V{at}"), "value": "1"})).collect::<Vec<_>>();
        let container = json!({"name": "c".repeat(100 * count), "image": "i", "env": env});
        object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}}))
    };
    let schema = schema("", "Pod");
    assert_linear(200, pod, |pod| {
        let set = field_set(&pod.clone().into_value(), &schema.root);
        assert_eq!(compare(&object(json!({})), pod, &schema).added.below("f:spec").is_some(), set.below("f:spec").is_some());
    });
}
