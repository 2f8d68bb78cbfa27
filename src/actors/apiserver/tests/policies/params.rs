use serde_json::{Value, json};

use super::{map, served, validating};
use crate::apiserver::testing::{TestApi, boot};

fn limits(name: &str, namespace: &str, most: &str) -> Value {
    let metadata = json!({"name": name, "namespace": namespace, "labels": {"limits": "yes"}});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"x": "y"}, "type": format!("example.com/{most}")})
}

async fn bound(api: &TestApi, reference: Value) {
    let validations = json!([{"expression": "params == null || params.type == 'example.com/' + object.data.a", "messageExpression": "params == null ? 'none' : 'wants ' + params.type"}]);
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "Secret"}, "validations": validations});
    let reference = if reference.is_null() { json!({}) } else { json!({"paramRef": reference}) };
    validating(api, "p", spec, reference).await;
}

async fn refused(api: &TestApi, a: &str) -> Option<String> {
    let denied = "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: ";
    let status = api.try_create(map("m", json!({"a": a}))).await.err()?;
    Some(status.message.strip_prefix(denied).unwrap_or(&status.message).to_owned())
}

#[actix::test]
async fn parameters_are_found_by_name_or_by_labels() {
    let select = json!({"matchLabels": {"limits": "yes"}});
    for (reference, a, why) in [
        (json!({"name": "one", "parameterNotFoundAction": "Deny"}), "1", None),
        (json!({"name": "one", "parameterNotFoundAction": "Deny"}), "2", Some("wants example.com/1")),
        (json!({"name": "one", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}), "3", None),
        (json!({"selector": select, "parameterNotFoundAction": "Deny"}), "1", Some("wants example.com/2")),
        (json!({"selector": select, "namespace": "kube-system", "parameterNotFoundAction": "Deny"}), "3", None),
        (json!({"name": "gone", "parameterNotFoundAction": "Allow"}), "9", None),
        (
            json!({"name": "gone", "parameterNotFoundAction": "Deny"}),
            "9",
            Some("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"),
        ),
        (Value::Null, "9", None),
    ] {
        let api = boot().await;
        for (name, namespace, most) in [("one", "default", "1"), ("two", "default", "2"), ("one", "kube-system", "3")] {
            api.create(limits(name, namespace, most)).await;
        }
        bound(&api, reference.clone()).await;
        assert_eq!(refused(&api, a).await.as_deref(), why, "{reference}");
    }
}

#[actix::test]
async fn parameters_may_be_custom_resources() {
    let api = boot().await;
    let schema = json!({"type": "object", "properties": {"most": {"type": "integer"}}});
    api.create(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "limits.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": {"plural": "limits", "singular": "limit", "kind": "Limit", "listKind": "LimitList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    })).await;
    served(&api, "limits").await;
    api.create(json!({"apiVersion": "example.com/v1", "kind": "Limit", "metadata": {"name": "l"}, "most": 3})).await;
    let spec = json!({"paramKind": {"apiVersion": "example.com/v1", "kind": "Limit"}, "validations": [{"expression": "size(object.data) <= params.most && params.kind == 'Limit'"}]});
    validating(&api, "p", spec, json!({"paramRef": {"name": "l", "parameterNotFoundAction": "Deny"}})).await;
    api.create(map("few", json!({"a": "", "b": "", "c": ""}))).await;
    api.try_create(map("many", json!({"a": "", "b": "", "c": "", "d": ""}))).await.expect_err("are too many");
}
