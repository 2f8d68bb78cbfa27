//! The controllers: a folder each, bringing actual state to desired state.

pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod namespace;
pub mod owners;
pub mod pods;
pub mod replicaset;
pub mod root_ca;
pub mod serviceaccount;
mod services;
mod writes;
