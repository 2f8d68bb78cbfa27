//! Custom resources on the whole server: defined, served, written, read, watched, and gone with their definition.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use troupe_api::{
    ApiCall, ApiService,
    meta::{Cause, FieldSelector, Object},
    notices::Notices,
    service::{Body, DeleteOptions, EventType, FieldValidation, ListOptions, Operation, PatchType, Target, WatchItem, WatchOptions, WriteOptions},
    status::Status,
};
use troupe_api_server::{admission::policies::types, store::memory::MemoryStore};

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot, boot_with, eventually},
};

const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const WIDGETS: &str = "widgets.example.com";

fn version(name: &str, storage: bool) -> Value {
    let spec = json!({"type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 10},
        "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        "cron": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
        "replicas": {"type": "integer"},
        "port": {"x-kubernetes-int-or-string": true},
        "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
            "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
        }},
    }});
    let status =
        json!({"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}, "phase": {"type": "string"}}});
    json!({
        "name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
        "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector",
        }},
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
        "selectableFields": [{"jsonPath": ".spec.color"}],
    })
}

fn definition() -> Value {
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]});
    let mut old = version("v1beta1", false);
    old["deprecated"] = true.into();
    old["schema"]["openAPIV3Schema"]["description"] = "The old one.".into();
    old["additionalPrinterColumns"] = json!([{"name": "Color", "type": "string", "jsonPath": ".spec.color"}]);
    old["subresources"] = json!({"status": {}});
    old["selectableFields"] = json!([]);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": WIDGETS},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version("v1", true), old]},
    })
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn condition(object: &Object, kind: &str) -> String {
    let found = object.list(&["status", "conditions"]).iter().find(|condition| condition["type"] == kind);
    found.map_or_else(String::new, |condition| condition["status"].as_str().unwrap_or_default().to_owned())
}

async fn established(api: &TestApi, name: &str) {
    eventually("established", async || condition(&api.get(CRDS, "", name).await.expect("is there"), "Established") == "True").await;
}

async fn with_widgets() -> TestApi {
    let api = boot().await;
    api.create(definition()).await;
    established(&api, WIDGETS).await;
    api
}

fn refused(result: Result<Object, Status>) -> String {
    result.expect_err("is refused").message
}

#[actix::test]
async fn whoever_sees_a_definition_established_is_served() {
    let api = boot().await;
    let mut definitions = api.watch(CRDS, "", WatchOptions::default()).await;
    api.create(definition()).await;
    let mut told = Vec::new();
    while let Some(WatchItem::Event { object, .. }) = definitions.next().await {
        let object = object.to_object();
        told.push(["NamesAccepted", "Established"].map(|kind| condition(&object, kind)));
        if condition(&object, "Established") == "True" {
            break;
        }
    }
    api.create(widget("a", json!({"size": 1}))).await;
    assert_eq!(told, [["", ""], ["True", "False"], ["True", "True"]].map(|row| row.map(str::to_owned)));
    let definition = api.get(CRDS, "", WIDGETS).await.expect("is there");
    assert_eq!(definition.get(&["status", "acceptedNames", "listKind"]), Some(&json!("WidgetList")));
    assert_eq!(definition.list(&["status", "storedVersions"]), [json!("v1")]);
}

#[actix::test]
async fn objects_are_pruned_defaulted_and_validated() {
    let api = with_widgets().await;
    let spec = json!({"size": 3, "odd": 1, "extra": {"deep": {"a": null}}, "parts": [{"name": "x", "junk": 1}], "port": "http"});
    let made = api.create(widget("a", spec)).await;
    let want = json!({"size": 3, "color": "red", "extra": {"deep": {"a": null}}, "parts": [{"name": "x", "count": 1}], "port": "http"});
    assert_eq!((made.get(&["spec"]), made.int(&["metadata", "generation"])), (Some(&want), Some(1)));
    for (spec, want) in [
        (json!({"size": "3"}), "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""),
        (json!({"size": 11}), "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"),
        (json!({"size": 0}), "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        (json!({}), "spec.size: Required value"),
        (json!({"size": 1, "color": "green"}), "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\""),
        (json!({"size": 1, "cron": "x"}), r"spec.cron in body should match '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'"),
        (json!({"size": 1, "parts": [{"name": "x"}, {"name": "x"}]}), "spec.parts[1]: Duplicate value: {\"name\":\"x\"}"),
        (json!({"size": 1, "port": true}), "spec.port in body must be of type integer,string: \"boolean\""),
        (
            json!({"size": 1, "replicas": 9_223_372_036_854_775_808_u64}),
            "[spec.replicas: Invalid value: \"number\": spec.replicas in body must be of type integer: \"number\", <nil>: Invalid value: \"\": \
             Checked value must be of type integer (default format) in spec.replicas, .spec.replicas: Invalid value: 0: \
             .spec.replicas accessor error: 9.223372036854776e+18 is of the type float64, expected int64",
        ),
        (json!({"size": 1, "replicas": -1}), ".spec.replicas: Invalid value: -1: should be a non-negative integer"),
    ] {
        let message = refused(api.try_create(widget("b", spec.clone())).await);
        assert!(message.starts_with("Widget.example.com \"b\" is invalid: ") && message.contains(want), "{spec}: {message}");
    }
    let strict = WriteOptions { field_validation: FieldValidation::Strict, ..WriteOptions::default() };
    let body = Body::Json(widget("b", json!({"size": 1, "odd": 1})).to_string().into());
    let target = Target { name: "".into(), ..api.target(WIDGETS, "default", "") };
    let status = api.call(target, Operation::Create { body, options: strict }).await.expect_err("is strict");
    assert!(status.message.ends_with("strict decoding error: unknown field \"spec.odd\""), "{status}");
}

#[actix::test]
async fn warnings_about_fields_are_sent_although_the_object_is_refused() {
    let api = with_widgets().await;
    let options = WriteOptions { field_validation: FieldValidation::Warn, ..WriteOptions::default() };
    let body = Body::Json(widget("b", json!({"size": 99, "odd": 1})).to_string().into());
    let (target, notices) = (api.target(WIDGETS, "default", ""), Notices::default());
    let operation = Operation::Create { body, options };
    let call = ApiCall { user: api.user.clone(), target, operation, cause: Cause::root(), notices: notices.clone() };
    api.server.call(call).await.expect_err("is too large");
    assert_eq!(notices.warnings(), ["unknown field \"spec.odd\""]);
}

#[actix::test]
async fn a_new_object_has_the_defaults_of_its_status_which_nobody_owns() {
    let api = boot().await;
    let mut waiting = definition();
    waiting["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["default"] = json!({"phase": "Waiting"});
    api.create(waiting).await;
    established(&api, WIDGETS).await;
    let mut body = widget("a", json!({"size": 1}));
    body["status"] = json!({"phase": "Mine"});
    let made = api.create(body).await;
    for object in [made, api.get(WIDGETS, "default", "a").await.expect("is there")] {
        assert_eq!(object.get(&["status"]), Some(&json!({"phase": "Waiting"})));
        assert!(!Value::from(object.list(&["metadata", "managedFields"]).to_vec()).to_string().contains("f:status"));
    }
}

#[actix::test]
async fn updates_need_the_version_and_count_generations() {
    let api = with_widgets().await;
    let made = api.create(widget("a", json!({"size": 3}))).await;
    let message = refused(api.try_update(widget("a", json!({"size": 4}))).await);
    assert!(message.contains("must be specified for an update"), "{message}");
    let mut changed = made.clone();
    changed.set(&["spec", "size"], 4);
    changed.set(&["status", "phase"], "Ready");
    let changed = api.try_update(changed.into_value()).await.expect("updates");
    assert_eq!((changed.int(&["metadata", "generation"]), changed.get(&["status"])), (Some(2), None));
    let mut status = changed.clone();
    status.set(&["spec", "size"], 9);
    status.set(&["status", "phase"], "Ready");
    let status = api.try_update_at(api.subresource(WIDGETS, "default", "a", "status"), status.into_value()).await.expect("updates");
    let seen = (status.int(&["spec", "size"]), status.str(&["status", "phase"]), status.int(&["metadata", "generation"]));
    assert_eq!(seen, (Some(4), "Ready", Some(2)));
    let patched = api.patch(api.target(WIDGETS, "default", "a"), PatchType::Merge, json!({"spec": {"size": 5}})).await.expect("patches");
    assert_eq!(patched.int(&["metadata", "generation"]), Some(3));
    let refused = api.patch(api.target(WIDGETS, "default", "a"), PatchType::StrategicMerge, json!({})).await.expect_err("knows no strategy");
    assert_eq!(refused.code, 415);
}

#[actix::test]
async fn scales_stand_where_the_definition_says() {
    let api = with_widgets().await;
    api.create(widget("a", json!({"size": 3, "replicas": 2}))).await;
    let target = || api.subresource(WIDGETS, "default", "a", "scale");
    let scale = api.call(target(), Operation::Get { resource_version: None }).await.expect("scales").into_tree().expect("an object");
    assert_eq!((scale.kind(), scale.int(&["spec", "replicas"])), ("Scale", Some(2)));
    let patched = api.patch(target(), PatchType::Merge, json!({"spec": {"replicas": 5}})).await.expect("scales");
    assert_eq!(patched.int(&["spec", "replicas"]), Some(5));
    let object = api.get(WIDGETS, "default", "a").await.expect("is there");
    assert_eq!((object.int(&["spec", "replicas"]), object.int(&["metadata", "generation"])), (Some(5), Some(2)));
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", "namespace": "default"}, "spec": {"replicas": 4}});
    let put = api.try_update_at(target(), scale.clone()).await.expect("any version is meant");
    assert_eq!(put.int(&["spec", "replicas"]), Some(4));
    let mut stale = scale;
    stale["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(api.try_update_at(target(), stale).await.expect_err("another version").code, 409);
    let message = refused(api.patch(target(), PatchType::Merge, json!({"spec": {"replicas": -3}})).await);
    assert_eq!(message, "Widget.example.com \"a\" is invalid: .spec.replicas: Invalid value: -3: should be a non-negative integer");
    api.create(widget("none", json!({"size": 3}))).await;
    let missing = api.call(api.subresource(WIDGETS, "default", "none", "scale"), Operation::Get { resource_version: None }).await;
    let status = missing.expect_err("wants no number");
    let why = "Internal error occurred: the spec replicas field \".spec.replicas\" does not exist";
    assert_eq!((status.code, &*status.message), (500, why));
}

#[actix::test]
async fn configurations_are_applied_by_the_keys_of_lists() {
    let api = with_widgets().await;
    let apply = async |manager: &str, parts: Value| {
        let body = widget("a", json!({"size": 1, "parts": parts})).to_string().into();
        let options = WriteOptions { field_manager: manager.into(), ..WriteOptions::default() };
        let operation = Operation::Patch { patch_type: PatchType::Apply, body, options };
        api.call(api.target(WIDGETS, "default", "a"), operation).await?.into_tree()
    };
    apply("one", json!([{"name": "x", "count": 2}])).await.expect("applies");
    let both = apply("two", json!([{"name": "y"}])).await.expect("applies");
    assert_eq!(both.get(&["spec", "parts"]), Some(&json!([{"name": "x", "count": 2}, {"name": "y", "count": 1}])));
    let status = apply("two", json!([{"name": "x", "count": 3}])).await.expect_err("is another's");
    assert_eq!(status.code, 409, "{status}");
    let left = apply("two", json!([])).await.expect("applies");
    assert_eq!(left.get(&["spec", "parts"]), Some(&json!([{"name": "x", "count": 2}])));
}

#[actix::test]
async fn what_no_property_stands_for_goes_when_it_is_no_longer_applied() {
    let api = with_widgets().await;
    let apply = async |embedded: Value| {
        let body = widget("a", json!({"size": 1, "embedded": embedded})).to_string().into();
        let options = WriteOptions { field_manager: "one".into(), ..WriteOptions::default() };
        let operation = Operation::Patch { patch_type: PatchType::Apply, body, options };
        api.call(api.target(WIDGETS, "default", "a"), operation).await.expect("applies").into_tree().expect("an object")
    };
    let bare = json!({"apiVersion": "v1", "kind": "P", "metadata": {"name": "x"}});
    let mut full = bare.clone();
    full["spec"] = json!({"a": {"b": 1}});
    let applied = apply(full).await;
    let owned = &applied.list(&["metadata", "managedFields"])[0]["fieldsV1"]["f:spec"]["f:embedded"]["f:spec"];
    assert_eq!(*owned, json!({".": {}, "f:a": {".": {}, "f:b": {}}}));
    assert_eq!(apply(bare.clone()).await.get(&["spec", "embedded"]), Some(&bare));
}

#[actix::test]
async fn a_status_that_is_no_subresource_is_owned_by_its_writer() {
    for with_status in [true, false] {
        let api = boot().await;
        let mut plain = definition();
        let mut only = version("v1", true);
        only["subresources"] = if with_status { json!({"status": {}}) } else { json!({}) };
        plain["spec"]["versions"] = json!([only]);
        api.create(plain).await;
        established(&api, WIDGETS).await;
        let mut body = widget("a", json!({"size": 1}));
        body["status"] = json!({});
        let made = api.create(body).await;
        let owned = &made.list(&["metadata", "managedFields"])[0]["fieldsV1"]["f:status"];
        assert_eq!(*owned, if with_status { json!(null) } else { json!({}) });
    }
}

#[actix::test]
async fn versions_share_objects_and_differ_in_columns_subresources_and_fields() {
    let api = with_widgets().await;
    api.create(widget("a", json!({"size": 3}))).await;
    api.create(widget("b", json!({"size": 3, "color": "blue"}))).await;
    let row = api.server.registry().by_resource("example.com", "widgets").expect("is served");
    let names = |version: &str| row.version(version).strategy.columns().iter().map(|column| column.name.to_string()).collect::<Vec<_>>();
    assert_eq!((names("v1"), names("v1beta1")), (vec!["Name".to_owned(), "Size".into()], vec!["Name".to_owned(), "Color".into()]));
    let cells = row.version("v1").strategy.cells(&api.get(WIDGETS, "default", "a").await.expect("is there"), &troupe_api::meta::SystemClock);
    assert_eq!(cells, [json!("a"), json!(3)]);
    assert!(row.version("v1").subresource("scale").is_some() && row.version("v1beta1").subresource("scale").is_none());
    assert_eq!(row.version("v1beta1").deprecation.as_deref(), Some("example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget"));
    let blue = ListOptions { fields: FieldSelector::parse("spec.color=blue").expect("parses"), ..ListOptions::default() };
    let list = api.list(WIDGETS, "default", blue.clone()).await.expect("lists");
    assert_eq!(list.items.iter().map(|item| item.key.name.to_string()).collect::<Vec<_>>(), ["b"]);
    let target = Target { version: "v1beta1".into(), ..api.target(WIDGETS, "default", "") };
    let refused = api.call(target, Operation::List(blue)).await.expect_err("not in this version");
    assert_eq!((refused.code, &*refused.message), (400, "field label not supported: spec.color"));
    let nowhere = ListOptions { fields: FieldSelector::parse("metadata.namespace=nowhere").expect("parses"), ..ListOptions::default() };
    let roles = api.list("clusterroles.rbac.authorization.k8s.io", "", nowhere).await.expect("a label that all built-in kinds take");
    assert!(roles.items.is_empty());
}

#[actix::test]
async fn a_changed_schema_ends_watches_and_defaults_what_is_stored() {
    let api = with_widgets().await;
    api.create(widget("a", json!({"size": 3}))).await;
    let mut watch = api.watch(WIDGETS, "default", WatchOptions::default()).await;
    assert!(matches!(watch.next().await, Some(WatchItem::Event { event: EventType::Added, .. })));
    let shape = json!({"type": "string", "default": "round"});
    let patch = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/shape", "value": shape}]);
    api.patch(api.target(CRDS, "", WIDGETS), PatchType::Json, patch).await.expect("patches");
    let ended = tokio::time::timeout(Duration::from_secs(30), async { while watch.next().await.is_some() {} }).await;
    assert!(ended.is_ok(), "the watch ends");
    eventually("defaults on read", async || api.get(WIDGETS, "default", "a").await.expect("is there").str(&["spec", "shape"]) == "round").await;
}

#[actix::test]
async fn numbers_are_kept_as_go_reads_them() {
    let api = with_widgets().await;
    let extra = json!({"minus": -0.0, "large": u64::MAX, "most": i64::MAX, "float": 1e30});
    let made = api.create(widget("a", json!({"size": 2.0, "replicas": -0.0, "extra": extra}))).await;
    let want = json!({"minus": 0, "large": 1.844_674_407_370_955_2e19, "most": i64::MAX, "float": 1e30});
    assert_eq!((made.get(&["spec", "extra"]), made.get(&["spec", "replicas"])), (Some(&want), Some(&json!(0))));
    let message = refused(api.try_create(widget("b", json!({"size": 1, "replicas": 1e18}))).await);
    assert!(message.contains("spec.replicas in body must be of type integer: \"number\""), "{message}");
}

#[actix::test]
async fn a_definition_goes_after_its_objects() {
    let api = with_widgets().await;
    let mut held = widget("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.create(held).await;
    api.create(widget("free", json!({"size": 1}))).await;
    let mut watch = api.watch(WIDGETS, "default", WatchOptions::default()).await;
    api.delete(CRDS, "", WIDGETS, DeleteOptions::default()).await.expect("begins");
    let going = api.get(CRDS, "", WIDGETS).await.expect("waits for its objects");
    assert_eq!((going.is_terminating(), condition(&going, "Terminating")), (true, "True".to_owned()));
    eventually("the free one goes", async || api.names(WIDGETS, "default").await == ["held"]).await;
    let late = api.try_create(widget("late", json!({"size": 1}))).await.expect_err("is refused");
    let why = "widgets.example.com \"late\" is forbidden: create not allowed while custom resource definition is terminating";
    assert_eq!((late.code, &*late.message), (403, why));
    eventually("a deletion in progress", async || {
        let going = api.get(CRDS, "", WIDGETS).await.expect("waits for its objects");
        going.list(&["status", "conditions"]).iter().any(|condition| condition["reason"] == "InstanceDeletionInProgress")
    })
    .await;
    let patch = json!({"metadata": {"finalizers": null}});
    api.patch(api.target(WIDGETS, "default", "held"), PatchType::Merge, patch).await.expect("lets go");
    eventually("the definition goes", async || api.get(CRDS, "", WIDGETS).await.is_err()).await;
    eventually("the row goes", async || api.server.registry().by_resource("example.com", "widgets").is_none()).await;
    let mut deleted = 0;
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        while let Some(item) = watch.next().await {
            deleted += usize::from(matches!(item, WatchItem::Event { event: EventType::Deleted, .. }));
        }
    });
    assert!(ended.await.is_ok() && deleted == 2, "{deleted}");
}

#[actix::test]
async fn names_are_taken_once_and_free_when_their_definition_goes() {
    let api = with_widgets().await;
    let mut other = definition();
    other["metadata"]["name"] = "gadgets.example.com".into();
    other["spec"]["names"] = json!({"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "shortNames": ["wd"]});
    api.create(other).await;
    let conflict = async || condition(&api.get(CRDS, "", "gadgets.example.com").await.expect("is there"), "NamesAccepted");
    eventually("a conflict", async || conflict().await == "False").await;
    api.delete(CRDS, "", WIDGETS, DeleteOptions::default()).await.expect("goes");
    established(&api, "gadgets.example.com").await;
    assert_eq!(conflict().await, "True");
}

#[actix::test]
async fn a_server_that_starts_again_serves_at_once() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let first = boot_with(ApiServerOptions::new(store.clone())).await;
    first.create(definition()).await;
    established(&first, WIDGETS).await;
    first.create(widget("a", json!({"size": 3}))).await;
    let second = boot_with(ApiServerOptions::new(store)).await;
    assert_eq!(second.names(WIDGETS, "default").await, ["a"]);
}

#[actix::test]
async fn expressions_of_policies_are_held_against_what_a_definition_says() {
    let api = with_widgets().await;
    let rules = json!([{"apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["widgets"]}]);
    let warnings = |expression: &str| -> Vec<String> {
        let spec = json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": expression}]});
        let policy = Object::from_value(json!({"kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"}, "spec": spec}));
        let told = types::check(&policy.expect("an object"), &api.server.registry());
        told.into_iter().map(|warning| warning.warning).collect()
    };
    let fits = "object.spec.replicas > 1 && object.metadata.labels['a'] == 'b' && object.spec.parts.all(p, p.count > 1) && object.spec.port == 'x'";
    assert_eq!(warnings(fits), Vec::<String>::new());
    for (expression, why) in [
        ("object.spec.replicas > '1'", "found no matching overload for '_>_' applied to '(int, string)'"),
        ("object.spec.parts.all(p, p.name == 1)", "found no matching overload for '_==_' applied to '(string, int)'"),
        ("object.spec.maxRetries < 10", "undefined field 'maxRetries'"),
        ("object.data == 'x'", "undefined field 'data'"),
    ] {
        let told = warnings(expression);
        assert!(told.len() == 1 && told[0].starts_with("example.com/v1, Kind=Widget: ERROR: ") && told[0].contains(why), "{expression}: {told:?}");
    }
}

#[actix::test]
async fn finalizers_of_custom_resources_need_no_domain() {
    let api = with_widgets().await;
    let mut held = widget("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["mine"]);
    let mut stored = api.create(held).await;
    stored.set(&["metadata", "finalizers"], json!(["mine", "another-one"]));
    let stored = api.try_update(stored.into_value()).await.expect("is written");
    assert_eq!(stored.list(&["metadata", "finalizers"]), [json!("mine"), json!("another-one")]);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "default", "finalizers": ["mine"]}});
    let refused = api.try_create(map).await.expect_err("is refused");
    assert!(refused.message.contains("name is neither a standard finalizer name nor is it fully qualified"), "{}", refused.message);
}
