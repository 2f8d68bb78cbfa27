//! Resources as discovery tells them (`apidiscovery.k8s.io/v2`, or the older lists of single versions): those that other servers have. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de};

use super::{Resource, SchemaSource, Served, custom::CustomSchema, resource::Plain};
use crate::{
    meta::{GroupVersionKind, request::Verb},
    schema::{Format, decode::parse},
};

const VERBS: [Verb; 8] = [Verb::Create, Verb::Delete, Verb::DeleteCollection, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

/// `APIResourceDiscovery`, without what nobody asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiscoveredResource {
    pub resource: Arc<str>,
    #[serde(deserialize_with = "or_default")]
    pub response_kind: DiscoveredKind,
    pub scope: Arc<str>,
    pub singular_resource: Arc<str>,
    #[serde(deserialize_with = "or_default")]
    pub verbs: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub short_names: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub categories: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub subresources: Vec<DiscoveredSubresource>,
}

/// `APISubresourceDiscovery`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiscoveredSubresource {
    pub subresource: Arc<str>,
    #[serde(deserialize_with = "or_default")]
    pub response_kind: DiscoveredKind,
    #[serde(deserialize_with = "or_default")]
    pub verbs: Vec<Arc<str>>,
}

/// The kind that requests and replies carry; what is empty is the group or version that it is served in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct DiscoveredKind {
    pub group: Arc<str>,
    pub version: Arc<str>,
    pub kind: Arc<str>,
}

/// One version of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredVersion {
    pub group: Arc<str>,
    pub version: Arc<str>,
    pub resources: Vec<DiscoveredResource>,
    /// Its server could not be asked: what there is may be old, or missing.
    pub stale: bool,
}

/// `null` stands for nothing, as Go writes it.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a document that costs no more memory for its size than what clients send may.
fn metered<'de, T: Deserialize<'de>>(document: &'de [u8]) -> serde_json::Result<T> {
    parse(document, Format::Json).map_err(<serde_json::Error as de::Error>::custom)?;
    serde_json::from_slice(document)
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default, deserialize_with = "or_default")]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: Arc<str>,
}

#[derive(Deserialize)]
struct Version {
    version: Arc<str>,
    #[serde(default, deserialize_with = "or_default")]
    resources: Vec<DiscoveredResource>,
    #[serde(default)]
    freshness: String,
}

/// The versions of an aggregated document, in its order.
///
/// # Errors
/// When it is no such document.
pub fn aggregated(document: &[u8]) -> serde_json::Result<Vec<DiscoveredVersion>> {
    let list: GroupList = metered(document)?;
    let mut versions = Vec::new();
    for group in list.items {
        let name = group.metadata.name;
        versions.extend(group.versions.into_iter().map(|version| DiscoveredVersion {
            group: name.clone(),
            version: version.version,
            resources: version.resources,
            stale: version.freshness == "Stale",
        }));
    }
    Ok(versions)
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default, deserialize_with = "or_default")]
    resources: Vec<ListedResource>,
}

/// `metav1.APIResource`
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ListedResource {
    name: String,
    singular_name: Arc<str>,
    namespaced: bool,
    group: Arc<str>,
    version: Arc<str>,
    kind: Arc<str>,
    #[serde(deserialize_with = "or_default")]
    verbs: Vec<Arc<str>>,
    #[serde(deserialize_with = "or_default")]
    short_names: Vec<Arc<str>>,
    #[serde(deserialize_with = "or_default")]
    categories: Vec<Arc<str>>,
}

/// The resources of an `APIResourceList`, as servers tell them that have no aggregated document.
///
/// # Errors
/// When it is no such list.
pub fn listed(document: &[u8]) -> serde_json::Result<Vec<DiscoveredResource>> {
    let list: ResourceList = metered(document)?;
    let mut found: Vec<DiscoveredResource> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for item in list.resources {
        let scope = if item.namespaced { "Namespaced" } else { "Cluster" };
        let (plural, subresource) = item.name.split_once('/').map_or((&*item.name, None), |(plural, below)| (plural, Some(below)));
        let at = *places.entry(plural.to_owned()).or_insert_with(|| {
            found.push(DiscoveredResource { resource: plural.into(), scope: scope.into(), ..DiscoveredResource::default() });
            found.len() - 1
        });
        let response_kind = DiscoveredKind { group: item.group, version: item.version, kind: item.kind };
        if let Some(subresource) = subresource {
            found[at].subresources.push(DiscoveredSubresource { subresource: subresource.into(), response_kind, verbs: item.verbs });
            continue;
        }
        let known = &mut found[at];
        (known.response_kind, known.singular_resource, known.verbs) = (response_kind, item.singular_name, item.verbs);
        (known.short_names, known.categories) = (item.short_names, item.categories);
    }
    Ok(found)
}

/// A row for each resource of these versions that `is_known` does not know. What objects of them are like, nobody here needs to know.
pub fn rows<'a>(versions: impl Iterator<Item = &'a DiscoveredVersion>, is_known: impl Fn(&str, &str) -> bool) -> Vec<Arc<Resource>> {
    let mut found: BTreeMap<(&str, &str), Vec<_>> = BTreeMap::new();
    for version in versions {
        for resource in version.resources.iter().filter(|resource| !is_known(&version.group, &resource.resource)) {
            found.entry((&*version.group, &*resource.resource)).or_default().push((&version.version, resource));
        }
    }
    found.into_iter().filter_map(|((group, plural), versions)| row(group, plural, &versions).map(Arc::new)).collect()
}

fn row(group: &str, plural: &str, versions: &[(&Arc<str>, &DiscoveredResource)]) -> Option<Resource> {
    let (_, first) = versions.first()?;
    let kind = &first.response_kind.kind;
    let strategy: Arc<Plain> = Arc::default();
    let served = |version: &Arc<str>| {
        let gvk = GroupVersionKind::new(group, version.clone(), kind.clone());
        Arc::new(Served {
            version: version.clone(),
            deprecation: None,
            schema: SchemaSource::Defined(Arc::new(CustomSchema::new(gvk, Bytes::new(), true))),
            selectable: Arc::default(),
            subresources: Vec::new(),
            strategy: strategy.clone(),
        })
    };
    let served: Vec<Arc<Served>> = versions.iter().map(|(version, _)| served(version)).collect();
    let offered = |verb: &&Verb| first.verbs.iter().any(|offered| **offered == *verb.rbac());
    Some(Resource {
        group: group.into(),
        kind: kind.clone(),
        list_kind: format!("{kind}List").into(),
        plural: plural.into(),
        singular: first.singular_resource.clone(),
        short_names: first.short_names.clone(),
        categories: first.categories.clone(),
        namespaced: &*first.scope == "Namespaced",
        storage_group: group.into(),
        storage: served.first()?.clone(),
        hashed_version: None,
        served,
        selectable: Arc::default(),
        // Nothing of it is stored here.
        storage_prefix: format!("elsewhere/{group}/{plural}").into(),
        verbs: VERBS.iter().filter(offered).copied().collect(),
        pod: None,
        features: &[],
        is_terminating: false,
        is_told: true,
        is_elsewhere: true,
        strategy,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_that_is_large_in_memory_is_none() {
        let many = |length: usize| format!("[{}{{}}]", "{},".repeat(length));
        let document = |length: usize| {
            format!(r#"{{"items": [{{"metadata": {{"name": "a"}}, "versions": [{{"version": "v1", "resources": {}}}]}}]}}"#, many(length))
        };
        assert_eq!(aggregated(document(9).as_bytes()).expect("a document")[0].resources.len(), 10);
        assert!(aggregated(document(1 << 20).as_bytes()).is_err());
        assert!(listed(format!(r#"{{"resources": {}}}"#, many(1 << 20)).as_bytes()).is_err());
    }

    #[test]
    fn both_forms_of_a_document_tell_the_same() {
        let resource = json!({"resource": "flunders", "responseKind": {"group": "", "version": "", "kind": "Flunder"}, "scope": "Namespaced",
            "singularResource": "flunder", "verbs": ["get", "list"], "shortNames": ["fl"],
            "subresources": [{"subresource": "status", "responseKind": {"kind": "Flunder"}, "verbs": ["get"]}]});
        let document = json!({"items": [{"metadata": {"name": "wardle.example.com"}, "versions": [
            {"version": "v1", "resources": [resource], "freshness": "Current"}, {"version": "v1alpha1", "resources": null, "freshness": "Stale"},
        ]}]});
        let found = aggregated(document.to_string().as_bytes()).expect("a document");
        assert_eq!((found.len(), found[0].stale, found[1].stale, found[1].resources.len()), (2, false, true, 0));
        let list = json!({"kind": "APIResourceList", "groupVersion": "wardle.example.com/v1", "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"], "shortNames": ["fl"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
        ]});
        assert_eq!(listed(list.to_string().as_bytes()).expect("a list"), found[0].resources);
        assert!(aggregated(b"1").is_err() && listed(b"1").is_err());
    }

    #[test]
    fn what_is_not_known_becomes_a_row_with_its_versions_and_verbs() {
        let resource = |plural: &str, kind: &str| DiscoveredResource {
            resource: plural.into(),
            response_kind: DiscoveredKind { kind: kind.into(), ..DiscoveredKind::default() },
            scope: "Namespaced".into(),
            verbs: ["delete", "get", "list", "watch"].map(Arc::from).to_vec(),
            ..DiscoveredResource::default()
        };
        let version =
            |group: &str, version: &str, resources| DiscoveredVersion { group: group.into(), version: version.into(), resources, stale: false };
        let versions = [
            version("apps", "v1", vec![resource("deployments", "Deployment")]),
            version("example.com", "v1", vec![resource("widgets", "Widget")]),
            version("example.com", "v1beta1", vec![resource("widgets", "Widget")]),
        ];
        let rows = rows(versions.iter(), |group, _| group == "apps");
        assert_eq!(rows.len(), 1);
        let versions: Vec<&str> = rows[0].served.iter().map(|served| &*served.version).collect();
        assert_eq!((&*rows[0].kind, versions, rows[0].verbs.len(), rows[0].is_custom()), ("Widget", vec!["v1", "v1beta1"], 4, false));
    }
}
