//! The configuration of `ResourceQuota`, which works beside the pipeline, where writes are charged.

use serde::Deserialize;
use troupe_api::{
    document::Document,
    meta::GroupResource,
    quota::{LimitedResource, scopes::Scope},
};

/// What nobody may consume without a quota for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ResourceQuotaConfiguration {
    #[serde(default)]
    limited_resources: Vec<Entry>,
}

impl Document for ResourceQuotaConfiguration {
    const GROUP: &'static str = "apiserver.config.k8s.io";
    const VERSIONS: &'static [&'static str] = &["v1"];
    const KIND: &'static str = "ResourceQuotaConfiguration";
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    api_group: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    match_contains: Vec<String>,
    #[serde(default)]
    match_scopes: Vec<Selector>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    scope_name: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

impl ResourceQuotaConfiguration {
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub fn limited(self) -> Result<Vec<LimitedResource>, String> {
        let nameless = self.limited_resources.iter().position(|entry| entry.resource.is_empty());
        if let Some(index) = nameless {
            return Err(format!("limitedResources[{index}].resource: Required value"));
        }
        Ok(self.limited_resources.into_iter().map(Entry::limited).collect())
    }
}

impl Entry {
    fn limited(self) -> LimitedResource {
        let scope = |selector: Selector| Scope { name: selector.scope_name, operator: selector.operator, values: selector.values };
        LimitedResource {
            resource: GroupResource::new(self.api_group, self.resource),
            contains: self.match_contains,
            scopes: self.match_scopes.into_iter().map(scope).collect(),
        }
    }
}
