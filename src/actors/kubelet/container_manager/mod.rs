//! Which parts of the machine containers run on, as upstream's container manager (`pkg/kubelet/cm`).

pub mod cpu;
pub mod refusal;
