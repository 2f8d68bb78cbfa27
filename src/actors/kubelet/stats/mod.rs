//! What the node, its pods and their containers use: `/stats/summary`, `/metrics/resource` and `/metrics/cadvisor`.
//!
//! Containers' figures come from the runtime, the node's from procfs. Everything is read when somebody asks.

mod exposition;
mod sample;
mod summary;

#[cfg(test)]
mod tests;

pub use self::{
    exposition::{cadvisor, resource},
    sample::{ContainerUsage, NodeUsage, Sample},
    summary::{PodVolume, PodVolumes, summary},
};
