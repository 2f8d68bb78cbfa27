//! Policies and slices as they come over the wire, and slices as they go.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use troupe_net::{
    dns::{
        domain_names::{ASKED_ANNOTATION, DomainName, MANAGED_BY, NAME_ANNOTATION, NAMESPACE, PEERS_LABEL, SLICE_MANAGER, UNTIL_ANNOTATION},
        view::Meta,
    },
    iptables::Family,
};

use super::entries::{Entries, Told, Until};

/// A ClusterNetworkPolicy, of which only the names matter that it lets pods reach.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NamingPolicy {
    pub metadata: Meta,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    egress: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    action: String,
    to: Vec<Peer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Peer {
    domain_names: Vec<String>,
}

impl NamingPolicy {
    /// The names of its rules that accept.
    pub fn names(&self) -> Vec<DomainName> {
        let peers = self.spec.egress.iter().filter(|rule| rule.action == "Accept").flat_map(|rule| &rule.to);
        peers.flat_map(|peer| &peer.domain_names).filter_map(|name| DomainName::parse(name)).collect()
    }
}

/// An EndpointSlice of [`NAMESPACE`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AddressSlice {
    pub metadata: SliceMeta,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SliceMeta {
    pub name: String,
    pub resource_version: String,
    annotations: BTreeMap<String, String>,
}

impl AddressSlice {
    /// Until when its addresses count.
    pub fn until(&self) -> Until {
        let text = self.metadata.annotations.get(UNTIL_ANNOTATION).map_or("{}", String::as_str);
        let all: BTreeMap<String, u64> = serde_json::from_str(text).unwrap_or_default();
        all.into_iter().filter_map(|(ip, until)| Some((ip.parse().ok()?, until))).collect()
    }

    /// The same with who asked for what.
    pub fn entries(&self) -> Entries {
        let text = self.metadata.annotations.get(ASKED_ANNOTATION).map_or("[]", String::as_str);
        let told: Vec<Told> = serde_json::from_str(text).unwrap_or_default();
        Entries::read(told, &self.until())
    }

    /// The name and the family that it is about; `None` where it is not what it says.
    pub fn about(&self) -> Option<(DomainName, Family)> {
        let name = DomainName::parse(self.metadata.annotations.get(NAME_ANNOTATION)?)?;
        let family = Family::ALL.into_iter().find(|family| name.slice(*family) == self.metadata.name)?;
        Some((name, family))
    }
}

/// The slice of a name's addresses of a family; `revision` is that of the version that it replaces.
pub fn body(name: &DomainName, family: Family, entries: &Entries, revision: Option<&str>) -> Value {
    let until = entries.until();
    let by_text: BTreeMap<String, u64> = until.iter().map(|(ip, until)| (ip.to_string(), *until)).collect();
    let endpoints: Vec<Value> = until.keys().map(|ip| json!({"addresses": [ip.to_string()]})).collect();
    let mut body = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name.slice(family), "namespace": NAMESPACE,
            "labels": {MANAGED_BY: SLICE_MANAGER, PEERS_LABEL: name.id()},
            "annotations": {
                NAME_ANNOTATION: name.as_str(),
                UNTIL_ANNOTATION: json!(by_text).to_string(),
                ASKED_ANNOTATION: json!(entries.told()).to_string(),
            },
        },
        "addressType": family.name(), "endpoints": endpoints,
    });
    if let Some(revision) = revision {
        body["metadata"]["resourceVersion"] = revision.into();
    }
    body
}
