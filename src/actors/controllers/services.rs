//! Which pods a Service selects, and which Services a pod's change concerns.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Pod, Service};
use troupe_api::{
    meta::{LabelSelector, ObjectKey},
    projection::Labels,
    stored::StoredObject,
};

use super::{by_selector, pods::BY_NODE};
use crate::runtime::cache::{Cache, Change};

/// The pods a Service selects as they are stored, in the order of their keys; `None` for Services without selector, whose endpoints are
/// somebody else's business.
pub fn selected_pods(service: &Service, pods: &Cache<Pod>) -> Option<Vec<Arc<StoredObject>>> {
    let selector = selector(service)?;
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    Some(pods.select_stored(namespace, |meta| selector.matches_projection(&meta.labels)))
}

fn selector(service: &Service) -> Option<LabelSelector> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let labels = spec.selector.as_ref().filter(|labels| !labels.is_empty())?;
    Some(LabelSelector::from_map(labels))
}

/// Makes the cache of Services ready for [`services_of`].
pub fn index(services: Cache<Service>) -> Cache<Service> {
    by_selector::index(services, selector)
}

/// The Services that select the pod, as it is or as it was.
pub fn services_of(services: &Cache<Service>, change: &Change<Pod>) -> Vec<ObjectKey> {
    if !concerns_endpoints(change) {
        return Vec::new();
    }
    by_selector::selecting(services, &change.key.namespace, change.labels())
}

/// The Services that select a pod of the node, as far as the cache has its pods by [`BY_NODE`].
pub fn services_on(services: &Cache<Service>, pods: &Cache<Pod>, node: &str) -> Vec<ObjectKey> {
    let pods = pods.by_index_stored(BY_NODE, node, |_| true);
    // The selectors of a namespace are read once for all of its pods.
    let mut labels: BTreeMap<&str, Vec<&Labels>> = BTreeMap::new();
    for pod in &pods {
        let namespace: &str = &pod.key.namespace;
        labels.entry(namespace).or_default().push(&pod.meta().labels);
    }
    labels.into_iter().flat_map(|(namespace, labels)| by_selector::selecting(services, namespace, labels.iter().copied())).collect()
}

/// Whether anything changed that an endpoint shows.
fn concerns_endpoints(change: &Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (change.before(), change.after()) else { return true };
    let shown = |pod: &Pod| {
        let status = pod.status.as_ref();
        let spec = pod.spec.as_ref();
        (
            pod.metadata.labels.clone(),
            pod.metadata.deletion_timestamp.is_some(),
            status.and_then(|status| status.pod_ip.clone()),
            status.and_then(|status| status.phase.clone()),
            super::pods::is_ready(pod),
            spec.and_then(|spec| spec.node_name.clone()),
        )
    };
    shown(old) != shown(new)
}
