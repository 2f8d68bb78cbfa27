//! The kubelet: registers the node, runs the pods bound to it, and reports on both.

pub mod cgroups;
pub mod cluster;
pub mod context;
pub mod env;
pub mod events;
pub mod images;
pub mod probes;
pub mod resolv;
pub mod status;
pub mod volumes;
pub mod worker;

#[cfg(test)]
mod tests;
