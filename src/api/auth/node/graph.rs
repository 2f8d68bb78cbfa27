//! Who uses what: nodes through their pods, and secrets through volumes.
//!
//! The graph is brought up to date when somebody asks, from what changed in the caches since the last question, so
//! that its cost follows the changes. What a pod leads to is remembered to take it away again.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::references::{self, Kind, Reference};
use crate::{
    meta::{GroupResource, ObjectKey, Revision},
    service::{ListerChange, ListerState, Listers},
};

/// How many of a node's pods lead to an object.
type Users = HashMap<Arc<str>, u32>;

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
    bound: HashMap<ObjectKey, (Arc<str>, Vec<Reference>)>,
    users: HashMap<Reference, Users>,
    /// Claimed volumes: the claim, and the secrets they are mounted with.
    claimed: HashMap<ObjectKey, (ObjectKey, Vec<ObjectKey>)>,
    /// Secrets by the claims whose volumes need them.
    mounted_with: HashMap<ObjectKey, HashMap<ObjectKey, u32>>,
}

/// How far a resource has been followed.
#[derive(Default)]
struct Followed {
    version: Option<Revision>,
    state: Option<ListerState>,
}

impl Followed {
    fn changes(&mut self, listers: &dyn Listers, resource: &GroupResource) -> Vec<ListerChange> {
        let version = listers.version(resource);
        if version.is_some() && version == self.version {
            return Vec::new();
        }
        let (state, changes) = listers.changes(resource, self.state.as_ref());
        *self = Followed { version, state: Some(state) };
        changes
    }
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
        let uses = |reference: &Reference| self.users.get(reference).is_some_and(|users| users.contains_key(node));
        if uses(&(kind, key.clone())) {
            return true;
        }
        let claims = self.mounted_with.get(key).filter(|_| kind == Kind::Secret);
        claims.is_some_and(|claims| claims.keys().any(|claim| uses(&(Kind::VolumeClaim, claim.clone()))))
    }

    fn apply_pod(&mut self, change: &ListerChange) {
        if let Some(old) = &change.old
            && let Some((node, gone)) = self.bound.remove(&old.key)
        {
            for reference in gone {
                let users = self.users.entry(reference.clone()).or_default();
                release(users, &node);
                if users.is_empty() {
                    self.users.remove(&reference);
                }
            }
        }
        let Some(new) = &change.new else { return };
        let pod = new.to_object();
        let node = pod.str(&["spec", "nodeName"]);
        if node.is_empty() {
            return;
        }
        let (node, found): (Arc<str>, _) = (node.into(), references::of_pod(&pod));
        for reference in &found {
            *self.users.entry(reference.clone()).or_default().entry(node.clone()).or_default() += 1;
        }
        self.bound.insert(new.key.clone(), (node, found));
    }

    fn apply_volume(&mut self, change: &ListerChange) {
        if let Some(old) = &change.old
            && let Some((claim, secrets)) = self.claimed.remove(&old.key)
        {
            for secret in secrets {
                let claims = self.mounted_with.entry(secret.clone()).or_default();
                release(claims, &claim);
                if claims.is_empty() {
                    self.mounted_with.remove(&secret);
                }
            }
        }
        let Some(new) = &change.new else { return };
        let Some((claim, secrets)) = references::of_volume(&new.to_object()) else { return };
        for secret in &secrets {
            *self.mounted_with.entry(secret.clone()).or_default().entry(claim.clone()).or_default() += 1;
        }
        self.claimed.insert(new.key.clone(), (claim, secrets));
    }
}

/// Takes one use away, and the user with its last one.
fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, user: &K) {
    if let Some(count) = counts.get_mut(user) {
        *count -= 1;
        if *count == 0 {
            counts.remove(user);
        }
    }
}
