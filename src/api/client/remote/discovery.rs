//! The resources that a server serves beside the built-in ones, learned from its aggregated discovery document. Pure.

use std::{any::TypeId, sync::Arc};

use k8s_openapi::NamespaceResourceScope;
use troupe_api::{
    resources::{
        Registry, Resource,
        aggregated::Aggregated,
        discovered::{self, DiscoveredKind, DiscoveredResource, DiscoveredVersion},
    },
    stored::KubeObject,
};

/// Where the document is.
pub const PATH: &str = "/apis";
/// The media type of the document.
pub const MEDIA_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The table that a document tells of: the `builtin` rows, all others, and which versions the server could not ask for.
pub fn registry(versions: &[DiscoveredVersion], mut builtin: Vec<Arc<Resource>>) -> Registry {
    let others = discovered::rows(versions.iter(), |group, plural| builtin.iter().any(|row| *row.group == *group && *row.plural == *plural));
    builtin.extend(others);
    Registry::new(builtin).with_aggregated(Arc::new(Aggregated::told(versions)))
}

/// The row that discovery would tell of a kind.
pub fn row_of<K: KubeObject>() -> Option<Arc<Resource>>
where
    K::Scope: 'static,
{
    let is_namespaced = TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>();
    let resource = DiscoveredResource {
        resource: K::URL_PATH_SEGMENT.into(),
        response_kind: DiscoveredKind { kind: K::KIND.into(), ..DiscoveredKind::default() },
        scope: if is_namespaced { "Namespaced" } else { "Cluster" }.into(),
        singular_resource: K::KIND.to_lowercase().into(),
        verbs: vec!["get".into(), "list".into(), "watch".into()],
        ..DiscoveredResource::default()
    };
    let version = DiscoveredVersion { group: K::GROUP.into(), version: K::VERSION.into(), resources: vec![resource], stale: false };
    discovered::rows([version].iter(), |_, _| false).pop()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Node};

    use super::*;

    #[test]
    fn a_kind_has_the_row_that_discovery_would_tell() {
        let (maps, nodes) = (row_of::<ConfigMap>().expect("has one"), row_of::<Node>().expect("has one"));
        assert_eq!((&*maps.plural, &*maps.kind, &*maps.served[0].version), ("configmaps", "ConfigMap", "v1"));
        assert!(maps.namespaced && !nodes.namespaced && maps.is_elsewhere);
    }

    #[test]
    fn what_is_not_built_in_is_learned_and_what_cannot_be_asked_for_is_told() {
        let resource = discovered::DiscoveredResource { resource: "widgets".into(), ..Default::default() };
        let version = |version: &str, stale| DiscoveredVersion {
            group: "example.com".into(),
            version: version.into(),
            resources: if stale { Vec::new() } else { vec![resource.clone()] },
            stale,
        };
        let registry = registry(&[version("v1", false), version("v2", true)], troupe_api::resources::builtin());
        assert!(registry.by_resource("example.com", "widgets").is_some_and(|row| row.is_elsewhere));
        assert_eq!(registry.stale(), ["example.com/v2"]);
        assert!(registry.is_reached("example.com", "v1") && !registry.is_reached("example.com", "v3"));
        assert!(!registry.is_elsewhere("example.com", "v1"), "its server is asked for it");
    }
}
