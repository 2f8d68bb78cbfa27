//! All rows of the resource table, to be found by what requests name.

use std::{collections::HashMap, sync::Arc};

use super::{
    aggregated::Aggregated,
    priorities::{self, Priority},
    resource::Resource,
};

/// The whole table at one moment. Immutable; share it by `Arc`.
#[derive(Debug, Default)]
pub struct Registry {
    rows: Vec<Arc<Resource>>,
    by_resource: ByGroup,
    by_kind: ByGroup,
    aggregated: Arc<Aggregated>,
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
        Registry { rows, by_resource, by_kind, aggregated: Arc::default() }
    }

    /// The same beside what other servers answer for. Their resources are found by name where there is none of that name here.
    #[must_use]
    pub fn with_aggregated(mut self, aggregated: Arc<Aggregated>) -> Self {
        for row in aggregated.rows() {
            self.by_resource.entry(row.group.clone()).or_default().entry(row.plural.clone()).or_insert_with(|| row.clone());
            self.by_kind.entry(row.group.clone()).or_default().entry(row.kind.clone()).or_insert_with(|| row.clone());
        }
        Registry { aggregated, ..self }
    }

    /// What other servers answer for.
    pub fn aggregated(&self) -> &Arc<Aggregated> {
        &self.aggregated
    }

    /// Whether another server answers for a version, whatever is there here.
    pub fn is_elsewhere(&self, group: &str, version: &str) -> bool {
        self.aggregated.version(group, version).is_some()
    }

    /// Whether somebody can be asked for a version that is not built in: another server that answers for it, or the server of a client, which told
    /// it so.
    pub fn is_reached(&self, group: &str, version: &str) -> bool {
        self.is_elsewhere(group, version) || self.aggregated.is_told(group, version)
    }

    /// Where a version that is served here stands in discovery.
    pub fn priority(&self, group: &str, version: &str) -> Priority {
        self.aggregated.priority(group, version).unwrap_or_else(|| priorities::local(group, version))
    }

    /// Every resource that clients reach, wherever its objects are. Custom resources all of whose versions another server answers for are not
    /// among them.
    pub fn reachable(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let hidden = |row: &Resource| row.is_custom() && row.served.iter().all(|served| self.is_elsewhere(&row.group, &served.version));
        self.rows.iter().filter(move |row| !hidden(row)).chain(self.aggregated.rows())
    }

    /// The versions, as `apiVersion` names them, whose servers could not be asked what they have.
    pub fn stale(&self) -> Vec<String> {
        self.aggregated.stale()
    }

    /// The rows of what is served here.
    pub fn rows(&self) -> &[Arc<Resource>] {
        &self.rows
    }

    /// The rows of a group that are served here, by their plural names.
    pub fn rows_of(&self, group: &str) -> Vec<&Arc<Resource>> {
        let mut rows: Vec<_> = self.by_resource.get(group).into_iter().flat_map(HashMap::values).filter(|row| !row.is_elsewhere).collect();
        rows.sort_by(|a, b| a.plural.cmp(&b.plural));
        rows
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
