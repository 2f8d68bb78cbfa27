//! Which EndpointSlices a Service needs. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use troupe_net::iptables::Family;

use super::{
    hints::{TrafficDistribution, asks_for_topology},
    pods::EndpointPod,
    ports::{Groups, PortKey, by_ports},
    topology::{self, Capacities, Outcomes},
    trigger_times,
};
use crate::controllers::owners::controller_reference;

/// Endpoints per slice (upstream's `--max-endpoints-per-slice`).
pub(super) const MAX_ENDPOINTS: usize = 100;
/// Names the Service of a slice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Names the writer of a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// This controller's name in [`MANAGED_BY`].
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Marks slices of headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete { name: String, uid: String },
}

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    pub service: &'a Service,
    /// The pods that the Service's selector selects.
    pub pods: &'a [Arc<EndpointPod>],
    /// The slices of the Service that this controller manages.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Zone of a node, by its name.
    pub zones: &'a BTreeMap<String, String>,
    /// When the change was made that this look is about, as far as that is known.
    pub triggered: Option<Timestamp>,
    /// What zones have, for a Service that asks for hints by that.
    pub capacities: Option<&'a Capacities>,
}

/// What to do about the slices of a Service.
#[derive(Debug, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// So many pods are left out: see [`super::ports::MOST_PORTS`].
    pub left_out: usize,
    /// What came of hints by the zones' capacity.
    pub topology: Outcomes,
}

/// Plans the slices of a Service with a selector: each family of addresses that the Service has gets its own.
pub fn plan(snapshot: Snapshot<'_>) -> Plan {
    let families = families(snapshot.service, snapshot.pods);
    let mut planned = Plan { actions: Vec::new(), left_out: 0, topology: Outcomes::new() };
    for family in &families {
        let of_family = plan_family(snapshot, *family);
        planned.actions.extend(of_family.actions);
        planned.topology.extend(of_family.topology);
        // A pod has the same ports at all of its addresses.
        planned.left_out = planned.left_out.max(of_family.left_out);
    }
    let foreign = |slice: &&Arc<EndpointSlice>| !families.iter().any(|family| slice.address_type == family.name());
    let alive = snapshot.slices.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none());
    planned.actions.extend(alive.filter(foreign).map(delete));
    planned
}

/// The families of a Service's addresses. A Service of an API server that does not tell them has those of its address, or without one those of
/// its pods, as upstream.
pub fn families(service: &Service, pods: &[Arc<EndpointPod>]) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let told: Vec<Family> = spec.iter().flat_map(|spec| spec.ip_families.iter().flatten()).filter_map(|name| Family::named(name)).collect();
    if !told.is_empty() {
        return told;
    }
    let own = spec.and_then(|spec| spec.cluster_ip.as_deref()?.parse::<IpAddr>().ok()).map(Family::of);
    vec![own.or_else(|| pods.iter().find_map(|pod| pod.family)).unwrap_or_default()]
}

fn delete(slice: &Arc<EndpointSlice>) -> Action {
    Action::Delete { name: slice.metadata.name.clone().unwrap_or_default(), uid: slice.metadata.uid.clone().unwrap_or_default() }
}

fn plan_family(snapshot: Snapshot<'_>, family: Family) -> Plan {
    let endpoints = snapshot.pods.iter().filter_map(|pod| Some((&**pod, endpoint(snapshot, pod, family)?)));
    let Groups { of: mut wanted, left_out } = by_ports(snapshot.service, endpoints);
    let mut topology = Outcomes::new();
    if asks_for_topology(snapshot.service) {
        let mut ready: Vec<&mut Endpoint> = wanted.values_mut().flatten().filter(|endpoint| is_ready(endpoint)).collect();
        let before = hinted_zones(snapshot.slices, family);
        let zone = |endpoint: &Endpoint| before.get(&identity(endpoint)).map(|zone| (*zone).to_owned());
        topology.insert(family, topology::assign(&mut ready, snapshot.capacities, zone));
    }
    if wanted.is_empty() {
        // One empty slice says that the Service is known and has no endpoints.
        wanted.insert(Vec::new(), Vec::new());
    }
    let ours = |slice: &&Arc<EndpointSlice>| slice.metadata.deletion_timestamp.is_none() && slice.address_type == family.name();
    let mut there: Vec<&Arc<EndpointSlice>> = snapshot.slices.iter().filter(ours).collect();
    there.sort_by_key(|slice| slice.metadata.name.clone());
    // Every pod may serve a named port under another number: there may be as many port sets as pods.
    let mut kept: BTreeMap<Vec<PortKey>, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in there {
        kept.entry(slice_ports(slice)).or_default().push(slice);
    }
    let (mut actions, mut left) = (Vec::new(), Vec::new());
    for (ports, endpoints) in wanted {
        let ours = kept.remove(&ports).unwrap_or_default();
        actions.extend(plan_ports((snapshot, family), &ports, endpoints, ours, &mut left));
    }
    left.extend(kept.into_values().flatten());
    actions.extend(left.into_iter().map(delete));
    Plan { actions, left_out, topology }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
}

/// The zones that endpoints of a family are hinted for, each for one.
fn hinted_zones(slices: &[Arc<EndpointSlice>], family: Family) -> BTreeMap<(&str, &str), &str> {
    let ours = slices.iter().filter(|slice| slice.address_type == family.name());
    let hinted =
        ours.flat_map(|slice| slice.endpoints.iter().flatten()).filter_map(|endpoint| match endpoint.hints.as_ref()?.for_zones.as_deref()? {
            [zone] => Some((identity(endpoint), zone.name.as_str())),
            _ => None,
        });
    hinted.collect()
}

/// Fills the existing slices of a port set with its endpoints, each staying where it is, and adds slices as needed.
fn plan_ports<'a>(
    (snapshot, family): (Snapshot<'_>, Family),
    ports: &[PortKey],
    endpoints: Vec<Endpoint>,
    ours: Vec<&'a Arc<EndpointSlice>>,
    left: &mut Vec<&'a Arc<EndpointSlice>>,
) -> Vec<Action> {
    let mut filled = spread(&endpoints, ours);
    let mut endpoints: Vec<Option<Endpoint>> = endpoints.into_iter().map(Some).collect();
    if filled.is_empty() {
        filled.push((None, Vec::new()));
    }
    let all_empty = filled.iter().all(|(_, members)| members.is_empty());
    let mut actions = Vec::new();
    for (at, (slice, members)) in filled.into_iter().enumerate() {
        let members: Vec<Endpoint> = members.into_iter().filter_map(|place| endpoints[place].take()).collect();
        match slice {
            // Of several empty slices the first stays when nothing else does.
            Some(slice) if members.is_empty() && !(all_empty && at == 0) => left.push(slice),
            Some(slice) => actions.extend(update(snapshot, slice, members)),
            None => {
                let mut made = build(snapshot.service, family, ports, members, None);
                trigger_times::tell(&mut made.metadata, snapshot.triggered);
                actions.push(Action::Create(Box::new(made)));
            }
        }
    }
    actions
}

/// A slice, or one that is to be made, with the places of its endpoints.
type Filled<'a> = (Option<&'a Arc<EndpointSlice>>, Vec<usize>);

/// Gives each endpoint a slice: the one that it is in, or else the first with room.
fn spread<'a>(endpoints: &[Endpoint], ours: Vec<&'a Arc<EndpointSlice>>) -> Vec<Filled<'a>> {
    let mut missing: BTreeMap<(&str, &str), usize> = endpoints.iter().enumerate().map(|(place, endpoint)| (identity(endpoint), place)).collect();
    let mut filled: Vec<Filled<'a>> = Vec::new();
    for slice in ours {
        let stay = slice.endpoints.iter().flatten().filter_map(|endpoint| missing.remove(&identity(endpoint))).collect();
        filled.push((Some(slice), stay));
    }
    let mut first_with_room = 0;
    for place in missing.into_values() {
        while filled.get(first_with_room).is_some_and(|(_, members)| members.len() >= MAX_ENDPOINTS) {
            first_with_room += 1;
        }
        match filled.get_mut(first_with_room) {
            Some((_, members)) => members.push(place),
            None => filled.push((None, vec![place])),
        }
    }
    filled
}

fn update(snapshot: Snapshot<'_>, slice: &Arc<EndpointSlice>, members: Vec<Endpoint>) -> Option<Action> {
    let family = Family::named(&slice.address_type)?;
    let mut updated = build(snapshot.service, family, &slice_ports(slice), members, Some(slice));
    if updated == **slice {
        return None;
    }
    trigger_times::tell(&mut updated.metadata, snapshot.triggered);
    Some(Action::Update(Box::new(updated)))
}

/// Address and pod.
pub(super) fn identity(endpoint: &Endpoint) -> (&str, &str) {
    let target = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
    (endpoint.addresses.first().map_or("", String::as_str), target)
}

/// The ports of a slice.
pub fn slice_ports(slice: &EndpointSlice) -> Vec<PortKey> {
    let ports = slice.ports.iter().flatten();
    ports
        .map(|port| {
            (
                port.name.clone().unwrap_or_default(),
                port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port.port.unwrap_or(0),
                port.app_protocol.clone(),
            )
        })
        .collect()
}

fn build(service: &Service, family: Family, ports: &[PortKey], members: Vec<Endpoint>, base: Option<&Arc<EndpointSlice>>) -> EndpointSlice {
    // All but the metadata is made anew.
    let metadata = base.map(|slice| slice.metadata.clone()).unwrap_or_default();
    let mut slice = EndpointSlice { metadata, ..EndpointSlice::default() };
    let name = service.metadata.name.clone().unwrap_or_default();
    if base.is_none() {
        slice.metadata.generate_name = Some(format!("{name}-"));
        slice.metadata.namespace = service.metadata.namespace.clone();
    }
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), name);
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    slice.metadata.labels = Some(labels);
    slice.metadata.owner_references = Some(vec![owner(service)]);
    slice.address_type = family.name().into();
    slice.ports = (!ports.is_empty()).then(|| ports.iter().map(endpoint_port).collect());
    slice.endpoints = (!members.is_empty()).then_some(members);
    slice
}

fn owner(service: &Service) -> OwnerReference {
    controller_reference(service)
}

/// A port as slices have it.
pub fn endpoint_port((name, protocol, number, app_protocol): &PortKey) -> EndpointPort {
    EndpointPort { name: Some(name.clone()), protocol: Some(protocol.clone()), port: Some(*number), app_protocol: app_protocol.clone() }
}

/// `clusterIP: None`.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The endpoint of a pod, if it has an address and has not ended.
fn endpoint(snapshot: Snapshot<'_>, pod: &EndpointPod, family: Family) -> Option<Endpoint> {
    let address = pod.address(family)?;
    if pod.is_finished {
        return None;
    }
    let spec = snapshot.service.spec.as_ref();
    let publish_all = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let (terminating, serving) = (pod.is_terminating(), pod.is_ready);
    let node = pod.node.as_deref();
    let zone = node.and_then(|node| snapshot.zones.get(node));
    let ready = publish_all || serving && !terminating;
    let hints = TrafficDistribution::of(snapshot.service).filter(|_| ready);
    Some(Endpoint {
        addresses: vec![address.to_owned()],
        hints: hints.and_then(|distribution| distribution.hints(node, zone.map(String::as_str))),
        conditions: Some(EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) }),
        hostname: pod.hostname(snapshot.service),
        zone: zone.cloned(),
        node_name: node.map(str::to_owned),
        target_ref: Some(pod.target()),
        ..Endpoint::default()
    })
}
