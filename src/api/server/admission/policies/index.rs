//! The policies that have bindings, compiled when they change, and which of them may concern a resource.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use troupe_api::{
    aside,
    meta::{GroupResource, Revision},
    metrics::{Collect, Departures},
    resources::Resource,
    service::Listers,
    status::Status,
    stored::StoredObject,
};

use super::{
    GROUP,
    metrics::{self, Named},
    policy::{Binding, Policy},
};
use crate::admission::Reads;

/// A policy with its bindings.
#[derive(Debug)]
pub struct Hook {
    pub policy: Arc<Policy>,
    pub bindings: Vec<Arc<Binding>>,
}

/// See the module. Looking at it costs a request a few looks at tables.
pub struct Index {
    policies: GroupResource,
    bindings: GroupResource,
    compiled: ArcSwap<Compiled>,
    /// Held while policies are compiled, so that nobody does it twice.
    turn: tokio::sync::Mutex<Departures<Named>>,
    /// What counts in series that these policies and bindings name.
    collectors: &'static [&'static dyn Collect],
}

/// What was made of an object, by its name, as long as it has that revision.
type Made<T> = HashMap<Box<str>, (Revision, Arc<T>)>;

type Hooks = Arc<[Arc<Hook>]>;

#[derive(Default)]
struct Compiled {
    /// Of policies and bindings.
    versions: Option<(Revision, Revision)>,
    policies: Made<Policy>,
    bindings: Made<Binding>,
    hooks: Vec<Arc<Hook>>,
    /// The hooks that may concern the resources which share a prefix in the store.
    concerned: RwLock<HashMap<Arc<str>, Hooks>>,
}

/// Compiling a byte takes as long as so many bytes of a document that is decoded.
const WORK_PER_BYTE: usize = 16;

impl Index {
    pub fn new(policies: &str, bindings: &str, collectors: &'static [&'static dyn Collect]) -> Self {
        Index {
            policies: GroupResource::new(GROUP, policies),
            bindings: GroupResource::new(GROUP, bindings),
            compiled: ArcSwap::default(),
            turn: tokio::sync::Mutex::default(),
            collectors,
        }
    }

    fn versions(&self, listers: &dyn Listers) -> Option<(Revision, Revision)> {
        Some((listers.version(&self.policies)?, listers.version(&self.bindings)?))
    }

    /// The policies that may concern a resource, by their names.
    ///
    /// # Errors
    /// 503 when a policy or binding cannot be read.
    pub async fn hooks(&self, reads: &dyn Reads, resource: &Resource) -> Result<Arc<[Arc<Hook>]>, Status> {
        let listers = reads.listers();
        let compiled = self.compiled.load_full();
        if compiled.versions.is_some() && compiled.versions == self.versions(listers) {
            return Ok(compiled.concerned(reads, resource));
        }
        listers.require(&self.policies)?;
        listers.require(&self.bindings)?;
        let mut names = self.turn.lock().await;
        // Asked before the lists, which may be newer: then they are made once more.
        let versions = self.versions(listers);
        let before = self.compiled.load_full();
        if before.versions.is_some() && before.versions == versions {
            return Ok(before.concerned(reads, resource));
        }
        let (policies, bindings) = (listers.list(&self.policies, ""), listers.list(&self.bindings, ""));
        let changed = |object: &&Arc<StoredObject>| before.policies.get(&*object.key.name).is_none_or(|(revision, _)| *revision != object.revision);
        let work = policies.iter().filter(changed).map(|object| object.encoded_length()).sum::<usize>() * WORK_PER_BYTE;
        let compiled = aside::compute(work, move || Arc::new(Compiled::new(versions, &policies, &bindings, &before))).await;
        self.compiled.store(compiled.clone());
        if names.follow(compiled.names()) {
            metrics::forget(self.collectors, &names);
        }
        Ok(compiled.concerned(reads, resource))
    }
}

impl Compiled {
    fn new(versions: Option<(Revision, Revision)>, policies: &[Arc<StoredObject>], bindings: &[Arc<StoredObject>], before: &Compiled) -> Self {
        let bindings = made(bindings, &before.bindings, |object| Binding::read(&object.to_object()));
        let mut of_policies: HashMap<Box<str>, Vec<Arc<Binding>>> = HashMap::new();
        let mut ordered: Vec<&Arc<Binding>> = bindings.values().map(|(_, binding)| binding).collect();
        ordered.sort_by(|one, other| one.name.cmp(&other.name));
        for binding in ordered {
            of_policies.entry(binding.policy.clone()).or_default().push(binding.clone());
        }
        // Nobody asks a policy without bindings.
        let bound: Vec<Arc<StoredObject>> = policies.iter().filter(|policy| of_policies.contains_key(&*policy.key.name)).cloned().collect();
        let policies = made(&bound, &before.policies, |object| Policy::read(&object.to_object()));
        let hook = |stored: &Arc<StoredObject>| {
            let (_, policy) = policies.get(&*stored.key.name)?;
            Some(Arc::new(Hook { policy: policy.clone(), bindings: of_policies.get(&policy.name)?.clone() }))
        };
        let hooks = bound.iter().filter_map(hook).collect();
        Compiled { versions, policies, bindings, hooks, concerned: RwLock::default() }
    }

    /// What metrics are named by.
    fn names(&self) -> BTreeSet<Named> {
        let policies = self.policies.keys().cloned().map(Named::Policy);
        policies.chain(self.bindings.keys().cloned().map(Named::Binding)).collect()
    }

    fn concerned(&self, reads: &dyn Reads, resource: &Resource) -> Arc<[Arc<Hook>]> {
        if let Some(known) = self.concerned.read().get(&resource.storage_prefix) {
            return known.clone();
        }
        let registry = reads.registry();
        let rows: Vec<_> = registry.rows().iter().filter(|row| row.storage_prefix == resource.storage_prefix).collect();
        let may_concern = |hook: &&Arc<Hook>| {
            let resources = &hook.policy.resources;
            resources.may_match(resource) || rows.iter().any(|row| resources.may_match(row))
        };
        let hooks: Arc<[Arc<Hook>]> = self.hooks.iter().filter(may_concern).cloned().collect();
        self.concerned.write().insert(resource.storage_prefix.clone(), hooks.clone());
        hooks
    }
}

fn made<T>(objects: &[Arc<StoredObject>], before: &Made<T>, make: impl Fn(&StoredObject) -> T) -> Made<T> {
    let one = |object: &Arc<StoredObject>| {
        let known = before.get(&*object.key.name).filter(|(revision, _)| *revision == object.revision).map(|(_, known)| known.clone());
        (Box::from(&*object.key.name), (object.revision, known.unwrap_or_else(|| Arc::new(make(object)))))
    };
    objects.iter().map(one).collect()
}
