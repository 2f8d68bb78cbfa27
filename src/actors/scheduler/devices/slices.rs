//! What drivers publish, filed so that looking at a node costs what that node can reach. Cheap to clone.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use k8s_openapi::api::resource::v1::{ResourceSlice, ResourceSliceSpec};

/// Slices by their names.
type Named = OrdMap<Arc<str>, Arc<ResourceSlice>>;

/// A pool: a driver's name and its own.
pub type PoolName = (Arc<str>, Arc<str>);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Slices {
    all: Named,
    /// Those of one node alone.
    by_node: OrdMap<Arc<str>, OrdSet<Arc<str>>>,
    /// Those of several nodes, and those with counters, which concern whoever looks at their pool.
    shared: OrdSet<Arc<str>>,
    by_pool: OrdMap<PoolName, OrdSet<Arc<str>>>,
}

/// The pool of a slice.
pub fn pool_of(spec: &ResourceSliceSpec) -> PoolName {
    (spec.driver.as_str().into(), spec.pool.name.as_str().into())
}

fn only_node(spec: &ResourceSliceSpec) -> Option<Arc<str>> {
    let has_counters = spec.shared_counters.as_ref().is_some_and(|counters| !counters.is_empty());
    spec.node_name.as_deref().filter(|name| !name.is_empty() && !has_counters).map(Arc::from)
}

fn name_of(slice: &ResourceSlice) -> Arc<str> {
    slice.metadata.name.as_deref().unwrap_or_default().into()
}

impl Slices {
    /// A slice is there, or is another one.
    pub fn set(&mut self, slice: Arc<ResourceSlice>) {
        let name = name_of(&slice);
        self.remove(&name);
        match only_node(&slice.spec) {
            Some(node) => drop(self.by_node.entry(node).or_default().insert(name.clone())),
            None => drop(self.shared.insert(name.clone())),
        }
        self.by_pool.entry(pool_of(&slice.spec)).or_default().insert(name.clone());
        self.all.insert(name, slice);
    }

    /// A slice is gone.
    pub fn remove(&mut self, name: &str) {
        let Some(slice) = self.all.remove(name) else { return };
        match only_node(&slice.spec) {
            Some(node) => take_out(&mut self.by_node, &node, name),
            None => drop(self.shared.remove(name)),
        }
        take_out(&mut self.by_pool, &pool_of(&slice.spec), name);
    }

    /// Those that may concern a node, in the order of their names.
    pub fn of_node(&self, node: &str) -> Vec<Arc<ResourceSlice>> {
        let own = self.by_node.get(node).into_iter().flatten();
        let mut names: Vec<&Arc<str>> = own.chain(&self.shared).collect();
        names.sort();
        names.into_iter().filter_map(|name| self.all.get(name).cloned()).collect()
    }

    /// All of a pool, in the order of their names.
    pub fn of_pool(&self, pool: &PoolName) -> Vec<Arc<ResourceSlice>> {
        self.by_pool.get(pool).into_iter().flatten().filter_map(|name| self.all.get(name).cloned()).collect()
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn take_out<K: Ord + Clone>(filed: &mut OrdMap<K, OrdSet<Arc<str>>>, under: &K, name: &str) {
    let Some(names) = filed.get_mut(under) else { return };
    names.remove(name);
    if names.is_empty() {
        filed.remove(under);
    }
}

impl FromIterator<ResourceSlice> for Slices {
    fn from_iter<I: IntoIterator<Item = ResourceSlice>>(slices: I) -> Self {
        let mut all = Slices::default();
        slices.into_iter().for_each(|slice| all.set(Arc::new(slice)));
        all
    }
}
