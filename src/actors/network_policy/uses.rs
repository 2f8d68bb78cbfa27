//! Which sets of peers this node needs: those of policies that select any of its pods. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use troupe_api::meta::ObjectKey;

use super::{cluster::HOME, model::PeerSet};

/// Sets by policy.
#[derive(Debug, Default)]
pub struct Uses {
    policies: HashMap<ObjectKey, BTreeMap<Arc<str>, PeerSet>>,
}

impl Uses {
    /// What a policy needs changed; `None` when it selects no pod here.
    pub fn set(&mut self, key: &ObjectKey, sets: Option<BTreeMap<Arc<str>, PeerSet>>) {
        match sets {
            Some(sets) => drop(self.policies.insert(key.clone(), sets)),
            None => drop(self.policies.remove(key)),
        }
    }

    /// All sets in use, with the namespace where the peers of each are told.
    pub fn all(&self) -> BTreeMap<Arc<str>, (Arc<str>, PeerSet)> {
        let home: Arc<str> = HOME.into();
        let place = |key: &ObjectKey| if key.namespace.is_empty() { home.clone() } else { key.namespace.clone() };
        let sets = self.policies.iter().flat_map(|(key, sets)| sets.iter().map(move |(id, set)| (key, id, set)));
        sets.map(|(key, id, set)| (id.clone(), (place(key), set.clone()))).collect()
    }
}
