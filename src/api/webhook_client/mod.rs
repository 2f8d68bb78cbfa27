//! The client of all webhooks, of admission and of conversion alike: it finds the address behind a URL or a Service inside this server,
//! keeps connections, and reads answers of bounded length in bounded time.

mod client;
mod connections;
pub mod destination;
mod review_version;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use connections::{Connection, Connections, connect};
pub use review_version::ReviewVersion;
