//! Aggregation, as upstream's kube-aggregator does it beside every API server: servers of API services are found, checked, asked what they
//! have, and so become a part of the table that requests, discovery, OpenAPI and controllers go by.
//!
//! [`ApiServices`] follows the objects, and has a `RemoteServer` for each that names a Service. [`registration`] keeps API services
//! for what is served here, [`trust`] tells extension servers whom to believe.

mod availability;
mod discovery;
mod documents;
pub mod metrics;
pub mod registration;
mod server;
mod services;
mod status;
pub mod trust;

use std::{sync::Arc, time::Duration};

use troupe_api::{
    meta::Clock,
    service::{Target, UserInfo},
};
use troupe_api_server::aggregation::{Aggregator, BackendOptions};

pub use self::services::{ApiServices, Follow};
use super::{listers::CacheListers, table::LiveTable, write::WritePath};

/// How often servers are checked, and asked what they have, when nothing changes.
const CHECK: Duration = Duration::from_secs(30);
const REFRESH: Duration = Duration::from_secs(60);

/// What objects are read and written by.
pub struct Parts {
    pub path: Arc<WritePath>,
    pub listers: Arc<CacheListers>,
    pub clock: Arc<dyn Clock>,
}

/// What the units here work with.
#[derive(Clone)]
pub struct Aggregation {
    pub parts: Arc<Parts>,
    pub table: Arc<LiveTable>,
    pub aggregator: Arc<Aggregator>,
    pub backends: BackendOptions,
}

/// Who asks servers about themselves; it may ask everything.
fn asker() -> UserInfo {
    UserInfo { name: "system:kube-aggregator".into(), groups: vec!["system:masters".into()], ..UserInfo::default() }
}

/// An API service, as calls address it.
fn target(parts: &Parts, name: &str, subresource: &str) -> Option<Target> {
    let resource = parts.listers.row("apiregistration.k8s.io", "apiservices")?;
    Some(Target { version: "v1".into(), namespace: "".into(), name: name.into(), subresource: subresource.into(), resource })
}
