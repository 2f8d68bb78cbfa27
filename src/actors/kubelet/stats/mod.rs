//! What the node, its pods and their containers use: `/stats/summary`, `/metrics/resource` and `/metrics/cadvisor`.
//!
//! Containers' figures come from the runtime, the node's from procfs; cAdvisor's from cgroups and pods' network namespaces. Everything is
//! read when somebody asks.

mod cadvisor;
mod cgroup;
mod detail;
mod exposition;
mod interfaces;
mod sample;
mod summary;

#[cfg(test)]
mod tests;

pub use self::{
    cadvisor::cadvisor,
    detail::details,
    exposition::resource,
    sample::{ContainerUsage, NodeUsage, Sample},
    summary::{PodVolume, PodVolumes, summary},
};
