//! The node's network: iptables, connection tracking, netlink, CNI, address management and DNS records, each with
//! a pure part that decides and a thin part that acts, and recording fakes where something would touch the kernel.
//!
//! This crate knows no API types, so that small programs (the DNS server) can link it alone.

pub mod announce;
pub mod cleanup;
pub mod cni;
pub mod conntrack;
mod conntrack_entries;
pub mod conntrack_settings;
pub mod dns;
pub mod echo;
pub mod hash;
pub mod ipam;
pub mod iptables;
pub mod neighbours;
mod netfilter;
pub mod netlink;
pub mod netns;
pub mod node_links;
pub mod overlay;
pub mod podnet;
pub mod resolv;
