//! Changing the CPU and memory of running pods in place (KEP-1287).
//!
//! A pod's spec says what is desired. [`allocation`] holds what this node has promised it, [`record`] what was promised and what its
//! containers really have, on disk beside the pod's volumes. `kubelet/pods` decides whether a desired size is allocated ([`pending`] says
//! in which order), and the pod's worker brings what containers have to what is allocated: [`operations`] orders the writes.

pub mod allocation;
pub mod amounts;
pub mod message;
pub mod operations;
pub mod pending;
pub mod record;
#[cfg(test)]
mod tests;

pub use self::{
    allocation::{Allocated, Allocations, PodAllocation, View},
    amounts::{Actuated, Amounts, PodAmounts},
    record::Record,
};
