//! Memory that containers have for themselves on NUMA nodes: upstream's memory manager with its `Static` policy (KEP-1769).

pub mod machine;
pub mod manager;
pub mod policy;
pub mod state;

/// The names of the policies.
pub const NONE: &str = "None";
pub const STATIC: &str = "Static";
