//! All rows of the resource table, to be found by what requests name.

use std::{collections::HashMap, sync::Arc};

use super::resource::Resource;

/// The whole table at one moment. Immutable; share it by `Arc`.
#[derive(Debug, Default)]
pub struct Registry {
    rows: Vec<Arc<Resource>>,
    by_resource: ByGroup,
    by_kind: ByGroup,
}

/// Rows by group, then by plural or kind: looked up without allocating.
type ByGroup = HashMap<Arc<str>, HashMap<Arc<str>, Arc<Resource>>>;

impl Registry {
    pub fn new(rows: Vec<Arc<Resource>>) -> Self {
        let (mut by_resource, mut by_kind) = (ByGroup::new(), ByGroup::new());
        for row in &rows {
            by_resource.entry(row.group.clone()).or_default().insert(row.plural.clone(), row.clone());
            by_kind.entry(row.group.clone()).or_default().insert(row.kind.clone(), row.clone());
        }
        Registry { rows, by_resource, by_kind }
    }

    /// Rows in the order of discovery.
    pub fn rows(&self) -> &[Arc<Resource>] {
        &self.rows
    }

    /// By group and plural name.
    pub fn by_resource(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.by_resource.get(group)?.get(plural).cloned()
    }

    /// By group and kind.
    pub fn by_kind(&self, group: &str, kind: &str) -> Option<Arc<Resource>> {
        self.by_kind.get(group)?.get(kind).cloned()
    }
}
