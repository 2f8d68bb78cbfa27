//! Making and deleting pods for an owner, with the events that upstream writes about it.

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodTemplateSpec};
use troupe_api::{meta::ObjectKey, status::Status, stored::KubeObject};
use troupe_api_client::Api;

use super::{
    owners::{controller_reference, is_staying},
    pace,
    writes::{delete_with_uid, is_namespace_terminating},
};
use crate::runtime::{cache::Cache, controller::ReconcileContext, turn};

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

/// Pods that are on their way to the server at once have no more bytes than this together: a template may be as large as a request.
const IN_FLIGHT: usize = 16 << 20;

/// So many pods of a batch are under way at once, and no more bytes than are decoded in a turn. What admission has to do for them is done where they
/// are made: others on the same arbiter wait for these.
const UNDER_WAY: usize = 16;

/// How many pods like this one are under way at once.
fn under_way(pod: &Pod) -> usize {
    (turn::BYTES / pace::length(pod).max(1)).clamp(1, UNDER_WAY)
}

/// How many pods like this one may be made in a batch.
fn at_once(pod: &Pod) -> usize {
    (IN_FLIGHT / pace::length(pod).max(1)).max(1)
}

/// How many pods are made at a time: 1, 2, 4, … and never more than may be on their way.
fn batches(count: usize, at_once: impl Fn() -> usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (mut made, mut batch, mut most) = (0, 1, None);
    std::iter::from_fn(move || {
        let now = made..(made + batch).min(count);
        (made, batch) = (now.end, (now.len() * 2).min(*most.get_or_insert_with(&at_once)));
        (!now.is_empty()).then_some(now)
    })
}

/// Writes pods for one owner.
pub struct PodControl<'a, K> {
    owner: &'a K,
    owners: &'a Cache<K>,
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

impl<'a, K: KubeObject> PodControl<'a, K> {
    pub fn new(owner: &'a K, owners: &'a Cache<K>, pods: &'a Cache<Pod>, cx: &'a ReconcileContext) -> Self {
        let namespace = owner.metadata().namespace.clone().unwrap_or_default();
        PodControl { owner, owners, api: cx.client().namespaced(namespace.as_str()), about: ReconcileContext::reference(owner), namespace, pods, cx }
    }

    /// Creates pods in growing batches (1, 2, 4, …), so that a quota or a bad template costs one failed call and not hundreds. A pod is made
    /// by its number when its turn comes; an owner that is deleted meanwhile gets no more.
    pub async fn create(&self, count: usize, make: impl Fn(usize) -> Pod) -> Result<(), CreateFailed> {
        for batch in batches(count, || at_once(&make(0))) {
            if !is_staying(self.owners, self.owner) {
                return Ok(());
            }
            let later = count - batch.end;
            let now: Vec<Pod> = batch.map(&make).collect();
            let (mut failed, mut first) = (0, None);
            let under_way = now.first().map_or(1, under_way);
            let results: Vec<_> = stream::iter(now.iter().map(|pod| self.api.create(pod))).buffered(under_way).collect().await;
            for result in results {
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
                return Err(CreateFailed { missing: failed + later, status });
            }
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    use super::*;

    #[test]
    fn large_pods_go_out_few_at_a_time() {
        let pod = |bytes: usize| {
            let container = Container { name: "c".into(), args: Some(vec!["x".repeat(bytes)]), ..Container::default() };
            Pod { spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }), ..Pod::default() }
        };
        let sizes = |count, bytes| batches(count, || at_once(&pod(bytes))).map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!(sizes(500, 10), [1, 2, 4, 8, 16, 32, 64, 128, 245]);
        let large = sizes(500, 1 << 20);
        assert_eq!((large.iter().sum::<usize>(), large.iter().max()), (500, Some(&15)), "{large:?}");
        assert!(sizes(3, 32 << 20).iter().all(|batch| *batch == 1));
        assert_eq!(sizes(0, 10), Vec::<usize>::new());
    }
}
