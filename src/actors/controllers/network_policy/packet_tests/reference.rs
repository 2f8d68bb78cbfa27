//! What becomes of packets, slow and obvious, from the documentation of both APIs: it reads the objects themselves and knows nothing of sets,
//! chains and slices.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use k8s_openapi::{
    api::{
        core::v1::{Node, Pod},
        networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde_json::Value;

use crate::rules::simulate::Packet;

/// A cluster as people describe it.
#[derive(Debug, Default)]
pub struct Cluster {
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub nodes: Vec<Node>,
    pub pods: Vec<Pod>,
    pub policies: Vec<NetworkPolicy>,
    /// Cluster network policies, as they are written.
    pub cluster_policies: Vec<Value>,
}

fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().expect("has one")
}

pub fn ips_of(pod: &Pod) -> Vec<IpAddr> {
    let ips = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    ips.map(|ip| ip.ip.parse().expect("an address")).collect()
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
        self.pods.iter().find(|pod| is_subject(pod) && ips_of(pod).contains(&ip))
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

    /// What network policies say; nothing where none isolates the pod.
    fn network_policies(&self, subject: &Pod, other: IpAddr, target: Option<&Pod>, ingress: bool, packet: &Packet) -> Option<bool> {
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
                return Some(true);
            }
        }
        // No pod is kept from itself.
        isolated.then_some(packet.source == packet.destination)
    }

    /// Whether a subject or a peer of a cluster network policy is a pod.
    fn is_pod_of(&self, peer: &Value, pod: &Pod) -> bool {
        let parse = |selector: &Value| -> LabelSelector { serde_json::from_value(selector.clone()).expect("a selector") };
        let there = |selector: &Value| selects(Some(&parse(selector)), &self.namespaces[namespace_of(pod)]);
        if !peer["namespaces"].is_null() {
            return there(&peer["namespaces"]);
        }
        let pods = &peer["pods"];
        !pods.is_null() && there(&pods["namespaceSelector"]) && selects(Some(&parse(&pods["podSelector"])), &labels_of(pod))
    }

    fn is_node_of(selector: &Value, node: &Node, ip: IpAddr) -> bool {
        let selector: LabelSelector = serde_json::from_value(selector.clone()).expect("a selector");
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        selects(Some(&selector), &node.metadata.labels.clone().unwrap_or_default())
            && addresses.into_iter().any(|address| address.address == ip.to_string())
    }

    /// Whether a rule of a cluster network policy is about a packet.
    fn is_about(&self, rule: &Value, other: IpAddr, target: Option<&Pod>, ingress: bool, packet: &Packet) -> bool {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let is_protocol = |wanted: &Value, has_names: bool| {
            if let Some(name) = wanted["destinationNamedPort"].as_str() {
                let wanted = NetworkPolicyPort {
                    port: Some(IntOrString::String(name.to_owned())),
                    protocol: Some(packet.protocol.to_uppercase()),
                    ..Default::default()
                };
                return has_names && self.is_port(&wanted, packet, target);
            }
            let of = &wanted[&packet.protocol];
            if of.is_null() {
                return false;
            }
            let (port, asked) = (&of["destinationPort"], packet.port.map(u64::from));
            let in_range = |range: &Value| range["start"].as_u64() <= asked && asked <= range["end"].as_u64();
            port.is_null() || port["number"].as_u64() == asked || (port["range"].is_object() && in_range(&port["range"]))
        };
        let protocols = list(&rule["protocols"]);
        list(&rule[if ingress { "from" } else { "to" }]).iter().any(|peer| {
            let is_pod = self.pod_at(other).is_some_and(|pod| self.is_pod_of(peer, pod));
            let has_network = list(&peer["networks"]).iter().any(|network| {
                let network: IpNetwork = network.as_str().expect("a text").parse().expect("a network");
                network.contains(other)
            });
            let is_node = !peer["nodes"].is_null() && self.nodes.iter().any(|node| Self::is_node_of(&peer["nodes"], node, other));
            let is_peer = is_pod || has_network || is_node;
            is_peer && (protocols.is_empty() || protocols.iter().any(|protocol| is_protocol(protocol, ingress || is_pod)))
        })
    }

    /// The action of the first rule of a tier that is about a packet.
    fn action(&self, tier: &str, subject: &Pod, other: IpAddr, target: Option<&Pod>, ingress: bool, packet: &Packet) -> Option<String> {
        let mut policies: Vec<&Value> = self.cluster_policies.iter().filter(|policy| policy["spec"]["tier"] == tier).collect();
        policies.retain(|policy| self.is_pod_of(&policy["spec"]["subject"], subject));
        policies.sort_by_key(|policy| (policy["spec"]["priority"].as_i64(), policy["metadata"]["name"].as_str()));
        let rules =
            policies.into_iter().flat_map(|policy| policy["spec"][if ingress { "ingress" } else { "egress" }].as_array().into_iter().flatten());
        let mut rules = rules.filter(|rule| self.is_about(rule, other, target, ingress, packet));
        rules.next().map(|rule| rule["action"].as_str().expect("a text").to_owned())
    }

    fn allows(&self, subject: &Pod, other: IpAddr, target: Option<&Pod>, ingress: bool, packet: &Packet) -> bool {
        match self.action("Admin", subject, other, target, ingress, packet).as_deref() {
            Some("Accept") => return true,
            Some("Deny") => return false,
            _ => {}
        }
        let decided = self.network_policies(subject, other, target, ingress, packet);
        decided.unwrap_or_else(|| self.action("Baseline", subject, other, target, ingress, packet).as_deref() != Some("Deny"))
    }

    /// Whether a connection of a pod to its own node may begin: network policies let it.
    pub fn reaches_node(&self, packet: &Packet) -> bool {
        let Some(pod) = self.pod_at(packet.source).filter(|pod| ips_of(pod).into_iter().any(is_local)) else { return true };
        let action = |tier: &str| self.action(tier, pod, packet.destination, None, false, packet);
        match action("Admin").as_deref() {
            Some("Accept") => return true,
            Some("Deny") => return packet.established,
            _ => {}
        }
        let isolated = self.network_policies(pod, packet.destination, None, false, packet).is_some();
        packet.established || isolated || action("Baseline").as_deref() != Some("Deny")
    }

    /// Whether a connection may begin, as the pods of this node are concerned.
    pub fn expected(&self, packet: &Packet) -> bool {
        let (from, to) = (self.pod_at(packet.source), self.pod_at(packet.destination));
        if packet.established {
            return true;
        }
        let local = |pod: &&Pod| ips_of(pod).into_iter().any(is_local);
        from.filter(local).is_none_or(|pod| self.allows(pod, packet.destination, to, false, packet))
            && to.filter(local).is_none_or(|pod| self.allows(pod, packet.source, to, true, packet))
    }
}

/// Pods of this node have these addresses.
pub fn is_local(ip: IpAddr) -> bool {
    ["10.244.0.0/24", "fd00:10:244::/64"].iter().any(|range| range.parse::<IpNetwork>().expect("a network").contains(ip))
}
