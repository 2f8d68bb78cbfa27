//! Random pods, policies and packets: what slices and rules come to, against a slow reference that is written from the API's documentation.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnetwork::IpNetwork;
use k8s_openapi::{
    api::{
        core::v1::Pod,
        networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::{Family, RuleSet};

use super::planned;
use crate::{
    network_policy::{
        layout::TABLE,
        model::{PodView, PolicyView},
    },
    rules::simulate::{Packet, Verdict, simulate},
};

/// A cluster as people describe it.
#[derive(Debug)]
struct Cluster {
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pods: Vec<Pod>,
    policies: Vec<NetworkPolicy>,
}

// The reference: it reads the objects themselves and knows nothing of sets, chains and slices.

fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().expect("has one")
}

fn ip_of(pod: &Pod) -> IpAddr {
    pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).expect("has one").parse().expect("an address")
}

fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return true };
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let holds = selector.match_expressions.iter().flatten().all(|wanted| {
        let (has, values) = (labels.get(&wanted.key), wanted.values.clone().unwrap_or_default());
        match wanted.operator.as_str() {
            "In" => has.is_some_and(|value| values.contains(value)),
            "NotIn" => has.is_none_or(|value| !values.contains(value)),
            "Exists" => has.is_some(),
            "DoesNotExist" => has.is_none(),
            _ => false,
        }
    });
    equal && holds
}

fn labels_of(pod: &Pod) -> BTreeMap<String, String> {
    pod.metadata.labels.clone().unwrap_or_default()
}

fn is_subject(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.spec.as_ref().and_then(|spec| spec.host_network) != Some(true) && !matches!(phase, Some("Succeeded" | "Failed"))
}

impl Cluster {
    /// The pod that has an address: one that has ended has it no more, and one on the host's network only the node's.
    fn pod_at(&self, ip: IpAddr) -> Option<&Pod> {
        self.pods.iter().find(|pod| is_subject(pod) && ip_of(pod) == ip)
    }

    fn is_peer(&self, policy: &NetworkPolicy, peer: &NetworkPolicyPeer, ip: IpAddr) -> bool {
        if let Some(block) = &peer.ip_block {
            let has = |text: &String| text.parse::<IpNetwork>().expect("a network").contains(ip);
            return has(&block.cidr) && !block.except.iter().flatten().any(has);
        }
        let Some(pod) = self.pod_at(ip) else { return false };
        let there = match &peer.namespace_selector {
            None => Some(namespace_of(pod)) == policy.metadata.namespace.as_deref(),
            selector => selects(selector.as_ref(), &self.namespaces[namespace_of(pod)]),
        };
        there && selects(peer.pod_selector.as_ref(), &labels_of(pod))
    }

    /// `target` is the pod that is asked.
    fn is_port(&self, wanted: &NetworkPolicyPort, packet: &Packet, target: Option<&Pod>) -> bool {
        if wanted.protocol.as_deref().unwrap_or("TCP").to_lowercase() != packet.protocol {
            return false;
        }
        let Some(port) = packet.port.map(i32::from) else { return false };
        match &wanted.port {
            None => true,
            Some(IntOrString::Int(first)) => *first <= port && port <= wanted.end_port.unwrap_or(*first),
            Some(IntOrString::String(name)) => {
                let containers = target.and_then(|pod| pod.spec.as_ref()).map(|spec| spec.containers.as_slice()).unwrap_or_default();
                let ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
                ports.into_iter().any(|has| {
                    has.name.as_ref() == Some(name)
                        && has.container_port == port
                        && has.protocol.as_deref().unwrap_or("TCP").to_lowercase() == packet.protocol
                })
            }
        }
    }

    fn allows(&self, subject: &Pod, other: IpAddr, target: Option<&Pod>, ingress: bool, packet: &Packet) -> bool {
        let mut isolated = false;
        for policy in &self.policies {
            let spec = policy.spec.as_ref().expect("has one");
            let mine =
                policy.metadata.namespace.as_deref() == Some(namespace_of(subject)) && selects(spec.pod_selector.as_ref(), &labels_of(subject));
            let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
            let types = spec.policy_types.clone().unwrap_or_default();
            let kind = if ingress { "Ingress" } else { "Egress" };
            let applies = if types.is_empty() { ingress || has_egress } else { types.iter().any(|each| each == kind) };
            if !mine || !applies {
                continue;
            }
            isolated = true;
            type Parts<'a> = (&'a [NetworkPolicyPeer], &'a [NetworkPolicyPort]);
            let rules: Vec<Parts<'_>> = if ingress {
                spec.ingress
                    .iter()
                    .flatten()
                    .map(|rule| (rule.from.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default()))
                    .collect()
            } else {
                spec.egress.iter().flatten().map(|rule| (rule.to.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default())).collect()
            };
            // A name is that of a pod's port: going out, addresses that are named without their pods have none.
            let nameless = |peer: &NetworkPolicyPeer, port: &NetworkPolicyPort| {
                !ingress && peer.ip_block.is_some() && matches!(port.port, Some(IntOrString::String(_)))
            };
            let passes = |(peers, ports): &Parts<'_>| {
                let peers: Vec<_> =
                    peers.iter().filter(|peer| self.is_peer(policy, peer, other)).map(Some).chain(peers.is_empty().then_some(None)).collect();
                peers.into_iter().any(|peer| {
                    ports.is_empty() || ports.iter().any(|port| self.is_port(port, packet, target) && peer.is_none_or(|peer| !nameless(peer, port)))
                })
            };
            if rules.iter().any(passes) {
                return true;
            }
        }
        !isolated
    }

    /// Whether a connection may begin, as the pods of this node are concerned.
    fn expected(&self, packet: &Packet) -> bool {
        let (from, to) = (self.pod_at(packet.source), self.pod_at(packet.destination));
        if packet.established || packet.source == packet.destination {
            return true;
        }
        let local = |pod: &&Pod| is_local(ip_of(pod));
        from.filter(local).is_none_or(|pod| self.allows(pod, packet.destination, to, false, packet))
            && to.filter(local).is_none_or(|pod| self.allows(pod, packet.source, to, true, packet))
    }
}

/// Pods of this node have these addresses.
fn is_local(ip: IpAddr) -> bool {
    "10.244.0.0/24".parse::<IpNetwork>().expect("a network").contains(ip)
}

/// Everything that stands on this node.
fn rules_of(cluster: &Cluster) -> RuleSet {
    let pods: Vec<PodView> = cluster.pods.iter().map(PodView::of).collect();
    let policies: Vec<Arc<PolicyView>> = cluster.policies.iter().map(|policy| Arc::new(PolicyView::of(policy))).collect();
    planned::rules(Family::V4, &cluster.namespaces, &pods, &policies, |pod| pod.ips.iter().any(|ip| is_local(*ip)))
}

// Random clusters.

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

/// Pods are at `10.244.0.N` here and at `10.244.1.N` elsewhere.
fn pods() -> impl Strategy<Value = Vec<(u8, Value, bool, u8)>> {
    let state = prop_oneof![8 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    prop::collection::vec((0..2u8, labels(), any::<bool>(), state), 2..8)
}

fn cluster() -> impl Strategy<Value = Cluster> {
    (labels(), labels(), pods(), prop::collection::vec(policy(), 1..5)).prop_map(|(first, second, pods, policies)| {
        let of = |labels: Value| serde_json::from_value(labels).expect("labels");
        let namespaces = BTreeMap::from([("n0".to_owned(), of(first)), ("n1".to_owned(), of(second))]);
        let pods = pods.into_iter().enumerate().map(|(at, (namespace, labels, here, state))| {
            let number = at + 1;
            let ip = format!("10.244.{}.{number}", u8::from(!here));
            let ports = json!([{"name": "web", "containerPort": 80 + number % 3}, {"name": "dns", "containerPort": 83, "protocol": "UDP"}]);
            let pod = json!({
                "metadata": {"namespace": format!("n{namespace}"), "name": format!("p{number}"), "uid": format!("u{number}"), "labels": labels},
                "spec": {"hostNetwork": state == 1, "containers": [{"name": "c", "ports": ports}]},
                "status": {"phase": if state == 2 { "Failed" } else { "Running" }, "podIP": ip, "podIPs": [{"ip": ip}]},
            });
            serde_json::from_value(pod).expect("a pod")
        });
        let policies = policies.into_iter().enumerate().map(|(at, (namespace, spec))| {
            let policy = json!({"metadata": {"namespace": format!("n{namespace}"), "name": format!("policy-{at}")}, "spec": spec});
            serde_json::from_value(policy).expect("a policy")
        });
        Cluster { namespaces, pods: pods.collect(), policies: policies.collect() }
    })
}

/// Addresses that somebody may have.
fn addresses(cluster: &Cluster) -> Vec<IpAddr> {
    let others = ["192.0.2.1", "192.0.2.6", "198.51.100.7"].map(|ip| ip.parse().expect("an address"));
    cluster.pods.iter().map(ip_of).chain(others).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn packets_fare_as_the_documentation_says(cluster in cluster()) {
        let rules = rules_of(&cluster);
        for source in addresses(&cluster) {
            for destination in addresses(&cluster) {
                for (protocol, port) in [("tcp", Some(80)), ("tcp", Some(82)), ("udp", Some(83)), ("sctp", Some(81)), ("icmp", None)] {
                    for established in [false, true] {
                        let packet = Packet { source, destination, protocol: protocol.into(), port, established };
                        let verdict = simulate(&rules, TABLE, "FORWARD", &packet).expect("knows its own rules");
                        let passes = matches!(verdict, Verdict::Passes(_));
                        prop_assert_eq!(passes, cluster.expected(&packet), "{:?} is {:?} by {:#?}", packet, verdict, rules);
                    }
                }
            }
        }
    }
}

#[test]
fn who_decides_is_told() {
    let pod = json!({
        "metadata": {"namespace": "n0", "name": "p", "uid": "u", "labels": {"app": "a0"}},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"podIP": "10.244.0.1"},
    });
    let spec = json!({"podSelector": {"matchLabels": {"app": "a0"}}, "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]});
    let policy = json!({"metadata": {"namespace": "n0", "name": "some"}, "spec": spec});
    let cluster = Cluster {
        namespaces: BTreeMap::from([("n0".to_owned(), BTreeMap::new())]),
        pods: vec![serde_json::from_value(pod).expect("a pod")],
        policies: vec![serde_json::from_value(policy).expect("a policy")],
    };
    let rules = rules_of(&cluster);
    let from = |ip: &str| {
        let packet = Packet {
            source: ip.parse().expect("an address"),
            destination: "10.244.0.1".parse().expect("an address"),
            protocol: "tcp".into(),
            port: Some(80),
            established: false,
        };
        match simulate(&rules, TABLE, "FORWARD", &packet).expect("knows its own rules") {
            Verdict::Passes(by) => by.into_iter().map(|hit| hit.comment).collect::<BTreeSet<_>>(),
            Verdict::Dropped(by) => [by.comment].into(),
        }
    };
    assert_eq!(from("192.0.2.9"), BTreeSet::from(["n0/some".to_owned()]));
    assert_eq!(from("198.51.100.9"), BTreeSet::from(["n0/p is isolated".to_owned()]));
    assert_eq!(cluster.policies[0].metadata.name.as_deref(), Some("some"));
    assert!(ObjectKey::new("n0", "p") == PodView::of(&cluster.pods[0]).key);
}
