//! What this node has promised its pods.
//!
//! `kubelet/pods` alone writes; workers read without locks and see each pod with the resources that are allocated to it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceRequirements};
use serde::{Deserialize, Serialize};

use super::{
    amounts::{resizable, same_amount, same_amounts},
    record::Record,
};

/// The resources allocated to a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allocated {
    /// By container name.
    pub containers: BTreeMap<String, ResourceRequirements>,
    /// Of the pod as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<ResourceRequirements>,
}

impl Allocated {
    /// All that a spec asks for.
    pub fn of(spec: &PodSpec) -> Self {
        let containers = resizable(spec).map(|container| (container.name.clone(), container.resources.clone().unwrap_or_default()));
        Allocated { containers: containers.collect(), pod: spec.resources.clone() }
    }

    /// Whether a spec asks for no other CPU and memory.
    pub fn covers(&self, spec: &PodSpec) -> bool {
        let covered = |name: &str, wanted| self.containers.get(name).is_none_or(|known| same_amounts(Some(known), wanted));
        same_amounts(self.pod.as_ref(), spec.resources.as_ref())
            && resizable(spec).all(|container| covered(&container.name, container.resources.as_ref()))
    }

    /// Whether a spec asks for no other CPUs.
    pub fn covers_cpus(&self, spec: &PodSpec) -> bool {
        let covered = |name: &str, wanted| self.containers.get(name).is_none_or(|known| same_amount("cpu", Some(known), wanted));
        resizable(spec).all(|container| covered(&container.name, container.resources.as_ref()))
    }

    /// Whether a spec asks for no other memory.
    pub fn covers_memory(&self, spec: &PodSpec) -> bool {
        let covered = |name: &str, wanted| self.containers.get(name).is_none_or(|known| same_amount("memory", Some(known), wanted));
        resizable(spec).all(|container| covered(&container.name, container.resources.as_ref()))
    }

    /// The pod with these resources in the place of what its spec asks for.
    pub fn applied_to(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let Some(spec) = pod.spec.as_ref().filter(|spec| !self.covers(spec)) else { return pod.clone() };
        let mut spec = spec.clone();
        if !same_amounts(self.pod.as_ref(), spec.resources.as_ref()) {
            spec.resources = self.pod.clone();
        }
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            let known = self.containers.get(&container.name);
            if let Some(known) = known.filter(|known| !same_amounts(Some(known), container.resources.as_ref())) {
                container.resources = Some(known.clone());
            }
        }
        Arc::new(Pod { spec: Some(spec), ..Pod::clone(pod) })
    }
}

/// Why a desired size is not allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// [`DEFERRED`]: this node tries again. [`INFEASIBLE`]: it never will.
    pub reason: &'static str,
    pub message: String,
    /// The pod's generation that asks for it.
    pub generation: i64,
}

/// The reason of `PodResizePending` while others have what the pod asks for.
pub const DEFERRED: &str = "Deferred";
/// The same for what can never be given here.
pub const INFEASIBLE: &str = "Infeasible";

/// One pod's allocation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodAllocation {
    pub allocated: Allocated,
    /// The pod's generation whose resources these are.
    pub generation: i64,
    /// The generation that was looked at last.
    pub judged: i64,
    pub pending: Option<Pending>,
}

impl PodAllocation {
    /// A pod that is let in gets what it asks for.
    pub fn admitted(pod: &Pod) -> Self {
        let allocated = pod.spec.as_ref().map(Allocated::of).unwrap_or_default();
        PodAllocation { allocated, generation: generation(pod), judged: generation(pod), pending: None }
    }
}

/// A pod's generation; 0 for pods of manifests.
pub fn generation(pod: &Pod) -> i64 {
    pod.metadata.generation.unwrap_or(0)
}

/// A pod as its worker sees it.
#[derive(Clone, Debug)]
pub enum View {
    /// With what is allocated to it.
    Allocated(Arc<Pod>, Option<Arc<PodAllocation>>),
    /// It asks for another size, which nobody has looked at yet.
    Unjudged(Arc<Pod>, Arc<PodAllocation>),
}

/// The allocations of all pods of this node by uid.
#[derive(Debug, Default)]
pub struct Allocations {
    pods: ArcSwap<BTreeMap<String, Arc<PodAllocation>>>,
}

impl Allocations {
    /// Those that were recorded on disk. One that cannot be read is as good as none: the pod then has what its spec says. Blocking.
    pub fn load(kubelet_root: &Path) -> Self {
        let known = Record::all(kubelet_root).into_iter().map(|(uid, record)| {
            let generation = record.generation;
            (uid, Arc::new(PodAllocation { allocated: record.allocated, generation, judged: generation, pending: None }))
        });
        Allocations { pods: ArcSwap::from_pointee(known.collect()) }
    }

    pub fn get(&self, uid: &str) -> Option<Arc<PodAllocation>> {
        self.pods.load().get(uid).cloned()
    }

    /// Sets a pod's allocation. Only one unit may write.
    pub fn set(&self, uid: &str, allocation: PodAllocation) {
        self.pods.rcu(|pods| {
            let mut pods = BTreeMap::clone(pods);
            pods.insert(uid.to_owned(), Arc::new(allocation.clone()));
            pods
        });
    }

    /// Forgets a pod.
    pub fn remove(&self, uid: &str) {
        if self.pods.load().contains_key(uid) {
            self.pods.rcu(|pods| {
                let mut pods = BTreeMap::clone(pods);
                pods.remove(uid);
                pods
            });
        }
    }

    /// A pod with what is allocated to it; as its spec says where nothing is known.
    pub fn applied_to(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let known = pod.metadata.uid.as_deref().and_then(|uid| self.get(uid));
        known.map_or_else(|| pod.clone(), |known| known.allocated.applied_to(pod))
    }

    /// A pod as its worker is to see it.
    pub fn view(&self, pod: Arc<Pod>) -> View {
        let Some(known) = pod.metadata.uid.as_deref().and_then(|uid| self.get(uid)) else { return View::Allocated(pod, None) };
        let covered = pod.spec.as_ref().is_none_or(|spec| known.allocated.covers(spec));
        let seen = known.allocated.applied_to(&pod);
        if covered || known.judged >= generation(&pod) { View::Allocated(seen, Some(known)) } else { View::Unjudged(seen, known) }
    }
}
