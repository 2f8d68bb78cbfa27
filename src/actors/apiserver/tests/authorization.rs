use std::sync::Arc;

use serde_json::json;
use troupe_api::{
    ApiService,
    auth::rbac::Rbac,
    features::FeatureGates,
    meta::Cause,
    notices::Notices,
    service::{ApiCall, DeleteOptions, Operation, UserInfo},
    status::{Reason, Status},
};
use troupe_api_server::store::{Store, memory::MemoryStore};

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with, eventually},
};

/// A server that asks nobody, to prepare the store, and one that asks RBAC over the same store.
async fn prepared() -> (TestApi, TestApi) {
    prepared_on(Arc::new(MemoryStore::new()), FeatureGates::default()).await
}

/// The same over `store`, where the one that asks has `features`.
async fn prepared_on(store: Arc<MemoryStore>, features: FeatureGates) -> (TestApi, TestApi) {
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
    options.features = features;
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

/// Lets bob do `verb` on what is in the namespace `mine`.
async fn grant(open: &TestApi, verb: &str) {
    let version = "rbac.authorization.k8s.io/v1";
    let metadata = json!({"name": format!("may-{verb}"), "namespace": "mine"});
    let rules = json!([{"verbs": [verb], "apiGroups": [""], "resources": ["configmaps"]}]);
    open.create(json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules})).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": format!("may-{verb}")});
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]);
    open.create(json!({"apiVersion": version, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": subjects})).await;
}

/// Has bob delete an object that cannot be read; the annotations of the audit event beside.
async fn delete_unreadable(api: &TestApi) -> (Result<(), Status>, Vec<String>) {
    let user = Arc::new(UserInfo { name: "bob".into(), groups: vec!["system:authenticated".into()], ..UserInfo::default() });
    let operation = Operation::Delete(DeleteOptions { ignore_store_read_error: true, ..DeleteOptions::default() });
    let (target, notices) = (api.target("configmaps", "mine", "sealed"), Notices::default());
    let call = ApiCall { user, target, operation, cause: Cause::root(), notices: notices.clone() };
    (api.server.call(call).await.map(drop), notices.annotations().into_keys().collect())
}

#[actix::test]
async fn who_deletes_what_cannot_be_read_needs_a_right_to_that() {
    let store = Arc::new(MemoryStore::new());
    let features = FeatureGates::parse(&["AllowUnsafeMalformedObjectDeletion=true".to_owned()]).expect("there is such a feature");
    let (open, api) = prepared_on(store.clone(), features).await;
    let value = "k8s:enc:aesgcm:v1:gone:nonsense".into();
    store.create("/registry/configmaps/mine/sealed".into(), value, None).await.expect("is written");
    grant(&open, "delete").await;
    let refused = || async { delete_unreadable(&api).await.0.expect_err("is refused").message };
    let wanted = "configmaps \"sealed\" is forbidden: not permitted to do \"unsafe-delete-ignore-read-errors\", reason: ";
    eventually("the right to delete is seen", async || refused().await.starts_with(wanted)).await;
    grant(&open, "unsafe-delete-ignore-read-errors").await;
    eventually("the right to that is seen", async || {
        let (deleted, annotations) = delete_unreadable(&api).await;
        assert_eq!(annotations, ["apiserver.k8s.io/unsafe-delete-ignore-read-error"]);
        deleted.is_ok()
    })
    .await;
    assert_eq!(store.get(b"/registry/configmaps/mine/sealed", None).await.expect("reads").0, None);
}
