//! Groups and versions of a registry, in the order of discovery.

use std::{cmp::Reverse, sync::Arc};

use crate::{
    meta::{GroupVersionKind, gvk::version_priority},
    resources::{Registry, Resource},
};

/// A group with its versions, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: Arc<str>,
    pub versions: Vec<Arc<str>>,
}

/// All groups, in the order in which the rows name them first.
pub fn groups(registry: &Registry) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in registry.rows() {
        let at = groups.iter().position(|group| group.name == row.group).unwrap_or_else(|| {
            groups.push(Group { name: row.group.clone(), versions: Vec::new() });
            groups.len() - 1
        });
        for served in &row.served {
            if !groups[at].versions.contains(&served.version) {
                groups[at].versions.push(served.version.clone());
            }
        }
    }
    for group in &mut groups {
        group.versions.sort_by_key(|version| Reverse(version_priority(version)));
    }
    groups
}

/// Rows of a group and version, by name.
pub fn rows<'a>(registry: &'a Registry, group: &str, version: &str) -> Vec<&'a Arc<Resource>> {
    let mut rows: Vec<_> = registry.rows().iter().filter(|row| &*row.group == group && row.serves(version)).collect();
    rows.sort_by(|a, b| a.plural.cmp(&b.plural));
    rows
}

/// `apiVersion` of a group and version.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Group and version of a subresource's kind where they differ from the document's.
pub fn foreign<'a>(row: &Resource, version: &str, kind: &'a GroupVersionKind) -> Option<(&'a str, &'a str)> {
    let own = kind.group == row.group && (kind.kind == row.kind || &*kind.version == version);
    (!own).then_some((&*kind.group, &*kind.version))
}

/// Verbs of a resource as discovery lists them.
pub fn verbs(row: &Resource) -> Vec<&'static str> {
    let mut verbs: Vec<_> = row.verbs.iter().map(|verb| verb.rbac()).collect();
    verbs.sort_unstable();
    verbs
}
