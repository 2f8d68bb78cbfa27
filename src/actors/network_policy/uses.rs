//! Which sets of peers this node needs: those of policies that select any of its pods. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use troupe_api::meta::ObjectKey;

use super::model::{PeerSet, PodView, PolicyView};

/// Sets by policy.
#[derive(Debug, Default)]
pub struct Uses {
    policies: HashMap<ObjectKey, BTreeMap<Arc<str>, PeerSet>>,
}

impl Uses {
    /// A policy, or the pods of its namespace, changed.
    pub fn set(&mut self, key: &ObjectKey, policy: Option<&PolicyView>, pods: &[Arc<PodView>]) {
        match policy.filter(|policy| pods.iter().any(|pod| policy.selects(pod))) {
            Some(policy) => drop(self.policies.insert(key.clone(), policy.peer_sets())),
            None => drop(self.policies.remove(key)),
        }
    }

    /// All sets in use, with the namespace of a policy that uses each.
    pub fn all(&self) -> BTreeMap<Arc<str>, (Arc<str>, PeerSet)> {
        let sets = self.policies.iter().flat_map(|(key, sets)| sets.iter().map(move |(id, set)| (id, (&key.namespace, set))));
        sets.map(|(id, (namespace, set))| (id.clone(), (namespace.clone(), set.clone()))).collect()
    }
}
