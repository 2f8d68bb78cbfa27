//! The API: its vocabulary and rules.
//!
//! What everybody who speaks Kubernetes' API needs lives here: object metadata, the resource table with its validation, schemas,
//! encodings, expressions, patches, and who may do what. The client of it is `troupe-api-client`, what only a server needs is
//! `troupe-api-server`. How both and the units of `troupe-actors` know each other are two traits: [`service::ApiService`] and
//! [`service::Listers`].

pub mod aside;
pub mod auth;
pub mod certificates;
pub mod decoding;
pub mod device_selectors;
pub mod document;
pub mod encodings;
pub mod expressions;
pub mod features;
pub mod formats;
#[cfg(test)]
mod growth;
pub mod load_balancing;
pub mod local_path;
pub mod memo;
pub mod memory;
pub mod meta;
pub mod metrics;
pub mod node_pressure;
pub mod notices;
pub mod packed;
pub mod patch;
pub mod pattern;
pub mod projection;
pub mod protobuf;
pub mod quota;
pub mod resources;
pub mod schema;
pub mod service;
pub mod shared;
pub mod spans;
pub mod status;
pub mod stored;
pub mod turn_queue;
pub mod version;
pub mod wire;

pub use service::{ApiCall, ApiReply, ApiService};
pub use status::{Reason, Status};
