//! Attacks on a live cluster: what anybody can send, and what a pod or a node can do. Each must be refused or bounded, while the
//! daemon lives on within its memory and other clients hardly notice.
//!
//! Needs what the integration tests need. `$TROUPE_BIN` names another program to test.

mod addresses;
mod anonymous;
#[allow(dead_code, reason = "each attack uses what it needs")]
mod caller;
#[allow(dead_code, reason = "shared with the integration tests")]
#[path = "../integration/cluster.rs"]
mod cluster;
mod crash_loop;
mod daemons;
#[allow(dead_code, reason = "shared with the integration tests")]
#[path = "../integration/database.rs"]
mod database;
mod decoding;
mod disk_filling;
mod edge;
#[allow(dead_code, reason = "each attack uses what it needs")]
mod hostile_webhook;
mod isolation;
mod leads;
mod memory_group;
mod multiplying;
mod neighbours;
mod node_admission;
mod node_identity;
mod patching;
mod pod_files;
mod pod_links;
mod pod_security;
mod policy;
mod replicas;
#[path = "../integration/running.rs"]
mod running;
#[allow(dead_code, reason = "shared with the integration tests")]
#[path = "../integration/small_disk.rs"]
mod small_disk;
#[allow(dead_code, reason = "each attack uses what it needs")]
mod stage;
mod stalls;
mod unread_input;
mod validation_core;
mod validation_extensions;
mod validation_pod;
mod validation_storage;
mod webhooks;
mod witness;
