//! Tells whoever asks on this node which devices, CPUs and memory containers have (`podresources/v1`, KEP-606, KEP-2403, KEP-3695), at
//! `pod-resources/kubelet.sock`. Nothing is kept here: who gave it out is asked.

mod answers;
pub mod metrics;
pub mod proto;
mod server;
#[cfg(test)]
mod tests;

pub use self::{
    answers::{NodePods, Sources},
    server::PodResourcesServer,
};

/// The directory of the socket, below the kubelet's root.
pub const DIRECTORY: &str = "pod-resources";
