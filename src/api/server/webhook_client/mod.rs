//! The client of all webhooks, of admission and of conversion alike: it finds the address behind a URL or a Service inside this server,
//! keeps connections, and reads answers of bounded length in bounded time.

mod answers;
mod client;
mod connections;
pub mod destination;
mod endpoint;
pub mod fetch;
mod review_version;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod words;

pub use answers::Answers;
pub use client::Client;
pub use connections::{Connection, Connections, connect};
pub use endpoint::{Endpoint, EndpointError};
pub use review_version::ReviewVersion;
