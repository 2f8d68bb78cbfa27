//! Admission policies and their bindings, through the server's own door.

mod authorizer;
mod matching;
mod mutating;
mod params;
mod validating;
mod writes;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_api::{
    meta::{Cause, Object},
    notices::Notices,
    service::{ApiCall, ApiService, Body, Operation, WriteOptions},
    status::Status,
};

use crate::apiserver::testing::TestApi;

const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";

/// The rules of a policy that is asked about such resources, whatever happens to them.
fn rules(group: &str, resources: &[&str]) -> Value {
    json!([{"operations": ["*"], "apiGroups": [group], "apiVersions": ["*"], "resources": resources}])
}

fn with(mut base: Value, change: &Value) -> Value {
    for (field, value) in change.as_object().into_iter().flatten() {
        base[field] = value.clone();
    }
    base
}

/// A policy about config maps with other fields in its spec.
fn policy(kind: &str, name: &str, spec: &Value) -> Value {
    let base = json!({"matchConstraints": {"resourceRules": rules("", &["configmaps"])}});
    let kind = format!("{kind}AdmissionPolicy");
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": with(base, spec)})
}

/// A binding of the policy of that name.
fn binding(kind: &str, name: &str, spec: &Value) -> Value {
    let mut base = json!({"policyName": name});
    if kind == "Validating" {
        base["validationActions"] = json!(["Deny"]);
    }
    let kind = format!("{kind}AdmissionPolicyBinding");
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": with(base, spec)})
}

/// A validating policy with a binding.
async fn validating(api: &TestApi, name: &str, spec: Value, bound: Value) {
    api.create(policy("Validating", name, &spec)).await;
    api.create(binding("Validating", name, &bound)).await;
}

/// A mutating policy with a binding.
async fn mutating(api: &TestApi, name: &str, mutations: Value, spec: Value) {
    let base = json!({"mutations": mutations, "reinvocationPolicy": "Never"});
    api.create(policy("Mutating", name, &with(base, &spec))).await;
    api.create(binding("Mutating", name, &json!({}))).await;
}

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data})
}

/// What is said about a create beside its reply.
struct Told {
    reply: Result<Object, Status>,
    notices: Notices,
}

/// Creates a config map and listens.
async fn told(api: &TestApi, object: Value, options: WriteOptions) -> Told {
    let notices = Notices::default();
    let operation = Operation::Create { body: Body::Json(object.to_string().into()), options };
    let target = api.target("configmaps", "default", "");
    let call = ApiCall { user: Arc::clone(&api.user), target, operation, cause: Cause::root(), notices: notices.clone() };
    let reply = match api.server.call(call).await {
        Ok(reply) => reply.into_tree(),
        Err(status) => Err(status),
    };
    Told { reply, notices }
}

/// Waits until custom resources of the group `example.com` are served.
async fn served(api: &TestApi, plural: &str) {
    let is_served = || api.server.registry().by_resource("example.com", plural).is_some();
    let served = tokio::time::timeout(Duration::from_secs(30), async {
        while !is_served() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    served.await.expect("is served");
}
