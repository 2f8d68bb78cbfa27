//! Deployment: keeps a ReplicaSet per pod template and moves pods from the old ones to the new one.

pub mod history;
pub mod plan;
pub mod rolling;
pub mod status;
pub mod template;

#[cfg(test)]
mod tests;
