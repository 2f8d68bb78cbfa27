//! The API server: [`ApiServer`] implements [`troupe_api::ApiService`] over any [`troupe_api_server::store::Store`].
//!
//! One ordered store watch feeds an actor per resource ([`cache`]); reads come from their snapshots (`read`), writes run on
//! the caller's worker stage by stage (`write`), commit by compare-and-swap (`commit`) and reply once the snapshot shows them.
//! `server` puts the parts together; each part holds those that it needs.
//!
//! Tests of units that need an API server boot one in memory with [`testing::boot`]:
//!
//! ```ignore
//! #[actix::test]
//! async fn a_controller_sees_its_objects() {
//!     let api = troupe_actors::apiserver::testing::boot().await;
//!     api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}})).await;
//!     let client: troupe_api_client::Client = api.client.clone();
//! }
//! ```

mod admission;
mod advertise;
pub mod aggregation;
mod auth_resources;
mod authorization;
mod bootstrap;
pub mod cache;
mod commit;
mod component_status;
mod computed;
mod continue_token;
mod definitions;
mod health;
mod hops;
mod listers;
pub mod metrics;
mod objects;
mod old_watch;
mod options;
mod page;
mod parts;
mod past;
mod quota;
mod read;
mod refusals;
mod resource_metrics;
mod selection;
mod server;
mod server_client;
mod services;
mod store_status;
mod subresources;
mod subscribe;
mod table;
pub mod testing;
#[cfg(test)]
mod tests;
mod upkeep;
mod versions;
mod write;
mod writer;

pub use aggregation::trust::Trust;
pub use auth_resources::AuthResources;
pub use bootstrap::Bootstrap;
pub use options::{ApiServerOptions, Listening, MakeAuthorizer, MakeVirtualResources, VirtualRequest, VirtualResources};
pub use server::ApiServer;
pub use store_status::store_status;
