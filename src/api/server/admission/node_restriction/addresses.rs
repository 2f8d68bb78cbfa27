//! The addresses that a node reports: none of another node's, of the cluster's own, or of every machine.
//!
//! Upstream takes any. But the control plane connects to these addresses, and gives certificates for them.

use std::net::IpAddr;

use serde_json::Value;
use troupe_api::{
    auth::{
        node::{ClusterIdentity, Reserved},
        peer::Peer,
    },
    meta::{GroupResource, Object},
    status::Status,
};

use super::{Attributes, text};

/// Refuses addresses that are new and not the node's.
pub fn check(request: &Attributes<'_>, node: &str, new: &Object, old: Option<&Object>) -> Result<(), Status> {
    let known: Vec<&str> = old.map(addresses).unwrap_or_default();
    let added: Vec<&str> = addresses(new).into_iter().filter(|address| !known.contains(address)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let cluster = ClusterIdentity::read(request.reads.listers());
    let peer = Peer::of(Some(&request.user.extra));
    for address in &added {
        if let Some(reserved) = reserved(&cluster, peer, address) {
            return Err(request.forbidden(format!("node {node:?} is not allowed to report the address {address:?}, which is {}", reserved.what())));
        }
    }
    // A machine that moved, or has another name now, connects from the address: who had it before does so no more.
    let unproven: Vec<&str> = added.into_iter().filter(|address| !is_proven(peer, address)).collect();
    match holder(request, node, &unproven) {
        Some((other, address)) => {
            Err(request.forbidden(format!("node {node:?} is not allowed to report the address {address:?}, which is node {other:?}'s")))
        }
        None => Ok(()),
    }
}

/// All addresses that a node reports.
pub fn addresses(node: &Object) -> Vec<&str> {
    node.list(&["status", "addresses"]).iter().map(|address| text(address, "address")).collect()
}

/// A node on an API server's machine has its address: it connects from there. One in its process is as trusted as the server.
fn reserved(cluster: &ClusterIdentity, peer: Peer, address: &str) -> Option<Reserved> {
    let ip = address.parse::<IpAddr>();
    let reserved = ip.as_ref().map_or_else(|_| cluster.name(address), |ip| cluster.address(*ip))?;
    let proven = match (reserved, ip) {
        (Reserved::Service, _) => false,
        (Reserved::Server, Ok(ip)) => peer.is_local() || peer.proves(ip.to_canonical()),
        _ => peer == Peer::InProcess,
    };
    (!proven).then_some(reserved)
}

fn is_proven(peer: Peer, address: &str) -> bool {
    address.parse::<IpAddr>().map_or(peer == Peer::InProcess, |ip| peer.proves(ip.to_canonical()))
}

/// Another node that has one of the addresses, or its name.
fn holder<'a>(request: &Attributes<'_>, node: &str, added: &[&'a str]) -> Option<(String, &'a str)> {
    let canonical = |address: &str| address.parse::<IpAddr>().map_or_else(|_| address.to_ascii_lowercase(), |ip| ip.to_canonical().to_string());
    let added: Vec<(String, &str)> = added.iter().map(|address| (canonical(address), *address)).collect();
    let nodes = request.reads.listers().list(&GroupResource::new("", "nodes"), "");
    nodes.iter().filter(|other| *other.key.name != *node).find_map(|other| {
        let object = other.to_object();
        let held: Vec<String> = addresses(&object).into_iter().chain([object.name()]).map(canonical).collect();
        let (_, address) = added.iter().find(|(wanted, _)| held.contains(wanted))?;
        Some((object.name().to_owned(), *address))
    })
}

/// Ranges of pods' addresses are the cluster's to give: a node that named its own could draw all traffic to itself.
pub fn check_pod_ranges(request: &Attributes<'_>, node: &str, new: &Object, old: Option<&Object>) -> Result<(), Status> {
    let ranges = |object: &Object| -> Vec<Value> {
        let one = object.get(&["spec", "podCIDR"]).filter(|range| range.as_str().is_some_and(|text| !text.is_empty())).cloned();
        one.into_iter().chain(object.list(&["spec", "podCIDRs"]).iter().cloned()).collect()
    };
    if ranges(new) == old.map(ranges).unwrap_or_default() {
        return Ok(());
    }
    Err(request.forbidden(format!("node {node:?} is not allowed to set podCIDR")))
}
