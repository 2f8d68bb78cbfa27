//! What the kubelet needs of the cluster beside its pods: objects they refer to, tokens, status writes, events.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
    node::v1::RuntimeClass,
};
use serde_json::{Value, json};
use troupe_api::{
    Status,
    meta::{Cause, Clock, Object, time::parse_time},
    service::{DeleteOptions, PatchType, ReplyBody},
};
use troupe_api_client::Client;

use super::{
    trust_bundles::{BundleWatch, TrustBundles},
    volumes::payload::TokenRequest,
};

/// A service account token and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub token: String,
    pub issued: Timestamp,
    pub expires: Timestamp,
}

/// The cluster as pods on this node see it.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// `None` when it does not exist.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, Status>;
    /// `None` when it does not exist.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, Status>;
    /// `None` when it does not exist.
    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<Arc<ServiceAccount>>, Status>;
    /// `None` when it does not exist.
    async fn runtime_class(&self, name: &str) -> Result<Option<Arc<RuntimeClass>>, Status>;
    /// The node as it is now; `None` when it does not exist.
    async fn node(&self, name: &str) -> Result<Option<Arc<Node>>, Status>;
    /// `None` when it does not exist.
    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<Arc<PersistentVolumeClaim>>, Status>;
    /// `None` when it does not exist.
    async fn volume(&self, name: &str) -> Result<Option<Arc<PersistentVolume>>, Status>;
    /// The bundles of trust anchors; an error where nobody can tell.
    async fn trust_bundles(&self) -> Result<TrustBundles, Status> {
        Err(TrustBundles::not_served())
    }
    /// A token of the pod's service account, bound to the pod.
    async fn token(&self, pod: &Pod, request: &TokenRequest) -> Result<Token, Status>;
    /// The services that pods of a namespace may be told of: its own and `default/kubernetes`. Empty before they are known.
    fn services(&self, namespace: &str) -> Vec<Arc<Service>>;
    /// Merges `patch` into the pod's status, because of `cause`.
    async fn patch_status(&self, pod: &Pod, patch: &Value, cause: Cause) -> Result<(), Status>;
    /// Removes a pod of which nothing is left on this node. Succeeds when it is gone already.
    async fn finish_deletion(&self, pod: &Pod, cause: Cause) -> Result<(), Status>;
}

/// Reads the services for a namespace at the moment they are asked for.
pub type ServiceSource = Arc<dyn Fn(&str) -> Vec<Arc<Service>> + Send + Sync>;

/// The cluster behind an API server.
pub struct ApiCluster {
    client: Client,
    services: ServiceSource,
    bundles: BundleWatch,
    clock: Arc<dyn Clock>,
}

impl ApiCluster {
    /// `client` acts as the node, `system:node:<name>`.
    pub fn new(client: Client, services: ServiceSource, bundles: BundleWatch, clock: Arc<dyn Clock>) -> Self {
        ApiCluster { client, services, bundles, clock }
    }
}

/// Whether the pod comes from a manifest; the API shows a mirror of it.
pub fn is_static(pod: &Pod) -> bool {
    pod.metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.get("kubernetes.io/config.source").is_some_and(|source| matches!(source.as_str(), "file" | "http")))
}

fn identity(pod: &Pod) -> (&str, &str, &str) {
    let meta = &pod.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default())
}

#[async_trait]
impl Cluster for ApiCluster {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, Status> {
        self.client.namespaced::<ConfigMap>(namespace).get_opt(name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, Status> {
        self.client.namespaced::<Secret>(namespace).get_opt(name).await
    }

    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<Arc<ServiceAccount>>, Status> {
        self.client.namespaced::<ServiceAccount>(namespace).get_opt(name).await
    }

    async fn runtime_class(&self, name: &str) -> Result<Option<Arc<RuntimeClass>>, Status> {
        self.client.all::<RuntimeClass>().get_opt(name).await
    }

    async fn node(&self, name: &str) -> Result<Option<Arc<Node>>, Status> {
        self.client.all::<Node>().get_opt(name).await
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<Arc<PersistentVolumeClaim>>, Status> {
        self.client.namespaced::<PersistentVolumeClaim>(namespace).get_opt(name).await
    }

    async fn volume(&self, name: &str) -> Result<Option<Arc<PersistentVolume>>, Status> {
        self.client.all::<PersistentVolume>().get_opt(name).await
    }

    async fn trust_bundles(&self) -> Result<TrustBundles, Status> {
        self.bundles.bundles().await
    }

    async fn token(&self, pod: &Pod, request: &TokenRequest) -> Result<Token, Status> {
        let (namespace, name, uid) = identity(pod);
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let audiences = if request.audience.is_empty() { json!([]) } else { json!([request.audience]) };
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {"name": account, "namespace": namespace},
            "spec": {"audiences": audiences, "expirationSeconds": request.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}}});
        let body = Object::from_value(body).expect("written as an object");
        let reply = self.client.namespaced::<ServiceAccount>(namespace).create_subresource(account, "token", body).await?;
        let tree = match reply.body {
            ReplyBody::Tree(tree) => tree,
            ReplyBody::Object(stored) => stored.to_object(),
            _ => return Err(Status::internal("a TokenRequest was expected")),
        };
        let expires = parse_time(tree.str(&["status", "expirationTimestamp"])).map_err(Status::internal)?;
        Ok(Token { token: tree.str(&["status", "token"]).to_owned(), issued: self.clock.now(), expires })
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        (self.services)(namespace)
    }

    async fn patch_status(&self, pod: &Pod, patch: &Value, cause: Cause) -> Result<(), Status> {
        let (namespace, name, _) = identity(pod);
        let mut patch = patch.clone();
        if is_static(pod)
            && let Some(fields) = patch.as_object_mut()
        {
            // The mirror pod has a uid of its own.
            fields.remove("metadata");
        }
        self.client.caused_by(cause).namespaced::<Pod>(namespace).patch(name, "status", PatchType::StrategicMerge, &patch).await.map(drop)
    }

    async fn finish_deletion(&self, pod: &Pod, cause: Cause) -> Result<(), Status> {
        let (namespace, name, uid) = identity(pod);
        let uid = (!is_static(pod)).then(|| uid.to_owned());
        let options = DeleteOptions { grace_period_seconds: Some(0), precondition_uid: uid, ..DeleteOptions::default() };
        match self.client.caused_by(cause).namespaced::<Pod>(namespace).delete(name, options).await {
            Err(status) if status.is_not_found() || status.code == 409 => Ok(()),
            other => other,
        }
    }
}

/// No cluster at all: a node on its own, with static pods.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCluster;

#[async_trait]
impl Cluster for NoCluster {
    async fn config_map(&self, _namespace: &str, _name: &str) -> Result<Option<Arc<ConfigMap>>, Status> {
        Ok(None)
    }

    async fn secret(&self, _namespace: &str, _name: &str) -> Result<Option<Arc<Secret>>, Status> {
        Ok(None)
    }

    async fn service_account(&self, _namespace: &str, _name: &str) -> Result<Option<Arc<ServiceAccount>>, Status> {
        Ok(None)
    }

    async fn runtime_class(&self, _name: &str) -> Result<Option<Arc<RuntimeClass>>, Status> {
        Ok(None)
    }

    async fn node(&self, _name: &str) -> Result<Option<Arc<Node>>, Status> {
        Ok(None)
    }

    async fn claim(&self, _namespace: &str, _name: &str) -> Result<Option<Arc<PersistentVolumeClaim>>, Status> {
        Ok(None)
    }

    async fn volume(&self, _name: &str) -> Result<Option<Arc<PersistentVolume>>, Status> {
        Ok(None)
    }

    async fn token(&self, _pod: &Pod, _request: &TokenRequest) -> Result<Token, Status> {
        Err(Status::internal("there is no API server to give tokens"))
    }

    fn services(&self, _namespace: &str) -> Vec<Arc<Service>> {
        Vec::new()
    }

    async fn patch_status(&self, _pod: &Pod, _patch: &Value, _cause: Cause) -> Result<(), Status> {
        Ok(())
    }

    async fn finish_deletion(&self, _pod: &Pod, _cause: Cause) -> Result<(), Status> {
        Ok(())
    }
}
