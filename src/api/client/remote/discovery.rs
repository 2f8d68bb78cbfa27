//! The resources that a server serves beside the built-in ones, learned from its aggregated discovery document. Pure.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde_json::Value;

use crate::{
    meta::GroupVersionKind,
    resources::{
        Resource, SchemaSource, Served,
        custom::CustomSchema,
        resource::Plain,
        tree::{items, text},
    },
    service::Verb,
};

/// Where the document is.
pub const PATH: &str = "/apis";
/// The media type of the document.
pub const MEDIA_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const VERBS: [Verb; 8] = [Verb::Create, Verb::Delete, Verb::DeleteCollection, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

/// The rows of a document that are not among the `builtin` ones. What objects of them are like, nobody here needs to know.
pub fn resources(document: &Value, builtin: &[Arc<Resource>]) -> Vec<Arc<Resource>> {
    let mut found: BTreeMap<(String, String), Vec<(String, &Value)>> = BTreeMap::new();
    for group in items(document, &["items"]) {
        let name = text(group, &["metadata", "name"]);
        for version in items(group, &["versions"]) {
            for resource in items(version, &["resources"]) {
                let plural = text(resource, &["resource"]);
                if builtin.iter().any(|row| *row.group == *name && *row.plural == *plural) {
                    continue;
                }
                let versions = found.entry((name.to_owned(), plural.to_owned())).or_default();
                versions.push((text(version, &["version"]).to_owned(), resource));
            }
        }
    }
    found.into_iter().filter_map(|((group, plural), versions)| row(&group, &plural, &versions).map(Arc::new)).collect()
}

fn row(group: &str, plural: &str, versions: &[(String, &Value)]) -> Option<Resource> {
    let (_, first) = versions.first()?;
    let kind = text(first, &["responseKind", "kind"]);
    let names = |field: &str| items(first, &[field]).iter().filter_map(Value::as_str).map(Arc::from).collect();
    let strategy: Arc<Plain> = Arc::default();
    let served: Vec<Arc<Served>> = versions
        .iter()
        .map(|(version, _)| {
            let gvk = GroupVersionKind::new(group, version.as_str(), kind);
            Arc::new(Served {
                version: version.as_str().into(),
                deprecation: None,
                schema: SchemaSource::Defined(Arc::new(CustomSchema::new(gvk, Bytes::new(), true))),
                selectable: Arc::default(),
                subresources: Vec::new(),
                strategy: strategy.clone(),
            })
        })
        .collect();
    let offered = |verb: &&Verb| items(first, &["verbs"]).iter().any(|offered| offered == verb.rbac());
    Some(Resource {
        group: group.into(),
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        plural: plural.into(),
        singular: text(first, &["singularResource"]).into(),
        short_names: names("shortNames"),
        categories: names("categories"),
        namespaced: text(first, &["scope"]) == "Namespaced",
        storage_group: group.into(),
        storage: served.first()?.clone(),
        served,
        selectable: Arc::default(),
        storage_prefix: format!("{group}/{plural}").into(),
        verbs: VERBS.iter().filter(offered).copied().collect(),
        pod: None,
        without_effect: None,
        features: &[],
        is_terminating: false,
        strategy,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_built_in_is_learned_with_its_versions_and_verbs() {
        let resource = |plural: &str, kind: &str| json!({"resource": plural, "responseKind": {"kind": kind}, "scope": "Namespaced", "verbs": ["delete", "get", "list", "watch"]});
        let document = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [resource("deployments", "Deployment")]}]},
            {"metadata": {"name": "example.com"}, "versions": [
                {"version": "v1", "resources": [resource("widgets", "Widget")]}, {"version": "v1beta1", "resources": [resource("widgets", "Widget")]},
            ]},
        ]});
        let rows = resources(&document, &crate::resources::builtin());
        assert_eq!(rows.len(), 1);
        let versions: Vec<&str> = rows[0].served.iter().map(|served| &*served.version).collect();
        assert_eq!((&*rows[0].kind, versions, rows[0].verbs.len(), rows[0].is_custom()), ("Widget", vec!["v1", "v1beta1"], 4, true));
    }
}
