//! The troupe: every reconciling unit and the runtime that supervises them.

pub mod apiserver;
pub mod component_server;
pub mod controllers;
pub mod devices;
pub mod dns;
pub mod document_shape;
pub mod files;
pub mod hollow;
pub mod insight;
pub mod kubelet;
pub mod load_balancer;
pub mod metrics;
pub mod network_policy;
pub mod overlay;
pub mod pod_conditions;
pub mod pod_phase;
pub mod proxy;
pub mod reachability;
pub mod rules;
pub mod runtime;
pub mod scheduler;
pub mod serving;
pub mod simulation;
pub mod storage;
pub mod zpages;
