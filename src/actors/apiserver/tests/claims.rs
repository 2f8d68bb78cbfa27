//! Who may say what in claims for devices, through the whole of the API server.

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_api::{
    ApiReply, ApiService,
    auth::{
        chain::{AuthorizerChain, PrivilegedGroups},
        rbac::Rbac,
    },
    meta::Cause,
    notices::Notices,
    service::{ApiCall, Operation, PatchType, UserInfo, WriteOptions},
    status::{Reason, Status},
};
use troupe_api_server::store::memory::MemoryStore;

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot, boot_with},
};

const CLAIMS: &str = "resourceclaims.resource.k8s.io";

fn claim(access: bool) -> Value {
    let request = json!({"name": "gpu", "exactly": {"deviceClassName": "a", "adminAccess": access}});
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c", "namespace": "default"}, "spec": {"devices": {"requests": [request]}}})
}

fn allocation(access: bool) -> Value {
    let result = json!({"request": "gpu", "driver": "gpu.example.com", "pool": "p", "device": "d", "adminAccess": access});
    json!({"status": {"allocation": {"devices": {"results": [result]}}}})
}

fn device(data: i32) -> Value {
    json!({"status": {"devices": [{"driver": "gpu.example.com", "pool": "p", "device": "d", "data": {"a": data}}]}})
}

/// A server where each user may write the statuses of claims and has the one rule more that is given with them.
async fn guarded(users: &[(&str, Value)]) -> TestApi {
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.authorizer = Some(Box::new(|listers| Arc::new(AuthorizerChain::new(vec![Arc::new(PrivilegedGroups), Arc::new(Rbac::new(listers))]))));
    let api = boot_with(options).await;
    let (version, group) = ("rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io");
    for (user, rule) in users {
        let status = json!({"verbs": ["patch"], "apiGroups": ["resource.k8s.io"], "resources": ["resourceclaims/status"]});
        api.create(json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": user}, "rules": [status, rule]})).await;
        api.create(json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": user},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user}, "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        }))
        .await;
    }
    api.create(claim(false)).await;
    api
}

fn rule(verb: &str, resource: &str) -> Value {
    json!({"verbs": [verb], "apiGroups": ["resource.k8s.io"], "resources": [resource]})
}

async fn patch(api: &TestApi, user: &str, patch: Value) -> Result<ApiReply, Status> {
    let operation = Operation::Patch { patch_type: PatchType::Merge, body: patch.to_string().into(), options: WriteOptions::default() };
    let user = Arc::new(UserInfo { name: user.into(), ..UserInfo::default() });
    let target = api.subresource(CLAIMS, "default", "c", "status");
    api.server.call(ApiCall { user, target, operation, cause: Cause::root(), notices: Notices::default() }).await
}

#[actix::test]
async fn only_who_may_bind_claims_says_which_devices_they_got() {
    let api = guarded(&[("binder", rule("patch", "resourceclaims/binding")), ("other", rule("get", "pods"))]).await;
    let status = patch(&api, "other", allocation(false)).await.expect_err("is refused");
    assert_eq!(status.reason, Reason::Invalid);
    let needs = r#"status.allocation: Forbidden: changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb="update" permission: "#;
    let refused = r#"User "other" cannot update resource "resourceclaims/binding" in API group "resource.k8s.io" at the cluster scope"#;
    assert!(status.message.contains(needs) && status.message.contains(refused), "{}", status.message);
    patch(&api, "binder", allocation(false)).await.expect("may bind");
}

#[actix::test]
async fn only_who_may_speak_for_a_driver_tells_about_its_devices() {
    let api =
        guarded(&[("binder", rule("patch", "resourceclaims/binding")), ("driver", rule("arbitrary-node:patch", "resourceclaims/driver"))]).await;
    patch(&api, "binder", allocation(false)).await.expect("may bind");
    let status = patch(&api, "binder", device(1)).await.expect_err("is refused");
    let needs = r#"status.devices: Forbidden: changing status.devices requires resource="resourceclaims/driver", verb="[arbitrary-node:update]" permission: "#;
    assert!(status.message.contains(needs), "{}", status.message);
    patch(&api, "driver", device(1)).await.expect("may speak for the driver");
    patch(&api, "binder", json!({"metadata": {"labels": {"a": "b"}}})).await.expect("changes nothing of the devices");
}

#[actix::test]
async fn rights_of_an_administrator_need_a_namespace_that_allows_them() {
    let api = boot().await;
    let why =
        "adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    let status = api.try_create(claim(true)).await.expect_err("is refused");
    assert!(status.reason == Reason::Invalid && status.message.contains(&format!("spec.devices.requests[0].{why}")), "{}", status.message);
    api.create(claim(false)).await;
    let results = api.subresource(CLAIMS, "default", "c", "status");
    let status = api.patch(results.clone(), PatchType::Merge, allocation(true)).await.expect_err("is refused");
    assert!(status.message.contains(&format!("status.allocation.devices.results[0].{why}")), "{}", status.message);
    let mark = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    api.patch(api.target("namespaces", "", "default"), PatchType::Merge, mark).await.expect("is marked");
    api.patch(results, PatchType::Merge, allocation(true)).await.expect("is allowed");
}
