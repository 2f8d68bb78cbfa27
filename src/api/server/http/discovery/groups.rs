//! Groups and versions of a registry, in the order of discovery.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use troupe_api::{
    meta::{GroupVersionKind, gvk::version_priority},
    resources::{Registry, Resource, Subresource, priorities::Priority},
    service::Verb,
};

/// A group with its versions, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: Arc<str>,
    pub versions: Vec<Arc<str>>,
}

/// All groups as their priorities order them: what is served here and what other servers answer for.
pub fn groups(registry: &Registry) -> Vec<Group> {
    let mut found: BTreeMap<Arc<str>, Vec<(Priority, Arc<str>)>> = BTreeMap::new();
    for row in registry.rows().iter().filter(|row| row.is_told) {
        let versions = found.entry(row.group.clone()).or_default();
        for served in row.served.iter().filter(|served| !registry.is_elsewhere(&row.group, &served.version)) {
            if versions.iter().all(|(_, version)| *version != served.version) {
                versions.push((registry.priority(&row.group, &served.version), served.version.clone()));
            }
        }
    }
    for remote in registry.aggregated().versions() {
        let versions = found.entry(remote.discovered.group.clone()).or_default();
        versions.push((remote.priority, remote.discovered.version.clone()));
    }
    found.retain(|_, versions| !versions.is_empty());
    let highest = |versions: &[(Priority, Arc<str>)]| versions.iter().map(|(priority, _)| priority.group).max();
    let mut groups: Vec<_> = found.into_iter().collect();
    // Where two are alike, their names decide, by which they stand already.
    groups.sort_by_key(|(_, versions)| Reverse(highest(versions)));
    let group = |(name, mut versions): (Arc<str>, Vec<(Priority, Arc<str>)>)| {
        versions.sort_by_key(|(priority, version)| Reverse((priority.version, version_priority(version))));
        Group { name, versions: versions.into_iter().map(|(_, version)| version).collect() }
    };
    groups.into_iter().map(group).collect()
}

/// Rows of a group and version, by name.
pub fn rows<'a>(registry: &'a Registry, group: &str, version: &str) -> Vec<&'a Arc<Resource>> {
    let mut rows = registry.rows_of(group);
    rows.retain(|row| row.is_told && row.serves(version));
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

/// Verbs of a resource as discovery lists them. What definitions make upstream tells of unsorted, and nothing may be changed any more
/// once the definition goes.
pub fn verbs(row: &Resource) -> Vec<&'static str> {
    if row.is_custom() {
        return row.verbs.iter().filter(|verb| !row.is_terminating || !changes(**verb)).map(|verb| verb.rbac()).collect();
    }
    let mut verbs: Vec<_> = row.verbs.iter().map(|verb| verb.rbac()).collect();
    verbs.sort_unstable();
    verbs
}

/// What nobody may do any more to a resource whose definition goes.
fn changes(verb: Verb) -> bool {
    matches!(verb, Verb::Create | Verb::Patch | Verb::Update)
}

/// The subresources of a version, likewise.
pub fn subresources<'a>(row: &'a Resource, version: &str) -> Vec<&'a Subresource> {
    let mut subresources: Vec<_> = row.version(version).subresources.iter().collect();
    if !row.is_custom() {
        subresources.sort_by_key(|subresource| subresource.name);
    }
    subresources
}
