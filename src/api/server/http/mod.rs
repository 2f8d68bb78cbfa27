//! The HTTPS front door: actix-web over rustls, one handler that routes by the live resource table.
//!
//! A request comes in, is bounded (`limits`), told who calls (`identity`), read into a path ([`path`]) and routed
//! against the registry of the [`ApiService`](troupe_api::ApiService) (`route`); what goes out is bytes spliced from
//! stored objects (`reply`, `list`, `watch`), documents about the API ([`discovery`], `openapi`) or, whatever
//! goes wrong, a `Status`. Authorization of resource requests lives behind the service; the edge itself authorizes
//! what the service never sees (other paths, impersonation, connect subresources and unknown resources) and whatever may
//! have a body, before it reads the body.

pub mod accept;
mod aggregation;
mod answering;
mod audit_context;
mod authorize;
mod body;
mod compress;
pub mod connect;
mod connect_options;
pub mod connections;
mod cors;
mod delete_options;
mod deprecation;
pub mod discovery;
mod documents;
mod frames;
#[doc(hidden)]
pub mod fuzzing;
mod handler;
pub mod handshakes;
mod health;
mod http2;
mod identity;
mod impersonation;
mod limits;
mod list;
mod list_options;
mod messages;
pub mod monitor;
mod most_in_flight;
mod openapi;
pub mod options;
mod outgoing;
pub mod path;
mod pretty;
mod query;
mod reply;
mod request_span;
mod resource;
mod route;
mod server;
mod sessions;
mod shared;
mod slices;
mod stream_options;
pub mod streaming;
mod table;
mod upgrade_io;
mod user_agent;
mod warnings;
mod watch;
mod watch_socket;
mod write_options;
mod yaml;

#[cfg(test)]
pub(crate) mod tests;

pub use connect::{Connect, ConnectRequest};
pub use cors::AllowedOrigins;
pub use list::slices as list_slices;
pub use options::{ExtraRoute, HealthCheck, HealthGroups, HttpOptions, RawReply};
pub use server::{HttpServerHandle, ServeError, serve};
