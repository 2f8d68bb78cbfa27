//! The front door over TLS on a port of its own, with a service in memory.

mod client;
mod discovery;
mod fake;
mod kubectl;
mod requests;
mod watches;
