//! Roles and bindings, decoded once when they change and found by whom they bind.
//!
//! In: what has changed in the watch caches. Out: the bindings that apply to a user in a namespace, and the rules of
//! roles, both shared. So what a request costs follows what binds its user, and what a change costs its own size;
//! nothing is kept per user.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use parking_lot::RwLock;
use serde::Deserialize;

use super::{GROUP, rules::Rule};
use crate::{
    auth::followed::Followed,
    meta::{GroupResource, ObjectKey, Revision},
    service::{ListerChange, Listers, UserInfo},
};

/// A binding of a role to subjects.
#[derive(Debug)]
pub struct Binding {
    pub name: Arc<str>,
    /// Empty for cluster role bindings.
    pub namespace: Arc<str>,
    pub role: RoleRef,
    pub subjects: Vec<Subject>,
}

/// A binding that applies to a user, and the place of its first subject that does.
pub type Applying = (Arc<Binding>, usize);

/// The rules of a role, or why they cannot be read.
pub type Rules = Result<Arc<[Arc<Rule>]>, String>;

/// The policy in the watch caches.
pub struct Policy {
    listers: Arc<dyn Listers>,
    resources: [GroupResource; 4],
    index: RwLock<Index>,
}

/// Bindings by name, with the first place among their subjects.
type ByName = BTreeMap<Arc<str>, Applying>;

/// Bindings by the name of whom they bind.
type Holders = HashMap<Arc<str>, ByName>;

/// The bindings of a namespace, or those of the cluster, by whom they bind. Service accounts stand among the users.
#[derive(Default)]
struct Bound {
    users: Holders,
    groups: Holders,
}

#[derive(Default)]
struct Index {
    followed: [Followed; 4],
    /// Roles have a namespace, cluster roles none.
    rules: HashMap<ObjectKey, Rules>,
    bindings: HashMap<ObjectKey, Arc<Binding>>,
    bound: HashMap<Arc<str>, Bound>,
}

impl Policy {
    pub fn new(listers: Arc<dyn Listers>) -> Self {
        let resources = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"].map(|name| GroupResource::new(GROUP, name));
        Policy { listers, resources, index: RwLock::default() }
    }

    /// The bindings that apply to a user: the cluster's by name, then those of a namespace unless that is empty.
    pub fn applying(&self, user: &UserInfo, namespace: &str) -> Vec<Applying> {
        self.read(|index| {
            let mut found = index.applying(user, "");
            if !namespace.is_empty() {
                found.extend(index.applying(user, namespace));
            }
            found
        })
    }

    /// The rules of a role; a cluster role has no namespace. `None` where there is no such role.
    pub fn rules(&self, namespace: &str, name: &str) -> Option<Rules> {
        self.read(|index| index.rules.get(&ObjectKey::new(namespace, name)).cloned())
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        let versions: [Option<Revision>; 4] = std::array::from_fn(|at| self.listers.version(&self.resources[at]));
        let index = self.index.read();
        if index.followed.iter().zip(&versions).all(|(followed, version)| followed.is_at(*version)) {
            return look(&index);
        }
        drop(index);
        let mut index = self.index.write();
        index.catch_up(&*self.listers, &self.resources);
        look(&index)
    }
}

/// What counts of a role.
#[derive(Deserialize)]
struct RoleBody {
    rules: Option<Vec<PolicyRule>>,
}

/// What counts of a binding.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingBody {
    role_ref: RoleRef,
    subjects: Option<Vec<Subject>>,
}

impl Index {
    fn catch_up(&mut self, listers: &dyn Listers, resources: &[GroupResource; 4]) {
        for (at, resource) in resources.iter().enumerate() {
            for change in self.followed[at].changes(listers, resource) {
                if at < 2 { self.apply_role(&change) } else { self.apply_binding(&change) }
            }
        }
    }

    fn apply_role(&mut self, change: &ListerChange) {
        match (&change.new, &change.old) {
            (Some(new), _) => {
                let body = serde_json::from_slice::<RoleBody>(&new.encoded());
                let rules = body.map(|body| body.rules.into_iter().flatten().map(|rule| Arc::new(Rule::from(rule))).collect());
                self.rules.insert(new.key.clone(), rules.map_err(|error| error.to_string()));
            }
            (None, Some(old)) => drop(self.rules.remove(&old.key)),
            (None, None) => {}
        }
    }

    fn apply_binding(&mut self, change: &ListerChange) {
        if let Some(binding) = change.old.as_ref().and_then(|old| self.bindings.remove(&old.key)) {
            self.unbind(&binding);
        }
        let Some(new) = &change.new else { return };
        // A binding that does not decode binds nobody.
        let Ok(BindingBody { role_ref, subjects }) = serde_json::from_slice(&new.encoded()) else { return };
        let ObjectKey { namespace, name } = new.key.clone();
        let binding = Arc::new(Binding { name, namespace, role: role_ref, subjects: subjects.unwrap_or_default() });
        self.bindings.insert(new.key.clone(), binding.clone());
        let bound = self.bound.entry(binding.namespace.clone()).or_default();
        for (at, subject) in binding.subjects.iter().enumerate() {
            let Some((holders, holder)) = bound.holders(subject, &binding.namespace) else { continue };
            // The first place counts.
            holders.entry(holder).or_default().entry(binding.name.clone()).or_insert_with(|| (binding.clone(), at));
        }
    }

    fn unbind(&mut self, binding: &Binding) {
        let Some(bound) = self.bound.get_mut(&binding.namespace) else { return };
        for subject in &binding.subjects {
            let Some((holders, holder)) = bound.holders(subject, &binding.namespace) else { continue };
            let Some(by_name) = holders.get_mut(&holder) else { continue };
            by_name.remove(&binding.name);
            if by_name.is_empty() {
                holders.remove(&holder);
            }
        }
        if bound.users.is_empty() && bound.groups.is_empty() {
            self.bound.remove(&binding.namespace);
        }
    }

    fn applying(&self, user: &UserInfo, namespace: &str) -> Vec<Applying> {
        let Some(bound) = self.bound.get(namespace) else { return Vec::new() };
        let as_user = bound.users.get(user.name.as_str());
        let as_groups = user.groups.iter().filter_map(|group| bound.groups.get(group.as_str()));
        let mut found: BTreeMap<&str, &Applying> = BTreeMap::new();
        for (name, applying) in as_user.into_iter().chain(as_groups).flatten() {
            let first = found.entry(name).or_insert(applying);
            if applying.1 < first.1 {
                *first = applying;
            }
        }
        found.into_values().cloned().collect()
    }
}

impl Bound {
    /// Where a subject of a binding stands, and under which name; `None` for one of an unknown kind.
    fn holders(&mut self, subject: &Subject, namespace: &str) -> Option<(&mut Holders, Arc<str>)> {
        match subject.kind.as_str() {
            "User" => Some((&mut self.users, subject.name.as_str().into())),
            "Group" => Some((&mut self.groups, subject.name.as_str().into())),
            "ServiceAccount" => {
                let namespace = subject.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or(namespace);
                let name = (!namespace.is_empty()).then(|| format!("system:serviceaccount:{namespace}:{}", subject.name));
                name.map(|name| (&mut self.users, name.into()))
            }
            _ => None,
        }
    }
}
