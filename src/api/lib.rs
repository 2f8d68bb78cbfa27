//! The API: vocabulary, rules and HTTP edge of Troupe.
//!
//! Everything that speaks Kubernetes' API without running as an actor lives here: object metadata, the resource
//! table, schemas, patches, admission, authentication and authorization, the HTTP routes, the store and the
//! client. The crate never imports `troupe-actors`; what it needs from actors are the traits [`service::ApiService`]
//! and [`service::Listers`].

#[cfg(test)]
extern crate self as troupe_api;

pub mod admission;
pub mod aggregation;
pub mod aside;
pub mod audit;
pub mod auth;
pub mod authentication;
pub mod authorization;
pub mod backends;
pub mod certificates;
pub mod client;
pub mod conversion;
pub mod decoding;
pub mod device_selectors;
pub mod document;
pub mod encodings;
pub mod encryption;
pub mod expressions;
pub mod features;
pub mod flow;
pub mod formats;
#[cfg(test)]
mod growth;
pub mod http;
pub mod informational;
pub mod load_balancing;
pub mod local_path;
pub mod memo;
pub mod memory;
pub mod meta;
pub mod metrics;
pub mod notices;
pub mod openapi;
pub mod patch;
pub mod pattern;
pub mod projection;
pub mod protobuf;
pub mod quota;
pub mod reloading;
pub(crate) mod render;
pub mod resources;
pub mod schema;
pub mod service;
pub mod shared;
pub mod status;
pub mod store;
pub mod stored;
pub mod underway;
pub mod unix_grpc;
pub mod version;
pub mod webhook_client;
pub(crate) mod wire;

pub use service::{ApiCall, ApiReply, ApiService};
pub use status::{Reason, Status};
