//! What an API server is made of, without the actors that drive it.
//!
//! Admission, authentication and authorization by others, aggregation, conversion, audit, flow control, the HTTP routes, and the
//! store with its encryption. The crate never imports `troupe-actors`: what it needs from actors are the traits of
//! [`troupe_api::service`].

#[cfg(test)]
extern crate self as troupe_api_server;

pub mod admission;
pub mod aggregation;
pub mod audit;
pub mod authentication;
pub mod authorization;
pub mod backends;
pub mod conversion;
pub mod encryption;
pub mod flow;
pub mod http;
pub mod informational;
pub mod openapi;
pub mod otlp;
pub mod reloading;
pub(crate) mod render;
pub mod store;
pub mod token_signer;
pub mod underway;
pub mod webhook_client;
