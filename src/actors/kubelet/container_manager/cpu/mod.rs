//! CPUs that containers have for themselves, and those that all others share.

pub mod topology;
