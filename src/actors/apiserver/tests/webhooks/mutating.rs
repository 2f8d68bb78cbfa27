use serde_json::{Value, json};

use super::endpoint::{Endpoint, boot, configuration, map, patched};

fn label(name: &str) -> Value {
    json!([{"op": "add", "path": "/metadata/labels", "value": {name: "yes"}}])
}

#[actix::test]
async fn a_webhook_changes_the_object_and_is_told_all_about_the_request() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| patched(label("hooked"))).await);
    api.create(configuration("Mutating", "c", vec![hook.webhook("a.example.com", json!({}))])).await;
    let made = api.create(map("m")).await;
    assert_eq!(made.label("hooked"), Some("yes"));
    assert_eq!(api.get("configmaps", "default", "m").await.expect("is there").label("hooked"), Some("yes"));
    let asked = &hook.asked()[0];
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    for (field, value) in [
        ("kind", kind.clone()),
        ("requestKind", kind),
        ("resource", resource.clone()),
        ("requestResource", resource),
        ("name", json!("m")),
        ("namespace", json!("default")),
        ("operation", json!("CREATE")),
        ("userInfo", json!({"username": "admin", "groups": ["system:masters", "system:authenticated"]})),
        ("oldObject", Value::Null),
        ("dryRun", json!(false)),
        ("options", json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"})),
    ] {
        assert_eq!(asked[field], value, "{field}");
    }
    assert_eq!((&asked["object"]["kind"], &asked["object"]["data"]), (&json!("ConfigMap"), &json!({"a": "b"})));
}

#[actix::test]
async fn webhooks_are_asked_in_order_and_see_what_those_before_them_did() {
    let hook = Endpoint::serve(|request| {
        let count = request["object"]["data"]["count"].as_str().map_or(0, |count| count.parse::<u32>().expect("a number"));
        patched(json!([{"op": "add", "path": "/data/count", "value": (count + 1).to_string()}]))
    });
    let (api, hook) = (boot().await, hook.await);
    for (configured, webhooks) in [("b", vec!["c.example.com"]), ("a", vec!["b.example.com", "a.example.com"])] {
        let webhooks = webhooks.into_iter().map(|name| hook.webhook(name, json!({}))).collect();
        api.create(configuration("Mutating", configured, webhooks)).await;
    }
    assert_eq!(api.create(map("m")).await.str(&["data", "count"]), "3");
    assert_eq!(hook.asked().len(), 3, "nobody wants to be asked again");
    assert_eq!(hook.connections(), 1, "the connection is kept");
}

#[actix::test]
async fn who_wants_to_is_asked_again_when_a_later_one_changed_the_object() {
    let hook = Endpoint::serve(|request| match request["object"]["metadata"]["labels"]["late"].as_str() {
        Some(_) => patched(json!([{"op": "add", "path": "/metadata/labels/seen", "value": "yes"}])),
        None => super::endpoint::allowed(),
    });
    let (api, first, later) =
        (boot().await, hook.await, Endpoint::serve(|_| patched(json!([{"op": "add", "path": "/metadata/labels", "value": {"late": "yes"}}]))).await);
    let webhooks = vec![
        first.webhook("a.example.com", json!({"reinvocationPolicy": "IfNeeded"})),
        first.webhook("b.example.com", json!({})),
        later.webhook("c.example.com", json!({})),
    ];
    api.create(configuration("Mutating", "c", webhooks)).await;
    let made = api.create(map("m")).await;
    assert_eq!((made.label("late"), made.label("seen")), (Some("yes"), Some("yes")));
    assert_eq!((first.asked().len(), later.asked().len()), (3, 1));
}

#[actix::test]
async fn built_in_plugins_see_what_webhooks_did() {
    let add = json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "sidecar", "image": "i:1"}}]);
    let (api, hook) = (boot().await, Endpoint::serve(move |_| patched(add.clone())).await);
    let pods = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    api.create(configuration("Mutating", "c", vec![hook.webhook("a.example.com", json!({"rules": pods}))])).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let made = api.create(pod).await;
    let sidecar = &made.list(&["spec", "containers"])[1];
    assert_eq!((&sidecar["name"], &sidecar["imagePullPolicy"]), (&json!("sidecar"), &json!("IfNotPresent")), "with its defaults");
    assert_eq!(sidecar["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount", "with its token");
}

#[actix::test]
async fn what_a_webhook_makes_of_an_object_must_be_one() {
    for (patch, why) in [
        (json!([{"op": "add", "path": "/data", "value": 5}]), "Internal error occurred: "),
        (json!([{"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}]), "the namespace of the provided object does not match"),
        (json!({"op": "add"}), "Internal error occurred: failed calling webhook \"a.example.com\": received undecodable patch in webhook response: "),
    ] {
        let (api, hook) = (boot().await, Endpoint::serve(move |_| patched(patch.clone())).await);
        api.create(configuration("Mutating", "c", vec![hook.webhook("a.example.com", json!({}))])).await;
        let refused = api.try_create(map("m")).await.expect_err("is refused");
        assert!(refused.message.starts_with(why), "{refused}");
        assert!(api.get("configmaps", "kube-system", "m").await.is_err());
    }
}

#[actix::test]
async fn an_update_cannot_be_made_one_of_another_object() {
    let hook = Endpoint::serve(|request| match request["operation"].as_str() {
        Some("UPDATE") => patched(json!([{"op": "replace", "path": "/metadata/name", "value": "other"}])),
        _ => super::endpoint::allowed(),
    });
    let (api, hook) = (boot().await, hook.await);
    api.create(configuration("Mutating", "c", vec![hook.webhook("a.example.com", json!({}))])).await;
    api.create(map("m")).await;
    let mut changed = map("m");
    changed["data"]["a"] = json!("c");
    let refused = api.try_update(changed).await.expect_err("is refused");
    assert!(refused.message.contains("metadata.name: Invalid value"), "{refused}");
    assert!(api.get("configmaps", "default", "other").await.is_err());
}

#[actix::test]
async fn owners_that_a_webhook_garbled_are_as_they_were() {
    let hook = Endpoint::serve(|_| {
        patched(
            json!([{"op": "replace", "path": "/metadata/managedFields/0/operation", "value": "Guess"}, {"op": "add", "path": "/data/x", "value": "y"}]),
        )
    });
    let (api, hook) = (boot().await, hook.await);
    api.create(configuration("Mutating", "c", vec![hook.webhook("a.example.com", json!({}))])).await;
    let made = api.create(map("m")).await;
    assert_eq!((made.list(&["metadata", "managedFields"])[0]["operation"].as_str(), made.str(&["data", "x"])), (Some("Update"), "y"));
}

#[actix::test]
async fn nobody_changes_what_is_deleted() {
    let hook = Endpoint::serve(|request| match request["operation"].as_str() {
        Some("DELETE") => patched(label("hooked")),
        _ => super::endpoint::allowed(),
    });
    let (api, hook) = (boot().await, hook.await);
    api.create(configuration("Mutating", "c", vec![hook.webhook("a.example.com", json!({}))])).await;
    api.create(map("m")).await;
    let refused = api.delete("configmaps", "default", "m", Default::default()).await.expect_err("is refused");
    let why =
        "Internal error occurred: admission webhook \"a.example.com\" attempted to modify the object, which is not supported for this operation";
    assert_eq!((refused.code, refused.message.as_str()), (500, why));
}

#[actix::test]
async fn large_objects_are_changed_too_while_others_are_written() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| patched(label("hooked"))).await);
    api.create(configuration("Mutating", "c", vec![hook.webhook("a.example.com", json!({}))])).await;
    api.create(configuration("Validating", "c", vec![hook.webhook("b.example.com", json!({"failurePolicy": "Ignore"}))])).await;
    let large = |name: &str| {
        let mut large = map(name);
        large["data"]["large"] = json!("x".repeat(900 << 10));
        large
    };
    let names: Vec<String> = (0..8).map(|at| format!("m{at}")).collect();
    let made = futures::future::join_all(names.iter().map(|name| api.create(large(name)))).await;
    assert!(made.iter().all(|made| made.label("hooked") == Some("yes")));
}

#[actix::test]
async fn names_are_generated_behind_webhooks_which_may_give_one() {
    let hook = Endpoint::serve(|request| match request["object"]["metadata"]["generateName"].as_str() {
        Some("chosen-") if request["object"]["metadata"]["name"].is_null() => {
            patched(json!([{"op": "add", "path": "/metadata/name", "value": "chosen"}]))
        }
        _ => super::endpoint::allowed(),
    });
    let (api, hook) = (boot().await, hook.await);
    api.create(configuration("Mutating", "c", vec![hook.webhook("a.example.com", json!({}))])).await;
    api.create(configuration("Validating", "c", vec![hook.webhook("b.example.com", json!({}))])).await;
    let object = |base: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": base, "namespace": "default"}});
    let made = api.create(object("x-")).await;
    assert!(made.name().starts_with("x-") && made.name().len() == 7, "{}", made.name());
    let asked = hook.asked();
    assert_eq!((&asked[0]["name"], &asked[0]["object"]["metadata"]["name"]), (&Value::Null, &Value::Null));
    assert_eq!(asked[1]["object"]["metadata"]["name"], made.name(), "who may only refuse sees it");
    assert_eq!(api.create(object("chosen-")).await.name(), "chosen");
}
