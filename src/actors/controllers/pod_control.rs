//! Making and deleting pods for an owner, with the events that upstream writes about it.

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodTemplateSpec};
use troupe_api::{client::Api, meta::ObjectKey, status::Status, stored::KubeObject};

use super::{
    owners::controller_reference,
    writes::{delete_with_uid, is_namespace_terminating},
};
use crate::runtime::{cache::Cache, controller::ReconcileContext};

/// The pod that a template of `owner` makes, named by the server.
pub fn pod_from_template<K: KubeObject>(template: &PodTemplateSpec, owner: &K) -> Pod {
    let mut pod = Pod { spec: template.spec.clone(), ..Pod::default() };
    if let Some(meta) = &template.metadata {
        pod.metadata.labels = meta.labels.clone();
        pod.metadata.annotations = meta.annotations.clone();
        pod.metadata.finalizers = meta.finalizers.clone();
    }
    pod.metadata.namespace = owner.metadata().namespace.clone();
    pod.metadata.generate_name = Some(format!("{}-", owner.metadata().name.as_deref().unwrap_or_default()));
    pod.metadata.owner_references = Some(vec![controller_reference(owner)]);
    pod
}

/// Writes pods for one owner.
pub struct PodControl<'a> {
    api: Api<Pod>,
    about: ObjectReference,
    namespace: String,
    pods: &'a Cache<Pod>,
    cx: &'a ReconcileContext,
}

/// How many pods could not be made, and why the first of them could not.
#[derive(Debug)]
pub struct CreateFailed {
    pub missing: usize,
    pub status: Status,
}

impl<'a> PodControl<'a> {
    pub fn new<K: KubeObject>(owner: &K, pods: &'a Cache<Pod>, cx: &'a ReconcileContext) -> Self {
        let namespace = owner.metadata().namespace.clone().unwrap_or_default();
        PodControl { api: cx.client().namespaced(namespace.as_str()), about: ReconcileContext::reference(owner), namespace, pods, cx }
    }

    /// Creates pods in growing batches (1, 2, 4, …), so that a quota or a bad template costs one failed call and not hundreds.
    pub async fn create(&self, wanted: &[Pod]) -> Result<(), CreateFailed> {
        let (mut left, mut batch) = (wanted, 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            let (mut failed, mut first) = (0, None);
            for result in join_all(now.iter().map(|pod| self.api.create(pod))).await {
                match result {
                    Ok(made) => {
                        self.cx.wrote(self.pods, &*made);
                        let name = made.metadata.name.as_deref().unwrap_or_default();
                        self.cx.events().normal(&self.about, "SuccessfulCreate", format!("Created pod: {name}"));
                    }
                    Err(status) if is_namespace_terminating(&status) => return Ok(()),
                    Err(status) => {
                        self.cx.events().warning(&self.about, "FailedCreate", format!("Error creating: {status}"));
                        failed += 1;
                        first.get_or_insert(status);
                    }
                }
            }
            if let Some(status) = first {
                return Err(CreateFailed { missing: failed + later.len(), status });
            }
            (left, batch) = (later, batch * 2);
        }
        Ok(())
    }

    /// Deletes the pod if it still is the one with this UID.
    pub async fn delete(&self, name: &str, uid: &str) -> Result<(), Status> {
        if let Err(status) = delete_with_uid(&self.api, name, uid).await {
            self.cx.events().warning(&self.about, "FailedDelete", format!("Error deleting: {status}"));
            return Err(status);
        }
        self.cx.deleted(self.pods, ObjectKey::new(self.namespace.as_str(), name), uid);
        self.cx.events().normal(&self.about, "SuccessfulDelete", format!("Deleted pod: {name}"));
        Ok(())
    }
}
