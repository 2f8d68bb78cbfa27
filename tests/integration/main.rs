//! The whole cluster on real parts: `troupe up` in a network namespace of its own, driven with kubectl.
//!
//! Needs root, containerd, runc, CNI plugins, iptables and kubectl, and the image archives in
//! `$CARGO_TARGET_DIR/images` (`make images` builds them). `$TROUPE_BIN` names another program to test.

mod autoscaling;
mod backup;
mod certificate_rotation;
mod churn;
mod clock;
#[allow(dead_code, reason = "benchmarks use more of it")]
mod cluster;
#[path = "../support/collector.rs"]
mod collector;
mod custom_resources;
mod daemons;
mod database;
mod device_rules;
mod disk;
mod families;
mod flags;
mod footprint;
#[allow(dead_code, reason = "shared with the benchmarks")]
#[path = "../support/https.rs"]
mod https;
mod hub;
mod insight;
mod kubectl;
mod ledger;
mod leftovers;
mod load;
mod machine;
mod network_choices;
mod network_policies;
mod pair;
mod panics;
mod pod_certificates;
mod pod_network;
mod poison;
mod policy_churn;
mod policy_rules;
mod processes;
mod reloading;
mod renewal;
mod running;
mod sample;
mod scheduler_profiles;
mod sealed;
mod several_nodes;
#[allow(dead_code, reason = "shared with the attacks")]
mod small_disk;
mod stores;
mod survival;
mod traces;
mod trust_bundles;
mod two_nodes;
mod units;
mod volumes;
mod workloads;
