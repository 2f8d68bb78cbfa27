//! The parts of API objects that names follow from, as they come over the wire.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Deserializer};
use troupe_addresses::is_unicast;

/// Name, namespace and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub resource_version: String,
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

/// `v1` Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Namespace {
    pub metadata: Meta,
}

/// `v1` Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    pub metadata: Meta,
    pub spec: ServiceSpec,
    pub status: ServiceStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    pub cluster_ips: Vec<String>,
    pub external_name: String,
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    pub external_ips: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    pub load_balancer: LoadBalancerStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    #[serde(deserialize_with = "or_default")]
    pub ingress: Vec<Ingress>,
}

/// Where a load balancer is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ingress {
    /// Empty where it has a name.
    pub ip: String,
}

/// A named port of a Service or of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Port {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<u16>,
}

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Slice {
    pub metadata: Meta,
    pub address_type: String,
    #[serde(deserialize_with = "or_default")]
    pub endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Without those that would lead whoever asks to itself or to its link.
    #[serde(deserialize_with = "unicast")]
    pub addresses: Vec<IpAddr>,
    pub hostname: Option<String>,
    pub conditions: Conditions,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Conditions {
    pub ready: Option<bool>,
}

impl Service {
    pub fn is_headless(&self) -> bool {
        self.spec.kind != "ExternalName" && (self.spec.cluster_ip == "None" || self.spec.cluster_ips.iter().any(|ip| ip == "None"))
    }

    /// The name it is an alias of.
    pub fn alias(&self) -> Option<&str> {
        (self.spec.kind == "ExternalName" && !self.spec.external_name.is_empty()).then_some(self.spec.external_name.as_str())
    }

    /// Its cluster addresses, empty for headless Services.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let many = self.spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect::<Vec<_>>();
        if many.is_empty() { self.spec.cluster_ip.parse().into_iter().collect() } else { many }
    }

    /// Its external addresses, and those of its load balancers, as they are written.
    pub fn outside(&self) -> impl Iterator<Item = &str> {
        let balancers = self.status.load_balancer.ingress.iter().map(|ingress| ingress.ip.as_str());
        self.spec.external_ips.iter().map(String::as_str).chain(balancers)
    }
}

impl Slice {
    /// The Service it belongs to.
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.get("kubernetes.io/service-name").map(String::as_str)
    }

    /// Ready endpoints; "unknown" counts as ready. Slices of Services that publish addresses early say ready themselves.
    pub fn ready(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false))
    }
}

impl Endpoint {
    /// Its addresses.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().copied()
    }

    /// The label this endpoint has below its Service: its hostname, else its address with dashes.
    pub fn label(&self, ip: IpAddr) -> String {
        match &self.hostname {
            Some(hostname) if !hostname.is_empty() => hostname.to_lowercase(),
            _ => with_dashes(ip),
        }
    }

    /// Whether that is `host`, in small letters; `address` is what [`dashed`] makes of it.
    pub fn is_called(&self, ip: IpAddr, host: &str, address: Option<IpAddr>) -> bool {
        match &self.hostname {
            Some(hostname) if !hostname.is_empty() => hostname.eq_ignore_ascii_case(host),
            _ => address == Some(ip),
        }
    }
}

fn with_dashes(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// The address that a label is, written with dashes.
pub fn dashed(label: &str) -> Option<IpAddr> {
    let ip = label.replace('-', ".").parse().map(IpAddr::V4).or_else(|_| label.replace('-', ":").parse().map(IpAddr::V6));
    ip.ok().filter(|ip| with_dashes(*ip) == label)
}

/// `null` stands for nothing, as Go writes lists that are empty: an EndpointSlice without ports has `ports: null`.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Addresses are read once, not whenever somebody asks.
fn unicast<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let texts = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(texts.iter().filter_map(|text| text.parse().ok()).filter(|ip| is_unicast(*ip)).collect())
}

impl Port {
    /// Whether `_name._protocol` asks for it.
    pub fn is(&self, name: &str, protocol: &str) -> bool {
        self.name.as_deref().unwrap_or_default().eq_ignore_ascii_case(name)
            && self.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
    }
}
