//! What was chosen for pods that are being bound, and is not written yet: two pods that are decided on in the same moment never choose one
//! volume (upstream's assume caches). A choice counts as long as the API shows no newer version of what it was made on.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use parking_lot::Mutex;
use troupe_api::{meta::ObjectKey, stored::KubeObject};

use super::Choice;
use crate::storage::{SELECTED_NODE, annotation, binding::bound_volume};

/// Objects as they will be. The plugins of all profiles share it.
#[derive(Default)]
pub struct Assumed {
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    /// What was chosen for each pod.
    choices: HashMap<ObjectKey, Arc<Choice>>,
    /// With the pod for which each is assumed.
    volumes: HashMap<String, (ObjectKey, Arc<PersistentVolume>)>,
    claims: HashMap<ObjectKey, (ObjectKey, Arc<PersistentVolumeClaim>)>,
}

impl Assumed {
    /// A pod will take these, on this node.
    pub fn assume(&self, pod: ObjectKey, choice: Choice, node: &str) {
        let mut all = self.all.lock();
        for (claim, volume) in &choice.bindings {
            if let Some(bound) = bound_volume(volume, claim) {
                all.volumes.insert(name_of(&**volume).to_owned(), (pod.clone(), Arc::new(bound)));
            }
        }
        for claim in &choice.provisions {
            if annotation(&claim.metadata, SELECTED_NODE) != Some(node) {
                all.claims.insert(claim_key(claim), (pod.clone(), Arc::new(with_node(claim, node))));
            }
        }
        all.choices.insert(pod, Arc::new(choice));
    }

    /// What was chosen for a pod.
    pub fn choice(&self, pod: &ObjectKey) -> Option<Arc<Choice>> {
        self.all.lock().choices.get(pod).cloned()
    }

    /// The pod takes nothing any more, or has it.
    pub fn forget(&self, pod: &ObjectKey) {
        let mut all = self.all.lock();
        if all.choices.remove(pod).is_some() {
            all.volumes.retain(|_, (owner, _)| owner != pod);
            all.claims.retain(|_, (owner, _)| owner != pod);
        }
    }

    /// A volume as it will be, by what the API shows of it.
    pub fn volume(&self, shown: Arc<PersistentVolume>) -> Arc<PersistentVolume> {
        let all = self.all.lock();
        newest(all.volumes.get(name_of(&*shown)), shown)
    }

    /// The same of a claim.
    pub fn claim(&self, shown: Arc<PersistentVolumeClaim>) -> Arc<PersistentVolumeClaim> {
        let all = self.all.lock();
        if all.claims.is_empty() {
            return shown;
        }
        newest(all.claims.get(&claim_key(&shown)), shown)
    }
}

/// What is assumed, if it was made on what is shown.
fn newest<K: KubeObject>(assumed: Option<&(ObjectKey, Arc<K>)>, shown: Arc<K>) -> Arc<K> {
    let same = |assumed: &&Arc<K>| {
        let (assumed, shown) = (assumed.metadata(), shown.metadata());
        assumed.resource_version == shown.resource_version && assumed.uid == shown.uid
    };
    assumed.map(|(_, assumed)| assumed).filter(same).cloned().unwrap_or(shown)
}

fn name_of<K: KubeObject>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

fn claim_key(claim: &PersistentVolumeClaim) -> ObjectKey {
    ObjectKey::new(claim.metadata.namespace.as_deref().unwrap_or_default(), name_of(claim))
}

/// A claim for which a volume is to be made on a node.
pub fn with_node(claim: &PersistentVolumeClaim, node: &str) -> PersistentVolumeClaim {
    let mut selected = claim.clone();
    selected.metadata.annotations.get_or_insert_default().insert(SELECTED_NODE.to_owned(), node.to_owned());
    selected
}
