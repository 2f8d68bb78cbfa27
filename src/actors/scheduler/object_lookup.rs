//! What a pod's scheduling depends on beside nodes and pods: namespaces, and whom the pod belongs to.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{ReplicaSet, StatefulSet},
    core::v1::{Namespace, Pod, ReplicationController, Service},
    policy::v1::PodDisruptionBudget,
};
use troupe_api::meta::{LabelSelector, ObjectKey};

use super::{budget::Budget, terms::Labels};
use crate::runtime::cache::{Cache, Caches};

/// Answers questions about other objects.
pub trait ObjectLookup {
    /// Labels of a namespace; none of one that is not known.
    fn namespace_labels(&self, namespace: &str) -> Arc<Labels>;

    /// Names of the namespaces with such labels.
    fn namespaces_matching(&self, selector: &LabelSelector) -> Vec<Arc<str>>;

    /// What selects the pod and its like: its Services and its owner (upstream's `helper.DefaultSelector`); selects everything where
    /// there is neither.
    fn default_selector(&self, pod: &Pod) -> LabelSelector;

    /// All disruption budgets.
    fn budgets(&self) -> Vec<Budget>;
}

/// A place without namespaces, owners and budgets.
pub struct NoObjects;

impl ObjectLookup for NoObjects {
    fn namespace_labels(&self, _namespace: &str) -> Arc<Labels> {
        Arc::default()
    }

    fn namespaces_matching(&self, _selector: &LabelSelector) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn default_selector(&self, _pod: &Pod) -> LabelSelector {
        LabelSelector::everything()
    }

    fn budgets(&self) -> Vec<Budget> {
        Vec::new()
    }
}

/// Services are filed under their namespaces.
const BY_NAMESPACE: &str = "namespace-with-selector";

/// The caches of this process.
pub struct CachedObjects {
    namespaces: Cache<Namespace>,
    services: Cache<Service>,
    controllers: Cache<ReplicationController>,
    replica_sets: Cache<ReplicaSet>,
    stateful_sets: Cache<StatefulSet>,
    budgets: Cache<PodDisruptionBudget>,
}

impl CachedObjects {
    pub fn new(caches: &Caches) -> Self {
        let around = CachedObjects {
            namespaces: caches.cache(),
            services: caches.cache(),
            controllers: caches.cache(),
            replica_sets: caches.cache(),
            stateful_sets: caches.cache(),
            budgets: caches.cache(),
        };
        around.services.add_index(BY_NAMESPACE, |service| {
            let selects = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some();
            let namespace = service.metadata.namespace.as_deref().filter(|_| selects);
            namespace.map(Arc::from).into_iter().collect()
        });
        around
    }

    /// Resolves when all are filled.
    pub fn synced(&self) -> impl Future<Output = ()> + use<> {
        let (namespaces, services, controllers) = (self.namespaces.clone(), self.services.clone(), self.controllers.clone());
        let (replica_sets, stateful_sets, budgets) = (self.replica_sets.clone(), self.stateful_sets.clone(), self.budgets.clone());
        async move {
            namespaces.synced().await;
            services.synced().await;
            controllers.synced().await;
            replica_sets.synced().await;
            stateful_sets.synced().await;
            budgets.synced().await;
        }
    }
}

impl ObjectLookup for CachedObjects {
    fn namespace_labels(&self, namespace: &str) -> Arc<Labels> {
        let cached = self.namespaces.get(&ObjectKey::cluster(namespace));
        Arc::new(cached.and_then(|cached| cached.object.metadata.labels.clone()).unwrap_or_default())
    }

    fn namespaces_matching(&self, selector: &LabelSelector) -> Vec<Arc<str>> {
        let matching = self.namespaces.select("", |meta| selector.matches_projection(&meta.labels));
        matching.iter().filter_map(|namespace| namespace.metadata.name.as_deref()).map(Arc::from).collect()
    }

    fn default_selector(&self, pod: &Pod) -> LabelSelector {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let services = self.services.by_index(BY_NAMESPACE, namespace);
        let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let owned = owner.map(|owner| {
            let key = ObjectKey::new(namespace, owner.name.as_str());
            match (owner.api_version.as_str(), owner.kind.as_str()) {
                ("v1", "ReplicationController") => {
                    let selector = self.controllers.get(&key).and_then(|owner| owner.object.spec.as_ref()?.selector.clone());
                    Owner::Equal(selector.unwrap_or_default())
                }
                ("apps/v1", "ReplicaSet") => {
                    Owner::of(self.replica_sets.get(&key).map(|owner| LabelSelector::from(owner.object.spec.as_ref().map(|spec| &spec.selector))))
                }
                ("apps/v1", "StatefulSet") => {
                    Owner::of(self.stateful_sets.get(&key).map(|owner| LabelSelector::from(owner.object.spec.as_ref().map(|spec| &spec.selector))))
                }
                _ => Owner::Equal(Labels::new()),
            }
        });
        let selectors = services.iter().filter_map(|service| service.spec.as_ref()?.selector.as_ref());
        default_selector(pod, selectors, owned)
    }

    fn budgets(&self) -> Vec<Budget> {
        self.budgets.list("").iter().map(|budget| Budget::of(budget)).collect()
    }
}

/// What an owner selects its pods by.
pub enum Owner {
    Equal(Labels),
    Selecting(LabelSelector),
}

impl Owner {
    fn of(selector: Option<LabelSelector>) -> Self {
        Owner::Selecting(selector.filter(|selector| !selector.nothing).unwrap_or_default())
    }
}

/// The selectors of the Services that select the pod, and its owner's, as one.
pub fn default_selector<'a>(pod: &Pod, services: impl Iterator<Item = &'a BTreeMap<String, String>>, owner: Option<Owner>) -> LabelSelector {
    let none = Labels::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
    let selects = |selector: &&BTreeMap<String, String>| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let mut equal: Labels = services.filter(selects).flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    match owner {
        Some(Owner::Equal(labels)) => {
            equal.extend(labels);
            LabelSelector::from_map(&equal)
        }
        Some(Owner::Selecting(selector)) => {
            let mut all = LabelSelector::from_map(&equal);
            all.requirements.extend(selector.requirements);
            all
        }
        None => LabelSelector::from_map(&equal),
    }
}
