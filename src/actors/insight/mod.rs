//! Looking inside: what a process tells of its actors and hops, and how an API server asks all processes of the cluster.
//!
//! Each daemon answers the paths of `answer.rs` for itself: a node at the kubelet's port, an API server at its own, a control
//! plane without one at a port of its own ([`crate::component_server`]). An API server finds the nodes by their Node objects and the others by
//! the Leases that they keep ([`presence`]), asks them all and puts the answers together ([`Insight`]).

mod answer;
mod ask;
mod collect;
mod door;
mod peers;
pub mod presence;
#[cfg(test)]
mod tests;

pub use answer::{ACTORS, ASK, BELOW, HOPS, KILL, answer, tell};
pub use ask::Credentials;
pub use collect::Insight;
pub use door::FrontDoor;
