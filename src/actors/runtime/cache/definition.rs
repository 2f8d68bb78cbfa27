//! Whether somebody defines a kind that is not built in.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use troupe_api::meta::ObjectKey;

use super::Cache;

/// The definition of a kind, as a cache knows it.
#[derive(Clone)]
pub struct Definition {
    cache: Cache<CustomResourceDefinition>,
    key: ObjectKey,
    version: &'static str,
}

impl Definition {
    pub fn new(cache: Cache<CustomResourceDefinition>, key: ObjectKey, version: &'static str) -> Self {
        Definition { cache, key, version }
    }

    /// Whether objects are served in our version.
    fn serves(&self) -> bool {
        self.cache.get(&self.key).is_some_and(|found| serves(&found.object, self.version))
    }

    /// Resolves once it is known whether objects are served; says so.
    pub async fn known(&self) -> bool {
        self.cache.synced().await;
        self.serves()
    }

    /// Resolves when objects are served, or no more.
    pub async fn becomes(&self, served: bool) {
        self.cache.0.progress.until(|_| self.serves() == served).await;
    }
}

fn serves(definition: &CustomResourceDefinition, version: &str) -> bool {
    let mut conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_established = conditions.any(|condition| condition.type_ == "Established" && condition.status == "True");
    is_established && definition.spec.versions.iter().any(|found| found.name == version && found.served)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn definition(served: bool, established: &str) -> CustomResourceDefinition {
        let of = |version: &str, served: bool| json!({"name": version, "served": served, "storage": version == "v1"});
        let value: Value = json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "scope": "Cluster", "names": {"kind": "Widget", "plural": "widgets"}, "versions": [of("v1", served), of("v2", true)]},
            "status": {"conditions": [{"type": "Established", "status": established}]},
        });
        serde_json::from_value(value).expect("a definition")
    }

    #[test]
    fn a_version_is_served_when_its_definition_is_established_and_says_so() {
        assert!(serves(&definition(true, "True"), "v1"));
        assert!(!serves(&definition(true, "False"), "v1"));
        assert!(!serves(&definition(false, "True"), "v1"));
        assert!(!serves(&definition(true, "True"), "v3"));
    }
}
