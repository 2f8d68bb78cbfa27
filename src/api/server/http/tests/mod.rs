//! The front door over TLS on a port of its own, with a service in memory.

mod audit;
#[allow(dead_code, reason = "the benchmark uses more of it than the tests")]
pub mod client;
mod discovery;
mod edge;
pub mod fake;
mod forms;
mod front_proxies;
mod handshakes;
mod identities;
mod kubectl;
mod logs;
mod metrics;
mod protobuf;
mod proxies;
mod remote;
mod requests;
mod watches;
