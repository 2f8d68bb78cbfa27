//! What a cluster's API says, as far as it decides about connections. Pure.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde::de::DeserializeOwned;
use serde_json::Value;
use troupe_actors::{
    controllers::network_policy::planned::Planned,
    network_policy::{
        cluster::parse,
        inside,
        model::{PodView, PolicyView},
    },
    proxy::{
        endpoints::{Location, ZONE},
        plan::NodeView,
        ranges,
    },
};
use troupe_net::{
    dns::cluster_addresses::{ClusterAddresses, Source, SourceKind, is_of_servers},
    iptables::Family,
};

/// What the API says.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub pods: Vec<Value>,
    pub namespaces: Vec<Value>,
    pub nodes: Vec<Value>,
    pub services: Vec<Value>,
    /// Those of Services.
    pub slices: Vec<Value>,
    pub policies: Vec<Value>,
    /// None where their definition is not there.
    pub cluster_policies: Vec<Value>,
    /// What domain names lead to.
    pub domain_slices: Vec<Value>,
    /// ServiceCIDRs.
    pub service_ranges: Vec<Value>,
    /// Where all pods have their addresses, a range of each family.
    pub cluster_ranges: Vec<IpNetwork>,
    /// What pods reach under their own addresses, too.
    pub non_masquerade_cidrs: Vec<IpNetwork>,
    /// TCP ports at which the cluster's daemons listen on nodes.
    pub daemons: Arc<BTreeSet<u16>>,
}

/// An address with who has it.
#[derive(Clone, Debug)]
pub struct Place {
    pub ip: IpAddr,
    pub name: String,
    /// The node of a pod, or that has the address.
    pub node: Option<String>,
}

impl Place {
    /// Who it is, as it is printed.
    pub fn describe(&self) -> String {
        let node = self.node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
        format!("{} {}{node}", self.name, self.ip)
    }
}

impl Facts {
    /// Who has an address.
    pub fn at(&self, ip: IpAddr) -> Place {
        let has = |pod: &Value| ips_of(pod).any(|own| own == ip);
        let own = |pod: &&Value| has(pod) && pod["spec"]["hostNetwork"] != true && !has_ended(pod);
        if let Some(pod) = self.pods.iter().find(own) {
            let name = format!("pod {}/{}", text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
            return Place { ip, name, node: node_of(pod) };
        }
        match self.node_with(ip) {
            Some(node) => Place { ip, name: "the node's own address".into(), node: Some(node) },
            None => Place { ip, name: "address".into(), node: None },
        }
    }

    /// The node whose own an address is.
    pub fn node_with(&self, ip: IpAddr) -> Option<String> {
        let found = self.nodes.iter().find(|node| addresses(node).contains(&ip))?;
        Some(text(&found["metadata"]["name"]).to_owned())
    }

    /// A node's own addresses.
    pub fn addresses_of(&self, node: &str) -> Vec<IpAddr> {
        self.node(node).map(addresses).unwrap_or_default()
    }

    /// The ranges of a node's pods.
    pub fn pod_ranges(&self, node: &str) -> Vec<IpNetwork> {
        self.node(node).map(ranges_of).unwrap_or_default()
    }

    /// The zone of a node; empty where nobody has told it.
    fn zone(&self, node: &str) -> &str {
        self.node(node).map_or("", |node| text(&node["metadata"]["labels"][ZONE]))
    }

    fn node(&self, name: &str) -> Option<&Value> {
        self.nodes.iter().find(|node| node["metadata"]["name"] == name)
    }

    /// Where all pods of a family have their addresses.
    pub fn cluster_range(&self, family: Family) -> Option<IpNetwork> {
        self.cluster_ranges.iter().copied().find(|range| family.has(range.ip()))
    }

    /// Where API servers take the addresses of Services of a family from.
    pub fn service_ranges(&self, family: Family) -> Vec<Arc<ServiceCIDR>> {
        let all = self.service_ranges.iter().filter_map(|range| serde_json::from_value::<ServiceCIDR>(range.clone()).ok());
        ranges::in_force(&all.map(Arc::new).collect::<Vec<_>>(), self.cluster_range(family))
    }

    /// What the proxy of a node plans with; `None` where it has none for the family.
    pub fn view(&self, node: &str, family: Family) -> Option<NodeView> {
        let location = Location { node: node.to_owned(), zone: self.zone(node).to_owned() };
        let node_ip = self.addresses_of(node).into_iter().find(|ip| family.has(*ip));
        Some(NodeView { location, node_ip, cluster_range: self.cluster_range(family)?, daemons: self.daemons.clone() })
    }

    /// What nodes plan from.
    pub fn planned(&self) -> Planned {
        let labels = |namespace: &Value| serde_json::from_value(namespace["metadata"]["labels"].clone()).unwrap_or_default();
        Planned {
            namespaces: self.namespaces.iter().map(|namespace| (text(&namespace["metadata"]["name"]).to_owned(), labels(namespace))).collect(),
            nodes: read(&self.nodes).collect(),
            pods: read(&self.pods).map(|pod| PodView::of(&pod)).collect(),
            policies: read(&self.policies).map(|policy| Arc::new(PolicyView::of(&policy))).collect(),
            cluster_policies: read(&self.cluster_policies).filter_map(|policy| parse(&policy).policy).map(Arc::new).collect(),
            domain_slices: read(&self.domain_slices).collect(),
            inside: self.inside(),
        }
    }

    /// Where no domain name leads.
    fn inside(&self) -> ClusterAddresses {
        let mut known = ClusterAddresses::default();
        known.set(Source::new(SourceKind::Pods, ""), self.cluster_ranges.iter().map(IpNetwork::to_string));
        known.replace(SourceKind::Node, self.nodes.iter().filter_map(|node| Some((named(node), inside::of_node(&decoded(node)?)))));
        known.replace(SourceKind::Service, self.services.iter().filter_map(|service| Some((named(service), inside::of_service(&decoded(service)?)))));
        known.replace(
            SourceKind::ServiceRange,
            self.service_ranges.iter().filter_map(|range| Some((named(range), inside::of_range(&decoded(range)?)))),
        );
        let of_servers = |slice: &&Value| {
            let meta = &slice["metadata"];
            is_of_servers(text(&meta["namespace"]), text(&meta["labels"]["kubernetes.io/service-name"]))
        };
        let servers = self.slices.iter().filter(of_servers);
        known.replace(SourceKind::Servers, servers.filter_map(|slice| Some((named(slice), inside::of_slice(&decoded(slice)?)))));
        known
    }
}

/// An object's name behind its namespace, if it has one.
fn named(object: &Value) -> String {
    let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn decoded<K: DeserializeOwned>(object: &Value) -> Option<K> {
    serde_json::from_value(object.clone()).ok()
}

/// A text; empty where there is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// The entries of a list; none where there is none.
pub fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The objects of a kind that can be read.
pub fn read<K: DeserializeOwned>(objects: &[Value]) -> impl Iterator<Item = K> {
    objects.iter().filter_map(|object| serde_json::from_value(object.clone()).ok())
}

/// A pod's addresses.
pub fn ips_of(pod: &Value) -> impl Iterator<Item = IpAddr> {
    let all = items(&pod["status"]["podIPs"]).map(|ip| &ip["ip"]);
    all.chain([&pod["status"]["podIP"]]).filter_map(|ip| text(ip).parse().ok())
}

/// The node that a pod is bound to.
pub fn node_of(pod: &Value) -> Option<String> {
    pod["spec"]["nodeName"].as_str().map(str::to_owned)
}

/// Its address may be another pod's.
pub fn has_ended(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

/// A node's own addresses: those that it tells, and those where its pods find it.
fn addresses(node: &Value) -> Vec<IpAddr> {
    let told = items(&node["status"]["addresses"]).filter_map(|found| text(&found["address"]).parse().ok());
    told.chain(ranges_of(node).into_iter().filter_map(|range| range.iter().nth(1))).collect()
}

fn ranges_of(node: &Value) -> Vec<IpNetwork> {
    items(&node["spec"]["podCIDRs"]).filter_map(|range| text(range).parse().ok()).collect()
}
