//! The controllers: a folder each, bringing actual state to desired state.

pub mod deployment;
pub mod owners;
pub mod pods;
pub mod replicaset;
