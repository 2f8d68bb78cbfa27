//! The port at which a node says that its kubelet listens.
//!
//! Upstream takes any. But the API server connects there for whoever may read logs or execute: a node must not lead it to what the machine
//! itself trusts, or to the API server. What an administrator or an earlier report of the same port made it stays.

use std::{collections::BTreeSet, net::IpAddr};

use troupe_api::{auth::node::ClusterIdentity, meta::Object, status::Status};

use super::{Attributes, addresses::addresses};

const PATH: [&str; 4] = ["status", "daemonEndpoints", "kubeletEndpoint", "Port"];
/// Below are ports that only root may listen at, of services of the machine.
const FIRST: i64 = 1024;
const LAST: i64 = 65535;

/// Refuses a port that is new and cannot be a kubelet's.
pub fn check(request: &Attributes<'_>, node: &str, new: &Object, old: Option<&Object>) -> Result<(), Status> {
    // A node that tells no port means the default one.
    let Some(port) = new.int(&PATH).filter(|port| *port != 0) else { return Ok(()) };
    if old.and_then(|old| old.int(&PATH)) == Some(port) {
        return Ok(());
    }
    let refused = |why: &str| Err(request.forbidden(format!("node {node:?} is not allowed to report the kubelet port {port}, which is {why}")));
    match port {
        FIRST..=LAST if is_servers(&ClusterIdentity::read(request.reads.listers()), new, port) => refused("the API server's"),
        FIRST..=LAST => Ok(()),
        1..FIRST => refused("privileged"),
        _ => refused("no port"),
    }
}

/// Whether an API server listens at that port of one of the node's addresses.
fn is_servers(cluster: &ClusterIdentity, node: &Object, port: i64) -> bool {
    let own: BTreeSet<IpAddr> = addresses(node).into_iter().filter_map(|address| address.parse().ok()).map(|ip: IpAddr| ip.to_canonical()).collect();
    cluster.server_ports.contains(&port) && !own.is_disjoint(&cluster.servers)
}
