//! The kubelet's HTTPS server: logs, exec, attach, port-forward, and what monitoring asks.
//!
//! Clients (the API server first of all) come with a certificate or token; each request is authorized as an access
//! to a subresource of this node. Streams are not interpreted: after the upgrade bytes go between the client and the
//! container runtime's streaming server.

mod authorize;
pub mod checkpoint;
pub mod directory;
mod documents;
mod listen;
pub mod logs;
mod route;
mod streams;
mod system_logs;

#[cfg(test)]
mod tests;

pub use directory::{LogFile, LookupError, PodDirectory, PodRef, cri::CriPodDirectory};
pub use listen::{KubeletServerOptions, PATHS, serve};
