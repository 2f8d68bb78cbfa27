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

/// A version with what says where it stands.
type Placed = (Priority, Arc<str>);

/// All groups as their priorities order them: what is served here and what other servers answer for.
pub fn groups(registry: &Registry) -> Vec<Group> {
    // Where two are alike, their names decide, by which they stand already.
    ordered(registry, |_, _| ())
}

/// The same as the list of groups has them, which upstream makes of API services: where two are alike, the names of those decide.
pub fn groups_by_service(registry: &Registry) -> Vec<Group> {
    ordered(registry, first_service)
}

fn ordered<K: Ord>(registry: &Registry, tie: fn(&str, &[Placed]) -> K) -> Vec<Group> {
    let mut groups: Vec<_> = found(registry).into_iter().collect();
    groups.sort_by_cached_key(|(name, versions)| (Reverse(highest(versions)), tie(name, versions)));
    let group = |(name, mut versions): (Arc<str>, Vec<Placed>)| {
        versions.sort_by_key(|(priority, version)| Reverse((priority.version, version_priority(version))));
        Group { name, versions: versions.into_iter().map(|(_, version)| version).collect() }
    };
    groups.into_iter().map(group).collect()
}

fn found(registry: &Registry) -> BTreeMap<Arc<str>, Vec<Placed>> {
    let mut found: BTreeMap<Arc<str>, Vec<Placed>> = BTreeMap::new();
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
    found
}

fn highest(versions: &[Placed]) -> Option<i64> {
    versions.iter().map(|(priority, _)| priority.group).max()
}

/// The name of the API service that gives a group its place: the first of those with the highest priority.
fn first_service(group: &str, versions: &[Placed]) -> Option<String> {
    let highest = highest(versions);
    versions.iter().filter(|(priority, _)| Some(priority.group) == highest).map(|(_, version)| format!("{version}.{group}")).min()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_stands_where_the_first_of_its_services_with_the_highest_priority_does() {
        let at = |group, version: &str| (Priority { group, version: 100 }, Arc::from(version));
        assert_eq!(first_service("b.test", &[at(1000, "v1"), at(1000, "v1alpha1")]).as_deref(), Some("v1.b.test"));
        assert_eq!(first_service("a.test", &[at(500, "v1"), at(1000, "v1beta1")]).as_deref(), Some("v1beta1.a.test"));
        let served = Registry::new(troupe_api::resources::builtin());
        let names = |groups: Vec<Group>| groups.into_iter().map(|group| group.name).collect::<Vec<_>>();
        // Groups that are built in are told apart by their own names already.
        assert_eq!(names(groups(&served)), names(groups_by_service(&served)));
    }
}
