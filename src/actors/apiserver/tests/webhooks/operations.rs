use serde_json::{Value, json};
use troupe_api::service::{Body, DeleteOptions, ListOptions, Operation, PatchType, WriteOptions};

use super::endpoint::{Endpoint, allowed, boot, configuration, denied, map};

fn everything() -> Value {
    json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]})
}

#[actix::test]
async fn every_way_to_write_is_asked_about_as_what_it_is() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| allowed()).await);
    api.create(configuration("Validating", "c", vec![hook.webhook("a.example.com", everything())])).await;
    api.create(map("m")).await;
    let target = api.target("configmaps", "default", "m");
    api.patch(target.clone(), PatchType::Merge, json!({"data": {"a": "c"}})).await.expect("is patched");
    let asked = hook.asked();
    assert_eq!(
        (&asked[1]["options"]["kind"], &asked[1]["oldObject"]["data"]["a"], &asked[1]["object"]["data"]["a"]),
        (&json!("UpdateOptions"), &json!("b"), &json!("c"))
    );
    assert_eq!(hook.take_operations(), ["CREATE", "UPDATE"]);
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}});
    api.patch(api.target("configmaps", "default", "n"), PatchType::Apply, applied).await.expect("is applied");
    let options = DeleteOptions { grace_period_seconds: Some(3), ..DeleteOptions::default() };
    api.delete("configmaps", "default", "n", options).await.expect("goes");
    let asked = hook.asked();
    assert_eq!(asked[1]["options"], json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 3}));
    assert_eq!((&asked[1]["object"], &asked[1]["oldObject"]["metadata"]["name"]), (&Value::Null, &json!("n")));
    assert_eq!(hook.take_operations(), ["CREATE", "DELETE"]);
    api.create(map("n")).await;
    hook.take_operations();
    let all = Operation::DeleteCollection { delete: DeleteOptions::default(), list: ListOptions::default() };
    api.call(api.target("configmaps", "default", ""), all).await.expect("all go");
    assert_eq!(hook.take_operations(), ["DELETE", "DELETE"]);
}

#[actix::test]
async fn subresources_show_the_kinds_that_they_take() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| allowed()).await);
    let labels = json!({"a": "b"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    api.create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}}))
        .await;
    api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": template["spec"]})).await;
    for kind in ["Validating", "Mutating"] {
        api.create(configuration(kind, "c", vec![hook.webhook("a.example.com", everything())])).await;
    }
    let scale = api.subresource("deployments.apps", "default", "d", "scale");
    api.patch(scale, PatchType::Merge, json!({"spec": {"replicas": 2}})).await.expect("is scaled");
    let asked = hook.asked();
    assert_eq!(asked[0]["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!(asked[0]["resource"], json!({"group": "apps", "version": "v1", "resource": "deployments"}));
    let replicas = |object: &Value| object["spec"]["replicas"].clone();
    assert_eq!((replicas(&asked[0]["oldObject"]), replicas(&asked[0]["object"]), &asked[0]["object"]["kind"]), (json!(1), json!(2), &json!("Scale")));
    assert_eq!(hook.take_operations(), ["UPDATE scale", "UPDATE scale"]);
    for (subresource, kind, body) in [
        (
            "binding",
            json!({"group": "", "version": "v1", "kind": "Binding"}),
            json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}),
        ),
        ("eviction", json!({"group": "policy", "version": "v1", "kind": "Eviction"}), json!({"metadata": {"name": "p"}})),
    ] {
        let (body, options) = (Body::Json(body.to_string().into()), WriteOptions::default());
        api.call(api.subresource("pods", "default", "p", subresource), Operation::Create { body, options }).await.expect(subresource);
        let asked = hook.asked();
        assert_eq!((&asked[0]["kind"], &asked[0]["object"]["kind"], &asked[0]["name"]), (&kind, &kind["kind"], &json!("p")), "{subresource}");
        // The pod that goes by it is no request of its own.
        assert_eq!(hook.take_operations(), [format!("CREATE {subresource}"), format!("CREATE {subresource}")]);
    }
}

#[actix::test]
async fn a_scale_can_be_changed_like_an_object() {
    let hook = Endpoint::serve(|_| super::endpoint::patched(json!([{"op": "replace", "path": "/spec/replicas", "value": 7}])));
    let (api, hook) = (boot().await, hook.await);
    let labels = json!({"a": "b"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    api.create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}}))
        .await;
    let scales = json!({"rules": [{"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["deployments/scale"]}]});
    api.create(configuration("Mutating", "c", vec![hook.webhook("a.example.com", scales)])).await;
    let scale = api.subresource("deployments.apps", "default", "d", "scale");
    let scaled = api.patch(scale, PatchType::Merge, json!({"spec": {"replicas": 2}})).await.expect("is scaled");
    assert_eq!(scaled.int(&["spec", "replicas"]), Some(7));
}

#[actix::test]
async fn objects_are_shown_as_the_rule_names_them_where_that_is_equivalent() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| denied(json!({"message": "no"}))).await);
    let rule = |policy: &str| {
        let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["events"]}]);
        hook.webhook("a.example.com", json!({"rules": rules, "matchPolicy": policy}))
    };
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "action": "a", "reason": "r", "type": "Normal", "reportingController": "example.com/c", "reportingInstance": "i", "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}});
    api.create(configuration("Validating", "exact", vec![rule("Exact")])).await;
    api.create(event.clone()).await;
    assert!(hook.asked().is_empty());
    api.create(configuration("Validating", "equivalent", vec![rule("Equivalent")])).await;
    let mut another = event;
    another["metadata"]["name"] = json!("f");
    assert!(api.try_create(another).await.is_err());
    let asked = &hook.asked()[0];
    assert_eq!((&asked["resource"]["group"], &asked["requestResource"]["group"]), (&json!(""), &json!("events.k8s.io")));
    assert_eq!((&asked["object"]["apiVersion"], &asked["object"]["involvedObject"]["name"]), (&json!("v1"), &json!("p")));
}
