use serde_json::{Value, json};
use troupe_api::{
    meta::Object,
    service::{PatchType, WriteOptions},
    status::Reason,
};

use super::{apply, map, mutating, patch, rules, served, told, validating};
use crate::apiserver::testing::boot;

fn deployment(name: &str) -> Value {
    let containers = json!([{"name": "c", "image": "i:1", "env": [{"name": "A", "value": "a"}]}]);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn of_deployments() -> Value {
    let mut rules = rules("apps", &["deployments"]);
    rules[0]["operations"] = json!(["CREATE", "UPDATE"]);
    json!({"matchConstraints": {"resourceRules": rules}})
}

fn containers(object: &Object) -> &[Value] {
    object.list(&["spec", "template", "spec", "containers"])
}

#[actix::test]
async fn a_part_of_an_object_is_applied_by_the_rules_of_its_schema() {
    let api = boot().await;
    let expression = "Object{metadata: Object.metadata{labels: {'x': 'y'}}, spec: Object.spec{replicas: 1337, template: Object.spec.template{
        spec: Object.spec.template.spec{
            initContainers: [Object.spec.template.spec.initContainers{name: 'mesh', image: 'm:1'}],
            containers: object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{
                name: c.name, env: [Object.spec.template.spec.containers.env{name: 'B', value: c.image}]})}}}}";
    mutating(&api, "p", json!([apply(expression)]), of_deployments()).await;
    let made = api.create(deployment("d")).await;
    assert_eq!((made.int(&["spec", "replicas"]), made.label("x")), (Some(1337), Some("y")));
    let [container] = containers(&made) else { panic!("one container") };
    assert_eq!(container["image"], "i:1");
    assert_eq!(
        container["env"].as_array().map(|env| env.iter().map(|one| one["value"].clone()).collect::<Vec<_>>()),
        Some(vec![json!("a"), json!("i:1")])
    );
    let init = &made.list(&["spec", "template", "spec", "initContainers"])[0];
    assert_eq!((&init["name"], &init["imagePullPolicy"]), (&json!("mesh"), &json!("IfNotPresent")), "with its defaults");
}

#[actix::test]
async fn a_json_patch_is_made_by_an_expression() {
    let api = boot().await;
    let expression = "[JSONPatch{op: 'add', path: '/data/new', value: 'n'}, JSONPatch{op: 'copy', from: '/data/a', path: '/data/b'},
        JSONPatch{op: 'add', path: '/metadata/annotations', value: {'example.com/x': 'y'}},
        JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('example.com/z'), value: 'z'}]";
    let test = "[JSONPatch{op: 'test', path: '/data/a', value: 'other'}, JSONPatch{op: 'remove', path: '/data/a'}]";
    mutating(&api, "p", json!([patch(expression), patch(test)]), json!({"matchConstraints": {"resourceRules": mutable()}})).await;
    let made = api.create(map("m", json!({"a": "v"}))).await;
    assert_eq!((made.str(&["data", "new"]), made.str(&["data", "b"]), made.str(&["data", "a"])), ("n", "v", "v"));
    assert_eq!((made.annotation("example.com/x"), made.annotation("example.com/z")), (Some("y"), Some("z")));
}

fn mutable() -> Value {
    let mut rules = rules("", &["configmaps"]);
    rules[0]["operations"] = json!(["CREATE", "UPDATE"]);
    rules
}

fn of_maps() -> Value {
    json!({"matchConstraints": {"resourceRules": mutable()}})
}

#[actix::test]
async fn what_cannot_be_applied_is_told_as_upstream_tells_it() {
    let prefix = "policy 'p' with binding 'p' denied request: ";
    for (mutation, of, code, reason, why) in [
        (apply("Object{spec: Object.spec{replicas: 'many'}}"), of_deployments(), 403, Reason::Invalid, "error applying patch: "),
        (
            apply("Object{spec: Object.spec{nothing: 1}}"),
            of_deployments(),
            403,
            Reason::Invalid,
            "error applying patch: failed to convert patch object to typed object: .spec.nothing: field not declared in schema",
        ),
        (
            apply("Object{spec: Object.wrong{replicas: 1}}"),
            of_deployments(),
            403,
            Reason::Invalid,
            "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path from root Object type",
        ),
        (
            apply(
                "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'c', args: ['x']}]}}}}",
            ),
            of_deployments(),
            403,
            Reason::Invalid,
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].args",
        ),
        (
            apply("Object{metadata: Object.metadata{name: object.gone}}"),
            of_deployments(),
            403,
            Reason::Invalid,
            "expression 'Object{metadata: Object.metadata{name: object.gone}}' resulted in error: no such key: gone",
        ),
        (
            patch("[JSONPatch{op: 'replace', path: '/spec/gone/x', value: 1}]"),
            of_deployments(),
            403,
            Reason::Invalid,
            "JSON Patch: replace operation does not apply: doc is missing path: /spec/gone/x: missing value",
        ),
    ] {
        let api = boot().await;
        mutating(&api, "p", json!([mutation]), of).await;
        let refused = api.try_create(deployment("d")).await.expect_err("is refused");
        assert!(refused.message.starts_with(&format!("{prefix}{why}")), "{refused}");
        assert_eq!((refused.code, refused.reason), (code, reason), "{refused}");
        assert_eq!(refused.details.expect("details").causes[0].message, refused.message);
    }
    let api = boot().await;
    mutating(&api, "p", json!([patch("[JSONPatch{op: 'add', path: '/spec/nothing', value: 1}]")]), of_deployments()).await;
    let refused = api.try_create(deployment("d")).await.expect_err("is refused");
    assert_eq!((refused.code, &*refused.message), (500, "Internal error occurred: strict decoding error: unknown field \"spec.nothing\""));
}

#[actix::test]
async fn failures_that_are_ignored_leave_the_object_as_it_is() {
    let api = boot().await;
    let mut spec = of_maps();
    spec["failurePolicy"] = json!("Ignore");
    mutating(&api, "p", json!([apply("Object{data: object.gone}"), apply("Object{metadata: Object.metadata{labels: {'x': 'y'}}}")]), spec).await;
    let made = api.create(map("m", json!({"a": "b"}))).await;
    assert_eq!((made.str(&["data", "a"]), made.label("x")), ("b", Some("y")));
}

#[actix::test]
async fn policies_follow_each_other_and_are_asked_again_if_they_want() {
    let api = boot().await;
    let add = |name: &str| {
        patch(&format!(
            "[JSONPatch{{op: 'add', path: '/data/count', value: string(int(object.data.count) + 1)}}, JSONPatch{{op: 'add', path: '/data/{name}', value: object.data.count}}]"
        ))
    };
    for (name, again) in [("a", "IfNeeded"), ("b", "Never"), ("c", "IfNeeded")] {
        let mut spec = of_maps();
        spec["reinvocationPolicy"] = again.into();
        mutating(&api, name, json!([add(name)]), spec).await;
    }
    let made = api.create(map("m", json!({"count": "0"}))).await;
    assert_eq!(made.str(&["data", "count"]), "5", "a, b, c, and then a and c once more");
    assert_eq!((made.str(&["data", "a"]), made.str(&["data", "b"]), made.str(&["data", "c"])), ("3", "1", "4"));
}

#[actix::test]
async fn built_in_plugins_and_validating_policies_see_what_policies_did() {
    let api = boot().await;
    let expression = "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'sidecar', image: 'i:1'}]}}";
    let mut pods = rules("", &["pods"]);
    pods[0]["operations"] = json!(["CREATE"]);
    mutating(&api, "p", json!([apply(expression)]), json!({"matchConstraints": {"resourceRules": pods}})).await;
    let spec = json!({"validations": [{"expression": "object.spec.containers.exists(c, c.name == 'sidecar')"}], "matchConstraints": {"resourceRules": pods}});
    validating(&api, "v", spec, json!({})).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let made = api.create(pod).await;
    let sidecar = made.list(&["spec", "containers"]).iter().find(|one| one["name"] == "sidecar").expect("is there");
    assert_eq!(sidecar["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount", "with its token");
}

#[actix::test]
async fn conditions_variables_and_the_old_object_decide_about_changes() {
    let api = boot().await;
    let mut spec = of_maps();
    spec["matchConditions"] = json!([{"name": "u", "expression": "request.operation == 'UPDATE'"}]);
    spec["variables"] = json!([{"name": "before", "expression": "oldObject.data.a"}]);
    mutating(&api, "p", json!([apply("Object{metadata: Object.metadata{annotations: {'before': variables.before}}}")]), spec).await;
    assert_eq!(api.create(map("m", json!({"a": "1"}))).await.annotation("before"), None);
    let changed = api.patch(api.target("configmaps", "default", "m"), PatchType::Merge, json!({"data": {"a": "2"}})).await.expect("is written");
    assert_eq!(changed.annotation("before"), Some("1"));
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    assert!(told(&api, map("x", json!({})), dry).await.reply.is_ok());
}

#[actix::test]
async fn custom_resources_are_changed_too() {
    let api = boot().await;
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}, "parts": {"type": "array",
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "required": ["name"],
        "properties": {"name": {"type": "string"}, "n": {"type": "integer", "default": 7}}}}}}}});
    api.create(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    })).await;
    served(&api, "widgets").await;
    let mut of_widgets = rules("example.com", &["widgets"]);
    of_widgets[0]["operations"] = json!(["CREATE"]);
    let expression = "Object{spec: Object.spec{size: object.spec.size + 1, parts: [Object.spec.parts{name: 'b'}]}}";
    mutating(&api, "p", json!([apply(expression)]), json!({"matchConstraints": {"resourceRules": of_widgets}})).await;
    let metadata = json!({"name": "w", "namespace": "default"});
    let made = api
        .create(
            json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": {"size": 1, "parts": [{"name": "a", "n": 1}]}}),
        )
        .await;
    assert_eq!(made.get(&["spec"]), Some(&json!({"size": 2, "parts": [{"name": "a", "n": 1}, {"name": "b", "n": 7}]})));
}
