//! The API server: [`ApiServer`] implements [`troupe_api::ApiService`] over any [`troupe_api::store::Store`].
//!
//! One ordered store watch feeds an actor per resource ([`cache`]); reads come from their snapshots, writes run on
//! the caller's worker (`write`), commit by compare-and-swap and reply once the snapshot shows them.
//!
//! Tests of units that need an API server boot one in memory with [`testing::boot`]:
//!
//! ```ignore
//! #[actix::test]
//! async fn a_controller_sees_its_objects() {
//!     let api = troupe_actors::apiserver::testing::boot().await;
//!     api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}})).await;
//!     let client: troupe_api::client::Client = api.client.clone();
//! }
//! ```

mod advertise;
pub mod aggregation;
mod auth_resources;
mod bootstrap;
pub mod cache;
mod component_status;
mod continue_token;
mod core;
mod definitions;
mod health;
mod hops;
pub mod metrics;
mod objects;
mod old_watch;
mod options;
mod quota;
mod read;
mod server;
mod services;
mod subresources;
mod table;
pub mod testing;
#[cfg(test)]
mod tests;
mod upkeep;
mod write;

pub use self::core::store_status;
pub use aggregation::trust::Trust;
pub use auth_resources::AuthResources;
pub use bootstrap::Bootstrap;
pub use options::{ApiServerOptions, MakeAuthorizer, MakeVirtualResources, VirtualRequest, VirtualResources};
pub use server::ApiServer;
