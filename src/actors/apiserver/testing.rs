//! An API server on the in-memory store, booted in a moment, for tests of units and of the server itself.
//!
//! [`boot`] gives everything allowed and the usual namespaces. It must run inside an actix system (`#[actix::test]`).

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_api::{
    ApiReply, ApiService,
    meta::{Cause, GroupVersion, Object},
    notices::Notices,
    service::{
        ApiCall, Body, DeleteOptions, ListOptions, Operation, PatchType, ReplyBody, Target, UserInfo, WatchOptions, WatchStream, WriteOptions,
    },
    status::Status,
    stored::StoredObject,
};
use troupe_api_client::Client;
use troupe_api_server::store::memory::MemoryStore;

use super::{ApiServer, ApiServerOptions};

/// A booted server with an administrator's client.
pub struct TestApi {
    pub server: Arc<ApiServer>,
    pub client: Client,
    pub user: Arc<UserInfo>,
}

/// Waits until `holds`; what takes longer than 20 seconds never happens.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "{what}: not within 60 seconds");
}

/// Boots a server on a fresh [`MemoryStore`] with namespaces `default`, `kube-system` and service account `default/default`.
pub async fn boot() -> TestApi {
    boot_with(ApiServerOptions::new(Arc::new(MemoryStore::new()))).await
}

/// Boots a server with other options (a store that is shared or persistent, an authorizer, other ranges).
pub async fn boot_with(options: ApiServerOptions) -> TestApi {
    let server = ApiServer::start(options).await.expect("the store answers");
    let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
    let user = Arc::new(UserInfo { name: "admin".into(), groups, ..UserInfo::default() });
    let client = Client::new(server.clone(), user.clone(), "test");
    let api = TestApi { server, client, user };
    for namespace in ["default", "kube-system"] {
        api.ensure(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
    }
    api.ensure(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}})).await;
    api
}

impl TestApi {
    /// The target of `resource` (`pods`, `deployments.apps`), in `namespace` unless that is empty.
    pub fn target(&self, resource: &str, namespace: &str, name: &str) -> Target {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let resource = self.server.registry().by_resource(group, plural).expect("a known resource");
        let version = resource.served[0].version.clone();
        Target { resource, version, namespace: namespace.into(), name: name.into(), subresource: "".into() }
    }

    /// The target of one of its subresources.
    pub fn subresource(&self, resource: &str, namespace: &str, name: &str, subresource: &str) -> Target {
        Target { subresource: subresource.into(), ..self.target(resource, namespace, name) }
    }

    fn target_of(&self, object: &Value) -> Target {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let GroupVersion { group, version } = GroupVersion::parse(text("/apiVersion"));
        let resource = self.server.registry().by_kind(&group, text("/kind")).expect("a known kind");
        let namespace = if resource.namespaced { text("/metadata/namespace") } else { "" };
        Target { version, namespace: namespace.into(), name: text("/metadata/name").into(), subresource: "".into(), resource }
    }

    pub async fn call(&self, target: Target, operation: Operation) -> Result<ApiReply, Status> {
        self.server.call(ApiCall { user: self.user.clone(), target, operation, cause: Cause::root(), notices: Notices::default() }).await
    }

    /// Creates an object by its own kind and namespace.
    pub async fn try_create(&self, object: Value) -> Result<Object, Status> {
        let target = Target { name: "".into(), ..self.target_of(&object) };
        let body = Body::Json(object.to_string().into());
        self.call(target, Operation::Create { body, options: WriteOptions::default() }).await?.into_tree()
    }

    pub async fn create(&self, object: Value) -> Object {
        self.try_create(object).await.expect("the create succeeds")
    }

    /// Creates an object unless it exists.
    pub async fn ensure(&self, object: Value) {
        match self.try_create(object).await {
            Err(status) if !status.is_already_exists() => panic!("cannot create: {status}"),
            _ => {}
        }
    }

    /// Replaces an object, by its own kind, namespace and name.
    pub async fn try_update(&self, object: Value) -> Result<Object, Status> {
        let target = self.target_of(&object);
        self.try_update_at(target, object).await
    }

    /// Replaces what stands at `target`, such as a status.
    pub async fn try_update_at(&self, target: Target, object: Value) -> Result<Object, Status> {
        let body = Body::Json(object.to_string().into());
        self.call(target, Operation::Update { body, options: WriteOptions::default() }).await?.into_tree()
    }

    pub async fn patch(&self, target: Target, patch_type: PatchType, patch: Value) -> Result<Object, Status> {
        let body = patch.to_string().into();
        self.call(target, Operation::Patch { patch_type, body, options: WriteOptions::default() }).await?.into_tree()
    }

    pub async fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Object, Status> {
        self.call(self.target(resource, namespace, name), Operation::Get { resource_version: None }).await?.into_tree()
    }

    pub async fn list(&self, resource: &str, namespace: &str, options: ListOptions) -> Result<troupe_api::service::ListReply, Status> {
        match self.call(self.target(resource, namespace, ""), Operation::List(options)).await?.body {
            ReplyBody::List(list) => Ok(list),
            other => panic!("a list answered with {other:?}"),
        }
    }

    /// The names that a list of everything shows.
    pub async fn names(&self, resource: &str, namespace: &str) -> Vec<String> {
        let list = self.list(resource, namespace, ListOptions::default()).await.expect("the list succeeds");
        list.items.iter().map(|object: &Arc<StoredObject>| object.key.name.to_string()).collect()
    }

    pub async fn delete(&self, resource: &str, namespace: &str, name: &str, options: DeleteOptions) -> Result<ApiReply, Status> {
        self.call(self.target(resource, namespace, name), Operation::Delete(options)).await
    }

    pub async fn try_watch(&self, resource: &str, namespace: &str, options: WatchOptions) -> Result<WatchStream, Status> {
        let target = self.target(resource, namespace, "");
        self.server.watch(self.user.clone(), target, options, Cause::root()).await
    }

    pub async fn watch(&self, resource: &str, namespace: &str, options: WatchOptions) -> WatchStream {
        self.try_watch(resource, namespace, options).await.expect("the watch begins")
    }
}
