//! The table of built-in kinds: one row a kind, grouped as discovery lists them.
//!
//! [`builtin`] has what a default control plane serves: stable versions. [`optional`] is what may be switched on beside it.

mod apps;
mod core;
mod extensions;
mod policy;
mod reviews;
mod row;
mod storage;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use row::Group;

use super::Resource;

/// Groups in order of discovery priority; the core group comes first.
const GROUPS: &[Group] = &[
    core::GROUP,
    extensions::API_REGISTRATION,
    apps::APPS,
    core::EVENTS,
    reviews::AUTHENTICATION,
    reviews::AUTHORIZATION,
    apps::AUTOSCALING,
    apps::BATCH,
    policy::CERTIFICATES,
    policy::NETWORKING,
    policy::POLICY,
    policy::RBAC,
    storage::STORAGE,
    extensions::ADMISSION_REGISTRATION,
    extensions::API_EXTENSIONS,
    policy::SCHEDULING,
    policy::COORDINATION,
    policy::NODE,
    policy::DISCOVERY,
    apps::METRICS,
    storage::RESOURCE,
    extensions::FLOW_CONTROL,
];

/// Groups that are served where somebody says so, with the features that they are of.
const OPTIONAL: &[(&str, Group)] = &[
    ("StorageVersionMigrator", extensions::STORAGE_MIGRATION),
    ("GenericWorkload", policy::WORKLOADS),
    ("CoordinatedLeaderElection", policy::CANDIDATES),
    ("ClusterTrustBundle", policy::TRUST_BUNDLES),
    ("PodCertificateRequest", policy::POD_CERTIFICATES),
    ("DRADeviceTaintRules", storage::DEVICE_TAINT_RULES),
    ("DRAResourcePoolStatus", storage::POOL_STATUS),
];

/// The rows of every built-in kind that is served by default, in order of discovery.
pub fn builtin() -> Vec<Arc<Resource>> {
    rows(GROUPS)
}

/// The rows of built-in kinds that are off by default, of features that are on.
pub fn optional(is_on: impl Fn(&str) -> bool) -> Vec<Arc<Resource>> {
    rows(OPTIONAL.iter().filter(|(feature, _)| is_on(feature)).map(|(_, group)| group))
}

fn rows<'a>(groups: impl IntoIterator<Item = &'a Group>) -> Vec<Arc<Resource>> {
    groups.into_iter().flat_map(|group| group.rows.iter().map(|row| Arc::new(row.resource(group)))).collect()
}

/// Whether a kind is built in, by default or where somebody says so: it is served without a definition.
pub fn is_builtin(group: &str, kind: &str) -> bool {
    let optional = OPTIONAL.iter().map(|(_, group)| group);
    GROUPS.iter().chain(optional).any(|built_in| built_in.name == group && built_in.rows.iter().any(|row| row.is_of(kind)))
}
