//! What the node, its pods and their containers use: `/stats/summary`, `/metrics/resource` and `/metrics/cadvisor`.
//!
//! Containers' figures come from the runtime, the node's from procfs; cAdvisor's from cgroups and pods' network namespaces. Everything is
//! read when somebody asks.

mod cadvisor;
mod cgroup;
mod detail;
mod exposition;
mod file_systems;
mod interfaces;
mod open_files;
mod pressure;
mod rates;
mod sample;
mod summary;
mod swaps;

#[cfg(test)]
mod tests;

pub use self::{
    cadvisor::cadvisor,
    cgroup::own_group,
    detail::details,
    exposition::resource,
    file_systems::{PodLogs, of_images},
    rates::{Rates, rates},
    sample::{ContainerUsage, NodeUsage, Sample},
    summary::{Known, PodVolume, PodVolumes, summary},
    swaps::{Swaps, swaps},
};
