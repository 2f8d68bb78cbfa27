//! Random Services with their endpoints, and where they are asked.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use proptest::prelude::*;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::Family;

use crate::proxy::{
    endpoints::Location,
    layout::Changes,
    plan::{NodeView, plan},
    ranges,
};

/// Where all Services have their addresses.
const RANGES: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
/// Addresses there that no Service has.
const UNCLAIMED: [&str; 2] = ["10.96.7.7", "fd00:10:96::707"];

/// A Service as the API has it.
#[derive(Clone, Debug)]
pub struct Served {
    name: String,
    service: Service,
    slices: Vec<Arc<EndpointSlice>>,
}

/// An address, protocol and port where somebody may ask.
pub type Door = (IpAddr, String, Option<u16>);

/// The node that all rules are of, at `ip`.
fn node(ip: IpAddr) -> NodeView {
    let pods = if ip.is_ipv4() { "10.244.0.0/16" } else { "fd00:10:244::/48" };
    NodeView {
        location: Location { node: "n1".into(), zone: "z1".into() },
        node_ip: Some(ip),
        cluster_range: pods.parse().expect("a network"),
        daemons: Arc::default(),
    }
}

/// An endpoint at `10.244.0.N` or `fd00:10:244::N` on this node, at `10.244.1.N` or `fd00:10:244:1::N` elsewhere: ready, draining, or not ready.
fn endpoint(family: Family, (number, is_here, state): (u8, bool, u8)) -> Value {
    let elsewhere = u8::from(!is_here);
    let ip = if family == Family::V4 { format!("10.244.{elsewhere}.{number}") } else { format!("fd00:10:244:{elsewhere}::{number}") };
    json!({
        "addresses": [ip],
        "nodeName": if is_here { "n1" } else { "n2" },
        "conditions": {"ready": state == 0, "serving": state < 2, "terminating": state == 1},
    })
}

/// The settings of a Service, a bit each.
mod setting {
    pub const EXTERNAL_LOCAL: u8 = 1;
    pub const INTERNAL_LOCAL: u8 = 2;
    pub const AFFINITY: u8 = 4;
    pub const EXTERNAL_IP: u8 = 8;
    /// So many that ports and addresses are told apart one after the other.
    pub const MANY_EXTERNAL_IPS: u8 = 16;
    pub const BALANCER: u8 = 32;
    pub const SOURCES: u8 = 64;
}

fn served(at: usize, settings: u8, endpoints: &[(u8, bool, u8)]) -> Served {
    let has = |bit: u8| settings & bit != 0;
    let policy = |bit: u8| if has(bit) { "Local" } else { "Cluster" };
    let external = if has(setting::MANY_EXTERNAL_IPS) { 30 } else { u8::from(has(setting::EXTERNAL_IP)) };
    let external: Vec<String> = (1..=external).flat_map(|number| [format!("198.18.{at}.{number}"), format!("2001:db8:18:{at}::{number}")]).collect();
    let balancer = [format!("203.0.113.{}", at + 1), format!("2001:db8:113::{}", at + 1)];
    let ingress: Vec<Value> = balancer.iter().filter(|_| has(setting::BALANCER)).map(|ip| json!({"ip": ip})).collect();
    let sources = ["192.0.2.0/24", "10.244.0.4/30", "10.244.1.2/32", "2001:db8::/64", "fd00:10:244::4/126", "fd00:10:244:1::2/128"];
    let sources: &[&str] = if has(setting::SOURCES) { &sources } else { &[] };
    let name = format!("s{at}");
    let service = json!({
        "metadata": {"name": name, "namespace": "n0"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": format!("10.96.0.{}", at + 1),
            "clusterIPs": [format!("10.96.0.{}", at + 1), format!("fd00:10:96::{}", at + 1)],
            "externalTrafficPolicy": policy(setting::EXTERNAL_LOCAL),
            "internalTrafficPolicy": policy(setting::INTERNAL_LOCAL),
            "sessionAffinity": if has(setting::AFFINITY) { "ClientIP" } else { "None" },
            "externalIPs": external,
            "loadBalancerSourceRanges": sources,
            "ports": [
                {"name": "a", "port": 80, "protocol": "TCP", "nodePort": 30_000 + 2 * at},
                {"name": "b", "port": 53, "protocol": "UDP", "nodePort": 30_001 + 2 * at},
                {"name": "c", "port": 90, "protocol": "SCTP"},
            ],
        },
        "status": {"loadBalancer": {"ingress": ingress}},
    });
    // Policies name ports from 80 on.
    let ports = [("a", 80 + at % 3, "TCP"), ("b", 83, "UDP"), ("c", 81, "SCTP")];
    let ports: Vec<Value> = ports.iter().map(|(name, port, protocol)| json!({"name": name, "port": port, "protocol": protocol})).collect();
    let slice = |family: Family| {
        let endpoints: Vec<Value> = endpoints.iter().map(|each| endpoint(family, *each)).collect();
        let metadata = json!({"name": format!("{name}-{family:?}"), "namespace": "n0", "labels": {"kubernetes.io/service-name": name}});
        let slice = json!({"metadata": metadata, "addressType": family.name(), "endpoints": endpoints, "ports": ports});
        Arc::new(serde_json::from_value(slice).expect("a slice"))
    };
    let slices = Family::ALL.map(slice).to_vec();
    Served { service: serde_json::from_value(service).expect("a service"), slices, name }
}

pub fn services() -> impl Strategy<Value = Vec<Served>> {
    let state = prop_oneof![4 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    let endpoints = prop::collection::vec((1..8u8, any::<bool>(), state), 0..4);
    let settings = prop_oneof![1 => Just(0u8), 3 => 0..128u8];
    prop::collection::vec((settings, endpoints), 1..5)
        .prop_map(|all| all.into_iter().enumerate().map(|(at, (settings, endpoints))| served(at, settings, &endpoints)).collect())
}

/// What a node at `ip` does about Services, by Service, and about addresses that none has.
pub fn changes(services: &[Served], ip: IpAddr) -> Changes {
    let of = |served: &Served| {
        let planned = plan(&served.service, &served.slices, &node(ip));
        (ObjectKey::new("n0", &*served.name), Some(planned.rules))
    };
    let range = json!({"metadata": {"name": ranges::OWN_RANGE}, "spec": {"cidrs": RANGES}});
    let range = Arc::new(serde_json::from_value(range).expect("a range"));
    services.iter().map(of).chain([(ranges::owner(), Some(ranges::plan(Some(&range), Family::of(ip)).rules))]).collect()
}

/// Where Services are asked in a family: at addresses of theirs and at their ports of a node that has the addresses `node`; and where nobody
/// answers.
pub fn doors(services: &[Served], family: Family, node: &[IpAddr]) -> Vec<Door> {
    let parse = |ip: &String| -> IpAddr { ip.parse().expect("an address") };
    let mut doors = Vec::new();
    for Served { service, .. } in services {
        let spec = service.spec.as_ref().expect("has one");
        let balancer = service.status.iter().flat_map(|status| &status.load_balancer).flat_map(|balancer| balancer.ingress.iter().flatten());
        let balancer = balancer.filter_map(|point| point.ip.as_ref());
        // The last ones stand for all.
        let external = spec.external_ips.iter().flatten().rev().take(2);
        let ips = spec.cluster_ips.iter().flatten().chain(external).chain(balancer).map(parse);
        let ips: Vec<IpAddr> = ips.filter(|ip| family.has(*ip)).collect();
        for port in spec.ports.iter().flatten() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
            let number = |port: i32| u16::try_from(port).ok();
            doors.extend(ips.iter().map(|ip| (*ip, protocol.clone(), number(port.port))));
            if let Some(node_port) = port.node_port.and_then(number) {
                doors.extend(node.iter().map(|ip| (*ip, protocol.clone(), Some(node_port))));
            }
        }
        // No port of its.
        doors.push((ips[0], "tcp".into(), Some(81)));
    }
    for unclaimed in UNCLAIMED.iter().map(|ip| parse(&(*ip).to_owned())).filter(|ip| family.has(*ip)) {
        doors.extend(["tcp", "udp", "sctp"].map(|protocol| (unclaimed, protocol.to_owned(), Some(80))));
        doors.push((unclaimed, echo(family).to_owned(), None));
    }
    doors
}

/// What the packet filter calls a family's ICMP.
pub fn echo(family: Family) -> &'static str {
    if family == Family::V4 { "icmp" } else { "ipv6-icmp" }
}
