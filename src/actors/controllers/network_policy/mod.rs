//! Network policies: tells nodes the addresses that policies mean by their peers, in EndpointSlices of the policies' namespace, or of
//! `kube-system` for those of the whole cluster. A node may not read the pods of others; what it needs of them is here, and no more. What domain
//! names lead to the cluster's DNS servers tell; of these slices this controller takes away what counts no more. Keys are namespaces.

mod expiry;
pub mod plan;
pub mod planned;
pub mod status;
mod world;

#[cfg(test)]
mod packet_tests;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
};
use troupe_api::{meta::ObjectKey, projection::MetaProjection};
use troupe_net::dns::domain_names;

use self::{
    plan::plan,
    world::{NodeView, World},
};
use super::endpointslice::apply;
use crate::{
    network_policy::{
        cluster::{self, ClusterNetworkPolicy},
        model::{PodView, PolicyView},
        slices::peers_of,
    },
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

/// See the module.
pub struct NetworkPolicyController {
    namespaces: Cache<Namespace>,
    slices: Cache<EndpointSlice>,
    world: Arc<World>,
}

const BY_NAMESPACE: &str = "endpointslice/peers";

impl NetworkPolicyController {
    pub fn new(caches: &Caches) -> Self {
        let slices: Cache<EndpointSlice> = caches.cache();
        let of = |slice: &MetaProjection| peers_of(slice).map(|(namespace, _)| namespace).into_iter().collect();
        slices.add_meta_index(BY_NAMESPACE, of);
        NetworkPolicyController { namespaces: caches.cache(), slices, world: Arc::default() }
    }
}

impl Controller for NetworkPolicyController {
    const NAME: &'static str = "networkpolicy";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Namespace>();
        let world = self.world.clone();
        watches.map::<Namespace>(move |change| {
            let labels = |namespace: Option<&Arc<Namespace>>| namespace.map(|namespace| namespace.metadata.labels.clone().unwrap_or_default());
            keys(world.set_namespace(&change.key.name, labels(change.after())))
        });
        let world = self.world.clone();
        watches.map::<NetworkPolicy>(move |change| keys(world.set_policy(&change.key, change.after().map(|policy| PolicyView::of(policy)))));
        let world = self.world.clone();
        watches.map::<ClusterNetworkPolicy>(move |change| {
            keys(world.set_cluster_policy(&change.key, change.after().and_then(|policy| cluster::parse(policy).policy)))
        });
        let world = self.world.clone();
        watches.map::<Node>(move |change| keys(world.set_node(&change.key.name, change.after().map(|node| NodeView::of(node)))));
        let world = self.world.clone();
        watches.map::<Pod>(move |change| {
            // The cache has the same texts.
            let own = |pod: &Pod, meta: &MetaProjection| PodView { key: change.key.clone(), uid: meta.uid.clone(), ..PodView::of(pod) };
            let view = change.after().zip(change.meta_after()).map(|(pod, meta)| own(pod, meta));
            keys(world.set_pod(&change.key, view))
        });
        watches.map::<EndpointSlice>(|change| {
            let slice = change.meta_after().or(change.meta_before());
            keys(slice.and_then(peers_of).map(|(namespace, _)| namespace))
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        if self.namespaces.get(key).is_none() {
            return Ok(Outcome::Done);
        }
        let slices = self.slices.by_index(BY_NAMESPACE, &key.name);
        if *key.name == *domain_names::NAMESPACE {
            let expiry = expiry::plan(&self.world.domain_names(), &slices, cx.now());
            apply(expiry.actions, &self.slices, &key.name, cx).await?;
            return Ok(expiry.next.map_or(Outcome::Done, Outcome::RequeueAfter));
        }
        let wanted = self.world.peers_of(&key.name);
        apply(plan(&key.name, wanted, &slices), &self.slices, &key.name, cx).await?;
        Ok(Outcome::Done)
    }
}

fn keys(namespaces: impl IntoIterator<Item = Arc<str>>) -> Vec<ObjectKey> {
    let unique: BTreeMap<Arc<str>, ()> = namespaces.into_iter().map(|namespace| (namespace, ())).collect();
    unique.into_keys().map(ObjectKey::cluster).collect()
}
