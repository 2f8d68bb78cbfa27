//! ReplicaSet: keeps as many pods as it says.

pub mod plan;

#[cfg(test)]
mod tests;
