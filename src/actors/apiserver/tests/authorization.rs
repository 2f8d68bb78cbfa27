use std::sync::Arc;

use serde_json::json;
use troupe_api::{
    ApiService,
    auth::rbac::Rbac,
    meta::Cause,
    notices::Notices,
    service::{ApiCall, Operation, UserInfo},
    status::{Reason, Status},
};
use troupe_api_server::store::memory::MemoryStore;

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with},
};

/// A server that asks nobody, to prepare the store, and one that asks RBAC over the same store.
async fn prepared() -> (TestApi, TestApi) {
    let store = Arc::new(MemoryStore::new());
    let open = boot_with(ApiServerOptions::new(store.clone())).await;
    for name in ["mine", "other"] {
        open.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
    }
    let version = "rbac.authorization.k8s.io/v1";
    open.create(json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "masters"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]})).await;
    open.create(json!({
        "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "masters"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "masters"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:masters"}],
    }))
    .await;
    open.create(json!({
        "apiVersion": version, "kind": "Role", "metadata": {"name": "r", "namespace": "mine"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["namespaces"]}],
    }))
    .await;
    open.create(json!({
        "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "r", "namespace": "mine"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    }))
    .await;
    let mut options = ApiServerOptions::new(store);
    options.authorizer = Some(Box::new(|listers| Arc::new(Rbac::new(listers))));
    let guarded = boot_with(options).await;
    (open, guarded)
}

async fn read_namespace(api: &TestApi, name: &str) -> Result<(), Status> {
    let user = Arc::new(UserInfo { name: "bob".into(), groups: vec!["system:authenticated".into()], ..UserInfo::default() });
    let operation = Operation::Get { resource_version: None };
    api.server
        .call(ApiCall { user, target: api.target("namespaces", "", name), operation, cause: Cause::root(), notices: Notices::default() })
        .await
        .map(drop)
}

#[actix::test]
async fn a_role_in_a_namespace_can_allow_to_read_that_namespace() {
    let (_open, api) = prepared().await;
    read_namespace(&api, "mine").await.expect("is allowed");
    let status = read_namespace(&api, "other").await.expect_err("is refused");
    assert_eq!(status.reason, Reason::Forbidden);
    assert_eq!(
        status.message,
        "namespaces \"other\" is forbidden: User \"bob\" cannot get resource \"namespaces\" in API group \"\" in the namespace \"other\""
    );
}
