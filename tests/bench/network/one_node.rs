//! What is measured between pods of one node.

use std::{net::SocketAddr, thread};

use super::{End, by_hand::ByHand, connections, names, policies, run_pods, streams, throughput};
use crate::cluster::{Cluster, apply, eventually};

/// A cluster and two pods of it that do nothing by themselves.
struct Node {
    cluster: Cluster,
    from: End,
    to: End,
}

/// A name, and what measures it.
type Part = (&'static str, fn(&Node));

/// In this order: what comes last leaves the most behind.
const PARTS: [Part; 4] = [("throughput", carried), ("connections", connected), ("names", named), ("policies", policed)];

pub fn measure() {
    let cluster = Cluster::up();
    let [from, to] = run_pods(&cluster, "default", [("from", "it"), ("to", "it")]);
    let node = Node { cluster, from, to };
    let mut failed = Vec::new();
    for (name, part) in PARTS {
        if thread::scope(|scope| scope.spawn(|| part(&node)).join()).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "between pods of one node {failed:?} did not come to their end");
}

/// Answered by the pod that receives, at the same port.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: carried}
spec: {selector: {app: to}, ports: [{port: 7100}]}
";

fn carried(node: &Node) {
    let Node { cluster, from, to } = node;
    apply(cluster, SERVICE);
    let service = cluster.kubectl("get service carried -o jsonpath={.spec.clusterIP}");
    let service = SocketAddr::new(service.parse().expect("an address"), streams::PORT);
    let by_hand = ByHand::bridge(throughput::mtu_of(from));
    let direct = SocketAddr::new(to.ip, streams::PORT);
    throughput::compare("one connection pod → pod on one node", from, to, direct, &by_hand);
    eventually("the kernel has the Service", || cluster.rules().contains(&direct.to_string()));
    throughput::compare("one connection pod → Service on one node", from, to, service, &by_hand);
}

fn connected(node: &Node) {
    connections::measure(&node.cluster, &node.from, &node.to);
}

fn named(node: &Node) {
    names::measure(&node.cluster, &node.from);
}

fn policed(node: &Node) {
    policies::measure(&node.cluster);
}
