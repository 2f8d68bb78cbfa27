//! Who uses what: nodes through their pods, and secrets through volumes.
//!
//! The graph is brought up to date when somebody asks, from what changed in the caches since the last question, so
//! that its cost follows the changes. What a pod leads to is remembered to take it away again.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{
    references::{self, Kind, Reference},
    uses::Uses,
};
use crate::{
    auth::followed::Followed,
    meta::{GroupResource, ObjectKey},
    service::{ListerChange, Listers},
    shared::Shared,
};

/// The graph over the caches.
pub struct Graph {
    listers: Arc<dyn Listers>,
    edges: Mutex<Edges>,
}

#[derive(Default)]
struct Edges {
    pods: Followed,
    volumes: Followed,
    /// Each bound pod with its node and what it leads to.
    bound: HashMap<ObjectKey, (Arc<str>, Arc<[Reference]>)>,
    nodes: Shared<str>,
    /// Pods of one template lead to the same.
    references: Shared<[Reference]>,
    /// The nodes whose pods lead to an object.
    users: Uses<Reference, Arc<str>>,
    /// Claimed volumes: the claim, and the secrets they are mounted with.
    claimed: HashMap<ObjectKey, (ObjectKey, Vec<ObjectKey>)>,
    /// Secrets by the claims whose volumes need them.
    mounted_with: Uses<ObjectKey, ObjectKey>,
}

impl Graph {
    pub fn new(listers: Arc<dyn Listers>) -> Self {
        Graph { listers, edges: Mutex::default() }
    }

    /// Whether a pod on `node` leads to the object.
    pub fn leads_to(&self, node: &str, kind: Kind, key: &ObjectKey) -> bool {
        let mut edges = self.edges.lock();
        edges.catch_up(&*self.listers);
        edges.leads_to(node, kind, key)
    }
}

impl Edges {
    fn catch_up(&mut self, listers: &dyn Listers) {
        for change in self.pods.changes(listers, &GroupResource::new("", "pods")) {
            self.apply_pod(&change);
        }
        for change in self.volumes.changes(listers, &GroupResource::new("", "persistentvolumes")) {
            self.apply_volume(&change);
        }
    }

    fn leads_to(&self, node: &str, kind: Kind, key: &ObjectKey) -> bool {
        let uses = |reference: &Reference| self.users.is_held_by(reference, node);
        let through_a_claim = || self.mounted_with.holders(key).any(|claim| uses(&(Kind::VolumeClaim, claim.clone())));
        uses(&(kind, key.clone())) || (kind == Kind::Secret && through_a_claim())
    }

    fn apply_pod(&mut self, change: &ListerChange) {
        if let Some(old) = &change.old
            && let Some((node, gone)) = self.bound.remove(&old.key)
        {
            for reference in &*gone {
                self.users.release(reference, &node);
            }
            self.nodes.let_go(&node);
            self.references.let_go(&gone);
        }
        let Some(new) = &change.new else { return };
        let pod = new.to_object();
        let node = pod.str(&["spec", "nodeName"]);
        if node.is_empty() {
            return;
        }
        let (node, found) = (self.nodes.share(node), self.references.share(references::of_pod(&pod)));
        for reference in &*found {
            self.users.hold(reference, &node);
        }
        self.bound.insert(new.key.clone(), (node, found));
    }

    fn apply_volume(&mut self, change: &ListerChange) {
        if let Some(old) = &change.old
            && let Some((claim, secrets)) = self.claimed.remove(&old.key)
        {
            for secret in &secrets {
                self.mounted_with.release(secret, &claim);
            }
        }
        let Some(new) = &change.new else { return };
        let Some((claim, secrets)) = references::of_volume(&new.to_object()) else { return };
        for secret in &secrets {
            self.mounted_with.hold(secret, &claim);
        }
        self.claimed.insert(new.key.clone(), (claim, secrets));
    }
}
