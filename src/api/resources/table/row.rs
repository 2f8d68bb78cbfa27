//! The compact form of rows and groups, and how a [`Resource`] is made of them.

use std::sync::Arc;

use crate::{
    meta::{GroupVersion, GroupVersionKind, request::Verb},
    resources::{Feature, Resource, SchemaSource, Served, Strategy, Subresource, resource::Plain},
};

/// All verbs of an ordinary resource, in discovery's order.
const ALL_VERBS: &[Verb] = &[Verb::Create, Verb::Delete, Verb::DeleteCollection, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

/// An API group with its rows.
pub(super) struct Group {
    pub name: &'static str,
    /// Served versions in order of preference; the first one is stored.
    pub versions: &'static [&'static str],
    pub rows: &'static [Row],
}

/// A subresource: its name, the group and version of its kind where they differ from the parent's, its kind, its verbs.
#[derive(Clone, Copy)]
pub(super) struct Sub {
    pub name: &'static str,
    pub group_version: Option<&'static str>,
    pub kind: Option<&'static str>,
    pub verbs: &'static [&'static str],
}

/// Subresource that reads and writes the parent's kind.
pub(super) const fn own(name: &'static str) -> Sub {
    Sub { name, group_version: None, kind: None, verbs: &["get", "patch", "update"] }
}

/// Subresource of another kind in the parent's group and version.
pub(super) const fn sub(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Sub {
    Sub { name, group_version: None, kind: Some(kind), verbs }
}

/// Subresource of a kind of another group.
pub(super) const fn foreign(name: &'static str, group_version: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Sub {
    Sub { name, group_version: Some(group_version), kind: Some(kind), verbs }
}

pub(super) const STATUS: Sub = own("status");
pub(super) const SCALE: Sub = foreign("scale", "autoscaling/v1", "Scale", &["get", "patch", "update"]);

fn plain() -> Arc<dyn Strategy> {
    Arc::new(Plain)
}

/// Makes a strategy without state of its own.
pub(super) fn with<S: Strategy + Default>() -> Arc<dyn Strategy> {
    Arc::new(S::default())
}

/// One kind.
#[derive(Clone, Copy)]
pub(super) struct Row {
    kind: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    /// Where it differs from the plural name.
    prefix: Option<&'static str>,
    /// Where it differs from the group.
    storage_group: Option<&'static str>,
    /// The version that upstream stores, where it is another one than the first.
    hashed_version: Option<&'static str>,
    verbs: &'static [Verb],
    subresources: &'static [Sub],
    pod: Option<&'static [&'static str]>,
    deprecation: Option<&'static str>,
    /// A version, and what those are warned of who use it.
    old_version: Option<(&'static str, &'static str)>,
    features: &'static [Feature],
    strategy: fn() -> Arc<dyn Strategy>,
}

impl Row {
    pub fn is_of(&self, kind: &str) -> bool {
        self.kind == kind
    }

    pub const fn namespaced(kind: &'static str, plural: &'static str) -> Self {
        Row {
            kind,
            plural,
            short_names: &[],
            categories: &[],
            namespaced: true,
            prefix: None,
            storage_group: None,
            hashed_version: None,
            verbs: ALL_VERBS,
            subresources: &[],
            pod: None,
            deprecation: None,
            old_version: None,
            features: &[],
            strategy: plain,
        }
    }

    pub const fn cluster(kind: &'static str, plural: &'static str) -> Self {
        Row { namespaced: false, ..Row::namespaced(kind, plural) }
    }

    pub const fn short(self, short_names: &'static [&'static str]) -> Self {
        Row { short_names, ..self }
    }

    /// Puts the kind into the category `all`.
    pub const fn all(self) -> Self {
        Row { categories: &["all"], ..self }
    }

    /// Puts the kind into the category `api-extensions`.
    pub const fn extension(self) -> Self {
        Row { categories: &["api-extensions"], ..self }
    }

    pub const fn stored_at(self, prefix: &'static str) -> Self {
        Row { prefix: Some(prefix), ..self }
    }

    pub const fn stored_as_group(self, group: &'static str) -> Self {
        Row { storage_group: Some(group), ..self }
    }

    /// What discovery's hash names as the stored version.
    pub const fn hashed_as(self, version: &'static str) -> Self {
        Row { hashed_version: Some(version), ..self }
    }

    pub const fn verbs(self, verbs: &'static [Verb]) -> Self {
        Row { verbs, ..self }
    }

    pub const fn subs(self, subresources: &'static [Sub]) -> Self {
        Row { subresources, ..self }
    }

    /// Where objects of the kind describe a pod.
    pub const fn pod_at(self, path: &'static [&'static str]) -> Self {
        Row { pod: Some(path), ..self }
    }

    /// What everybody is warned of who uses the kind.
    pub const fn deprecated(self, deprecation: &'static str) -> Self {
        Row { deprecation: Some(deprecation), ..self }
    }

    /// What those are warned of who use the kind in `version`.
    pub const fn deprecated_in(self, version: &'static str, deprecation: &'static str) -> Self {
        Row { old_version: Some((version, deprecation)), ..self }
    }

    /// What the API server does for the kind and few others.
    pub const fn features(self, features: &'static [Feature]) -> Self {
        Row { features, ..self }
    }

    pub const fn strategy(self, strategy: fn() -> Arc<dyn Strategy>) -> Self {
        Row { strategy, ..self }
    }

    /// The full row of this kind in `group`.
    pub fn resource(&self, group: &Group) -> Resource {
        let names = |list: &[&'static str]| list.iter().map(|name| Arc::from(*name)).collect();
        let strategy = (self.strategy)();
        let selectable: Arc<[Arc<str>]> = strategy.selectable_paths().iter().map(|path| Arc::from(*path)).collect();
        let version = |name: &str, schema_group: &str| {
            Arc::new(Served {
                version: name.into(),
                deprecation: self.deprecation_of(name).map(Arc::from),
                schema: SchemaSource::Builtin(GroupVersionKind::new(schema_group, name, self.kind)),
                selectable: selectable.clone(),
                subresources: self.subresources.iter().map(|sub| self.subresource(group, sub)).collect(),
                strategy: strategy.clone(),
            })
        };
        Resource {
            group: group.name.into(),
            kind: self.kind.into(),
            list_kind: format!("{}List", self.kind).into(),
            plural: self.plural.into(),
            singular: self.kind.to_lowercase().into(),
            short_names: names(self.short_names),
            categories: names(self.categories),
            namespaced: self.namespaced,
            storage_group: self.storage_group.unwrap_or(group.name).into(),
            storage: version(group.versions[0], self.storage_group.unwrap_or(group.name)),
            served: group.versions.iter().map(|name| version(name, group.name)).collect(),
            hashed_version: self.hashed_version,
            storage_prefix: self.prefix.unwrap_or(self.plural).into(),
            verbs: self.verbs.to_vec(),
            pod: self.pod,
            features: self.features,
            is_terminating: false,
            is_told: true,
            is_elsewhere: false,
            selectable: selectable.clone(),
            strategy: strategy.clone(),
        }
    }

    fn deprecation_of(&self, version: &str) -> Option<&'static str> {
        self.deprecation.or_else(|| self.old_version.filter(|(old, _)| *old == version).map(|(_, deprecation)| deprecation))
    }

    fn subresource(&self, group: &Group, sub: &Sub) -> Subresource {
        let parent = || GroupVersion::new(group.name, group.versions[0]);
        let GroupVersion { group, version } = sub.group_version.map_or_else(parent, GroupVersion::parse);
        Subresource { name: sub.name, kind: GroupVersionKind { group, version, kind: sub.kind.unwrap_or(self.kind).into() }, verbs: sub.verbs }
    }
}
