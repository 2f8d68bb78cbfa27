//! CPUs that containers have for themselves, and those that all others share: upstream's CPU manager with its `static` policy.

pub mod assignment;
pub mod distribution;
pub mod manager;
pub mod options;
pub mod policy;
pub mod state;
#[cfg(test)]
pub mod testing;
pub mod topology;
