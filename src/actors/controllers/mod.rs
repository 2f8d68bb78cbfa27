//! The controllers: a folder each, bringing actual state to desired state.

pub mod bootstrap;
mod by_controller;
mod by_selector;
pub mod certificates;
pub mod cluster_role_aggregation;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod flow_schema;
pub mod garbage_collector;
#[cfg(test)]
mod integration_tests;
pub mod job;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod owners;
mod pace;
mod pod_control;
pub mod pod_gc;
pub mod pods;
pub mod policy_status;
pub mod replicaset;
pub mod replicationcontroller;
pub mod resourcequota;
mod revisions;
pub mod root_ca;
pub mod serviceaccount;
mod services;
pub mod statefulset;
pub mod token_secrets;
pub mod ttl_after_finished;
pub mod volume_protection;
mod writes;
