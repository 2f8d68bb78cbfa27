//! Random clusters.

use std::{collections::BTreeMap, net::IpAddr};

use proptest::prelude::*;
use serde_json::{Value, json};
use troupe_net::iptables::Family;

use super::reference::{Cluster, ips_of};

fn labels() -> impl Strategy<Value = Value> {
    (prop::option::of(0..2u8), prop::option::of(0..2u8)).prop_map(|(app, tier)| {
        let mut labels = serde_json::Map::new();
        app.into_iter().for_each(|app| drop(labels.insert("app".into(), format!("a{app}").into())));
        tier.into_iter().for_each(|tier| drop(labels.insert("tier".into(), format!("t{tier}").into())));
        labels.into()
    })
}

fn selector() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec!["app", "tier"]);
    let expression = (key, prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist"]), 0..2u8).prop_map(|(key, operator, value)| {
        let value = format!("{}{value}", &key[..1]);
        let values = if operator.ends_with("In") { json!([value]) } else { Value::Null };
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    });
    prop_oneof![2 => Just(json!({})), 3 => labels().prop_map(|labels| json!({"matchLabels": labels})), 2 => expression]
}

fn peer() -> impl Strategy<Value = Value> {
    let block = (0..4u8, prop::collection::vec(0..8u8, 0..3)).prop_map(|(kind, except)| {
        let cidr = ["0.0.0.0/0", "10.244.0.0/16", "10.244.0.0/24", "192.0.2.0/24"][usize::from(kind)];
        let base = if cidr.starts_with("192") { "192.0.2" } else { "10.244.0" };
        let except: Vec<String> = except.into_iter().map(|low| format!("{base}.{low}/{}", if low % 2 == 0 { 31 } else { 32 })).collect();
        json!({"ipBlock": {"cidr": cidr, "except": except}})
    });
    prop_oneof![
        2 => selector().prop_map(|pods| json!({"podSelector": pods})),
        1 => selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        2 => (selector(), selector()).prop_map(|(namespaces, pods)| json!({"namespaceSelector": namespaces, "podSelector": pods})),
        2 => block,
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let protocol = prop::sample::select(vec![json!(null), json!("TCP"), json!("UDP"), json!("SCTP")]);
    let which = prop_oneof![
        Just(json!({})),
        (80..84u16).prop_map(|port| json!({"port": port})),
        (80..82u16, 0..3u16).prop_map(|(port, more)| json!({"port": port, "endPort": port + more})),
        Just(json!({"port": "web"})),
        Just(json!({"port": "dns"})),
    ];
    (protocol, which).prop_map(|(protocol, mut port)| {
        port["protocol"] = protocol;
        port
    })
}

fn rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let rule = (prop::collection::vec(peer(), 0..3), prop::collection::vec(port(), 0..3));
    prop::collection::vec(rule.prop_map(move |(to, ports)| json!({peers: to, "ports": ports})), 0..3).prop_map(|rules| json!(rules))
}

fn policy() -> impl Strategy<Value = (u8, Value)> {
    let types = prop::sample::select(vec![json!(null), json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
    (0..2u8, selector(), types, rules("from"), rules("to")).prop_map(|(namespace, pods, types, ingress, egress)| {
        (namespace, json!({"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress}))
    })
}

/// Pods are at `10.244.0.N` and `fd00:10:244::N` here and at `10.244.1.N` and `fd00:10:244:1::N` elsewhere.
fn pods() -> impl Strategy<Value = Vec<(u8, Value, bool, u8)>> {
    let state = prop_oneof![8 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    prop::collection::vec((0..2u8, labels(), any::<bool>(), state), 2..8)
}

fn cluster_peer(ingress: bool) -> impl Strategy<Value = Value> {
    let pods = (selector(), selector()).prop_map(|(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}}));
    let networks =
        prop::sample::subsequence(vec!["0.0.0.0/0", "10.244.0.2/31", "192.0.2.0/24", "::/0", "fd00:10:244::/64", "fd00:10:244:1::4/126"], 1..3);
    let elsewhere = if ingress { 0 } else { 2 };
    prop_oneof![
        2 => selector().prop_map(|namespaces| json!({"namespaces": namespaces})),
        3 => pods,
        elsewhere => networks.prop_map(|networks| json!({"networks": networks})),
        elsewhere => selector().prop_map(|nodes| json!({"nodes": nodes})),
    ]
}

fn protocol() -> impl Strategy<Value = Value> {
    let which = prop_oneof![
        Just(json!({})),
        (80..84u16).prop_map(|port| json!({"destinationPort": {"number": port}})),
        (80..82u16, 1..3u16).prop_map(|(port, more)| json!({"destinationPort": {"range": {"start": port, "end": port + more}}})),
    ];
    let by_number = (prop::sample::select(vec!["tcp", "udp", "sctp"]), which).prop_map(|(protocol, which)| json!({protocol: which}));
    prop_oneof![4 => by_number, 1 => prop::sample::select(vec!["web", "dns"]).prop_map(|name| json!({"destinationNamedPort": name}))]
}

fn cluster_rules(ingress: bool) -> impl Strategy<Value = Value> {
    let peers = if ingress { "from" } else { "to" };
    let action = prop::sample::select(vec!["Accept", "Deny", "Pass"]);
    let rule = (action, prop::collection::vec(cluster_peer(ingress), 1..3), prop::collection::vec(protocol(), 0..3));
    let rule = rule.prop_map(move |(action, others, protocols)| json!({"action": action, peers: others, "protocols": protocols}));
    prop::collection::vec(rule, 0..4).prop_map(|rules| json!(rules))
}

fn cluster_policy() -> impl Strategy<Value = Value> {
    let tier = prop::sample::select(vec!["Admin", "Baseline"]);
    (tier, 0..3u8, cluster_peer(true), cluster_rules(true), cluster_rules(false)).prop_map(|(tier, priority, subject, ingress, egress)| {
        json!({"tier": tier, "priority": priority, "subject": subject, "ingress": ingress, "egress": egress})
    })
}

/// The same with nodes, and policies of the cluster's administrators.
pub fn governed_cluster() -> impl Strategy<Value = Cluster> {
    (cluster(), labels(), labels(), prop::collection::vec(cluster_policy(), 1..5)).prop_map(|(cluster, first, second, policies)| {
        let node = |(number, labels): (usize, Value)| {
            let ips = [format!("192.168.1.{number}"), format!("fd00:1::{number}")];
            let addresses = ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).chain([json!({"type": "Hostname", "address": "n"})]);
            let addresses: Vec<Value> = addresses.collect();
            serde_json::from_value(json!({"metadata": {"name": format!("node-{number}"), "labels": labels}, "status": {"addresses": addresses}}))
        };
        let nodes = [(1, first), (2, second)].into_iter().map(|each| node(each).expect("a node")).collect();
        let named = |(at, spec): (usize, Value)| json!({"metadata": {"name": format!("cluster-policy-{at}")}, "spec": spec});
        Cluster { nodes, cluster_policies: policies.into_iter().enumerate().map(named).collect(), ..cluster }
    })
}

pub fn cluster() -> impl Strategy<Value = Cluster> {
    (labels(), labels(), pods(), prop::collection::vec(policy(), 1..5)).prop_map(|(first, second, pods, policies)| {
        let of = |labels: Value| serde_json::from_value(labels).expect("labels");
        let namespaces = BTreeMap::from([("n0".to_owned(), of(first)), ("n1".to_owned(), of(second))]);
        let pods = pods.into_iter().enumerate().map(|(at, (namespace, labels, here, state))| {
            let number = at + 1;
            let ips = [format!("10.244.{}.{number}", u8::from(!here)), format!("fd00:10:244:{}::{number}", u8::from(!here))];
            let ports = json!([{"name": "web", "containerPort": 80 + number % 3}, {"name": "dns", "containerPort": 83, "protocol": "UDP"}]);
            let pod = json!({
                "metadata": {"namespace": format!("n{namespace}"), "name": format!("p{number}"), "uid": format!("u{number}"), "labels": labels},
                "spec": {"hostNetwork": state == 1, "containers": [{"name": "c", "ports": ports}]},
                "status": {"phase": if state == 2 { "Failed" } else { "Running" }, "podIP": ips[0], "podIPs": [{"ip": ips[0]}, {"ip": ips[1]}]},
            });
            serde_json::from_value(pod).expect("a pod")
        });
        let policies = policies.into_iter().enumerate().map(|(at, (namespace, spec))| {
            let policy = json!({"metadata": {"namespace": format!("n{namespace}"), "name": format!("policy-{at}")}, "spec": spec});
            serde_json::from_value(policy).expect("a policy")
        });
        Cluster { namespaces, pods: pods.collect(), policies: policies.collect(), ..Cluster::default() }
    })
}

/// Addresses of a family that somebody may have.
pub fn addresses(cluster: &Cluster, family: Family) -> Vec<IpAddr> {
    let others = ["192.0.2.1", "192.0.2.6", "198.51.100.7", "192.168.1.1", "192.168.1.2", "2001:db8::7", "fd00:1::1", "fd00:1::2"];
    let others = others.iter().map(|ip| ip.parse().expect("an address"));
    cluster.pods.iter().flat_map(ips_of).chain(others).filter(|ip| family.has(*ip)).collect()
}
