//! The documents of discovery as types, whose fields stand in the order of upstream's: people compare the texts.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use troupe_api::resources::discovered::DiscoveredResource;

/// `metav1.APIVersions`, which upstream sends without its own version.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiVersions {
    pub kind: &'static str,
    pub versions: Vec<Arc<str>>,
    #[serde(rename = "serverAddressByClientCIDRs")]
    pub server_addresses: [ServerAddress; 1],
}

/// `metav1.ServerAddressByClientCIDR`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerAddress {
    #[serde(rename = "clientCIDR")]
    pub client_cidr: &'static str,
    pub server_address: String,
}

/// `metav1.APIGroupList`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiGroupList {
    pub kind: &'static str,
    pub api_version: &'static str,
    pub groups: Vec<ApiGroup>,
}

/// `metav1.APIGroup`; within a list it does not say what it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiGroup {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<&'static str>,
    pub name: Arc<str>,
    pub versions: Vec<GroupVersionForDiscovery>,
    pub preferred_version: Option<GroupVersionForDiscovery>,
}

/// `metav1.GroupVersionForDiscovery`
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupVersionForDiscovery {
    pub group_version: String,
    pub version: Arc<str>,
}

/// `metav1.APIResourceList`; upstream leaves apiVersion out for the core group alone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiResourceList {
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<&'static str>,
    pub group_version: String,
    pub resources: Vec<ApiResource>,
}

/// `metav1.APIResource`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiResource {
    pub name: String,
    pub singular_name: Arc<str>,
    pub namespaced: bool,
    /// Group and version of the kind where they are not the list's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub kind: Arc<str>,
    pub verbs: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_version_hash: Option<String>,
}

/// `apidiscovery.k8s.io/v2 APIGroupDiscoveryList`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupDiscoveryList {
    pub kind: &'static str,
    pub api_version: &'static str,
    pub metadata: Map<String, Value>,
    pub items: Vec<GroupDiscovery>,
}

/// `APIGroupDiscovery`
#[derive(Serialize)]
pub struct GroupDiscovery {
    /// The group's name; nothing for the core group.
    pub metadata: Map<String, Value>,
    pub versions: Vec<VersionDiscovery>,
}

/// `APIVersionDiscovery`
#[derive(Serialize)]
pub struct VersionDiscovery {
    pub version: Arc<str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<AnyResource>,
    pub freshness: &'static str,
}

/// A resource that is served here, or one as its server tells of it.
#[derive(Serialize)]
#[serde(untagged)]
pub enum AnyResource {
    Here(ResourceDiscovery),
    Elsewhere(DiscoveredResource),
}

/// `APIResourceDiscovery`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDiscovery {
    pub resource: Arc<str>,
    pub response_kind: ResponseKind,
    pub scope: &'static str,
    pub singular_resource: Arc<str>,
    pub verbs: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subresources: Vec<SubresourceDiscovery>,
}

/// `APISubresourceDiscovery`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubresourceDiscovery {
    pub subresource: &'static str,
    pub response_kind: ResponseKind,
    pub verbs: Vec<&'static str>,
}

/// `metav1.GroupVersionKind`; what is empty is the document's own.
#[derive(Serialize)]
pub struct ResponseKind {
    pub group: String,
    pub version: String,
    pub kind: Arc<str>,
}
