//! Tests of whole pods: on the fake runtime, and on a real containerd.

mod caused;
mod certified;
pub(super) mod containerd;
mod csi;
mod driver;
mod forgotten;
mod linked;
mod overwritten;
mod pinned;
mod pulled;
mod real;
mod refused;
mod resized;
mod shut_down;
mod stage;
mod visitors;
mod whole;
