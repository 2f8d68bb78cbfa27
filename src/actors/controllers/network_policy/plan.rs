//! Which slices tell the peers of a namespace's policies. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use troupe_net::iptables::Family;

use crate::{
    controllers::endpointslice::plan::Action,
    network_policy::{
        model::Protocol,
        slices::{MANAGED_BY, MANAGER, PEERS_LABEL},
    },
};

/// Endpoints per slice; upstream takes up to 1000.
const MAX_ENDPOINTS: usize = 500;

/// A part of a set that slices of its own tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub id: Arc<str>,
    pub family: Family,
    /// Of a set of named ports: the port that they mean for these addresses.
    pub port: Option<(Protocol, u16)>,
}

/// Addresses by part.
pub type Peers = BTreeMap<Part, BTreeSet<IpAddr>>;

/// The steps from the slices there are to those that tell `peers`. An address stays in its slice.
pub fn plan(namespace: &str, mut peers: Peers, slices: &[Arc<EndpointSlice>]) -> Vec<Action> {
    let mut there: Vec<&Arc<EndpointSlice>> = slices.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()).collect();
    there.sort_by_key(|slice| slice.metadata.name.clone());
    let mut kept: BTreeMap<Part, Vec<(&EndpointSlice, BTreeSet<IpAddr>)>> = BTreeMap::new();
    let mut actions = Vec::new();
    for slice in there {
        let part = part_of(slice);
        let stay: BTreeSet<IpAddr> = match part.as_ref().and_then(|part| peers.get_mut(part)) {
            Some(missing) => addresses(slice).filter(|ip| missing.remove(ip)).collect(),
            None => BTreeSet::new(),
        };
        match part {
            Some(part) if !stay.is_empty() => kept.entry(part).or_default().push((slice, stay)),
            _ => actions.push(removal(slice)),
        }
    }
    for (part, missing) in peers {
        let mut missing = missing.into_iter();
        for (_, members) in kept.get_mut(&part).into_iter().flatten() {
            let room = MAX_ENDPOINTS.saturating_sub(members.len());
            members.extend(missing.by_ref().take(room));
        }
        loop {
            let members: BTreeSet<IpAddr> = missing.by_ref().take(MAX_ENDPOINTS).collect();
            if members.is_empty() {
                break;
            }
            actions.push(Action::Create(Box::new(build(namespace, &part, members, None))));
        }
    }
    for (part, slices) in kept {
        for (slice, members) in slices {
            let updated = build(namespace, &part, members, Some(slice));
            if updated != *slice {
                actions.push(Action::Update(Box::new(updated)));
            }
        }
    }
    actions
}

fn removal(slice: &EndpointSlice) -> Action {
    Action::Delete { name: slice.metadata.name.clone().unwrap_or_default(), uid: slice.metadata.uid.clone().unwrap_or_default() }
}

fn addresses(slice: &EndpointSlice) -> impl Iterator<Item = IpAddr> {
    slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.iter()).filter_map(|address| address.parse().ok())
}

/// The part that a slice tells; `None` when it is none that this controller would make.
fn part_of(slice: &EndpointSlice) -> Option<Part> {
    let id = slice.metadata.labels.as_ref()?.get(PEERS_LABEL)?;
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        _ => return None,
    };
    let port = match slice.ports.as_deref().unwrap_or_default() {
        [] => None,
        [port] => Some((Protocol::parse(port.protocol.as_deref())?, u16::try_from(port.port?).ok()?)),
        _ => return None,
    };
    Some(Part { id: id.as_str().into(), family, port })
}

fn build(namespace: &str, part: &Part, members: BTreeSet<IpAddr>, base: Option<&EndpointSlice>) -> EndpointSlice {
    let mut slice = base.cloned().unwrap_or_default();
    if base.is_none() {
        slice.metadata.generate_name = Some("network-policy-peers-".into());
        slice.metadata.namespace = Some(namespace.to_owned());
    }
    slice.metadata.labels = Some([(MANAGED_BY, MANAGER), (PEERS_LABEL, &part.id)].map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    slice.address_type = if part.family == Family::V4 { "IPv4" } else { "IPv6" }.into();
    slice.ports = part.port.map(|(protocol, port)| {
        // An API server gives a port without a name an empty one.
        vec![EndpointPort { name: Some(String::new()), port: Some(port.into()), protocol: Some(protocol.upper().into()), ..EndpointPort::default() }]
    });
    let before: BTreeMap<String, &Endpoint> = base
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter_map(|endpoint| Some((endpoint.addresses.first()?.clone(), endpoint)))
        .collect();
    let endpoint = |ip: IpAddr| match before.get(&ip.to_string()) {
        Some(endpoint) if endpoint.addresses.len() == 1 => Endpoint::clone(endpoint),
        _ => Endpoint { addresses: vec![ip.to_string()], ..Endpoint::default() },
    };
    slice.endpoints = Some(members.into_iter().map(endpoint).collect());
    slice
}
