use serde_json::{Value, json};
use troupe_api::service::PatchType;

use super::{map, rules, validating};
use crate::apiserver::testing::{TestApi, boot};

async fn refuse(api: &TestApi, constraints: Value, bound: Value) {
    validating(api, "p", json!({"validations": [{"expression": "false"}], "matchConstraints": constraints}), bound).await;
}

fn labelled(name: &str, label: &str) -> Value {
    let mut object = map(name, json!({}));
    object["metadata"]["labels"] = json!({"a": label});
    object
}

#[actix::test]
async fn policies_and_bindings_select_objects_and_namespaces() {
    let selector = |value: &str| json!({"matchLabels": {"a": value}});
    let constraints = |change: Value| super::with(json!({"resourceRules": rules("", &["configmaps"])}), &change);
    for (own, bound, refused) in [
        (json!({"objectSelector": selector("b")}), json!({}), true),
        (json!({"objectSelector": selector("c")}), json!({}), false),
        (json!({}), json!({"matchResources": {"objectSelector": selector("b")}}), true),
        (json!({}), json!({"matchResources": {"objectSelector": selector("c")}}), false),
        (json!({"namespaceSelector": selector("n")}), json!({}), true),
        (json!({"namespaceSelector": selector("m")}), json!({}), false),
        (json!({}), json!({"matchResources": {"namespaceSelector": selector("m")}}), false),
        (
            json!({"excludeResourceRules": super::with(rules("", &["configmaps"])[0].clone(), &json!({"resourceNames": ["m"]})).as_object().map(|rule| json!([rule])).expect("a rule")}),
            json!({}),
            false,
        ),
        (json!({"resourceRules": [super::with(rules("", &["*"])[0].clone(), &json!({"resourceNames": ["x"]}))]}), json!({}), false),
        (json!({"resourceRules": [super::with(rules("", &["*"])[0].clone(), &json!({"operations": ["UPDATE"]}))]}), json!({}), false),
        (json!({"resourceRules": [super::with(rules("", &["*"])[0].clone(), &json!({"scope": "Cluster"}))]}), json!({}), false),
        (json!({}), json!({"matchResources": {"resourceRules": rules("", &["secrets"])}}), false),
    ] {
        let api = boot().await;
        let patch = json!({"metadata": {"labels": {"a": "n"}}});
        api.patch(api.target("namespaces", "", "default"), PatchType::Merge, patch).await.expect("is labelled");
        refuse(&api, constraints(own.clone()), bound.clone()).await;
        assert_eq!(api.try_create(labelled("m", "b")).await.is_err(), refused, "{own} {bound}");
    }
}

#[actix::test]
async fn a_policy_sees_equivalent_resources_in_the_version_that_it_names() {
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reason": "R", "action": "A", "note": "n", "type": "Normal", "reportingController": "c.example.com/c", "reportingInstance": "i",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    for (policy, refused) in [("Equivalent", true), ("Exact", false)] {
        let api = boot().await;
        let constraints = json!({"resourceRules": rules("", &["events"]), "matchPolicy": policy});
        let validations =
            json!([{"expression": "object.message != 'n' || request.resource.group != '' || request.requestResource.group != 'events.k8s.io'"}]);
        validating(&api, "p", json!({"validations": validations, "matchConstraints": constraints}), json!({})).await;
        let made = api.try_create(event.clone()).await;
        assert_eq!(made.is_err(), refused, "{policy}: {made:?}");
    }
}

#[actix::test]
async fn subresources_are_named_on_their_own() {
    let api = boot().await;
    let constraints = json!({"resourceRules": rules("apps", &["deployments/scale"])});
    let validations = json!([{"expression": "object.kind == 'Scale' && object.spec.replicas < 5 && request.subResource == 'scale'"}]);
    validating(&api, "p", json!({"validations": validations, "matchConstraints": constraints}), json!({})).await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let spec = json!({"replicas": 7, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    api.create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"}, "spec": spec})).await;
    let scale = |replicas: i64| json!({"spec": {"replicas": replicas}});
    let target = api.subresource("deployments.apps", "default", "d", "scale");
    api.patch(target.clone(), PatchType::Merge, scale(4)).await.expect("fits");
    api.patch(target, PatchType::Merge, scale(5)).await.expect_err("is refused");
}
