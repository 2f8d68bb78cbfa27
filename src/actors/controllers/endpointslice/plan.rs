//! Which EndpointSlices a Service needs. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use troupe_addresses::is_unicast;
use troupe_net::iptables::Family;

use super::{
    hints::TrafficDistribution,
    ports::{Groups, PortKey, by_ports},
};
use crate::controllers::{
    owners::controller_reference,
    pods::{is_ready, phase},
};

/// Endpoints per slice (upstream's `--max-endpoints-per-slice`).
const MAX_ENDPOINTS: usize = 100;
/// Names the Service of a slice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Names the writer of a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// This controller's name in [`MANAGED_BY`].
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Marks slices of headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// When the newest change that the slice reflects was made.
pub const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

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
    pub pods: &'a [Arc<Pod>],
    /// The slices of the Service that this controller manages.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Zone of a node, by its name.
    pub zones: &'a BTreeMap<String, String>,
}

/// What to do about the slices of a Service.
#[derive(Debug, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// So many pods are left out: see [`super::ports::MOST_PORTS`].
    pub left_out: usize,
}

/// Plans the slices of a Service with a selector: each family of addresses that the Service has gets its own.
pub fn plan(snapshot: Snapshot<'_>) -> Plan {
    let families = families(snapshot.service, snapshot.pods);
    let mut planned = Plan { actions: Vec::new(), left_out: 0 };
    for family in &families {
        let of_family = plan_family(snapshot, *family);
        planned.actions.extend(of_family.actions);
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
pub fn families(service: &Service, pods: &[Arc<Pod>]) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let told: Vec<Family> = spec.iter().flat_map(|spec| spec.ip_families.iter().flatten()).filter_map(|name| Family::named(name)).collect();
    if !told.is_empty() {
        return told;
    }
    let own = spec.and_then(|spec| spec.cluster_ip.as_deref()?.parse::<IpAddr>().ok());
    let of_pod = || pods.iter().find_map(|pod| pod.status.as_ref()?.pod_ip.as_deref()?.parse::<IpAddr>().ok());
    vec![own.or_else(of_pod).map_or(Family::V4, Family::of)]
}

fn delete(slice: &Arc<EndpointSlice>) -> Action {
    Action::Delete { name: slice.metadata.name.clone().unwrap_or_default(), uid: slice.metadata.uid.clone().unwrap_or_default() }
}

fn plan_family(snapshot: Snapshot<'_>, family: Family) -> Plan {
    let endpoints = snapshot.pods.iter().filter_map(|pod| Some((&**pod, endpoint(snapshot, pod, family)?)));
    let Groups { of: mut wanted, left_out } = by_ports(snapshot.service, endpoints);
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
        actions.extend(plan_ports((snapshot.service, family), &ports, endpoints, ours, &mut left));
    }
    left.extend(kept.into_values().flatten());
    actions.extend(left.into_iter().map(delete));
    Plan { actions, left_out }
}

/// Fills the existing slices of a port set with its endpoints, each staying where it is, and adds slices as needed.
fn plan_ports<'a>(
    (service, family): (&Service, Family),
    ports: &[PortKey],
    endpoints: Vec<Endpoint>,
    ours: Vec<&'a Arc<EndpointSlice>>,
    left: &mut Vec<&'a Arc<EndpointSlice>>,
) -> Vec<Action> {
    let mut missing: BTreeMap<String, Endpoint> = endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut filled: Vec<(Option<&Arc<EndpointSlice>>, Vec<Endpoint>)> = Vec::new();
    for slice in ours {
        let stay = slice.endpoints.iter().flatten().filter_map(|endpoint| missing.remove(&identity(endpoint))).collect();
        filled.push((Some(slice), stay));
    }
    let mut first_with_room = 0;
    for endpoint in missing.into_values() {
        while filled.get(first_with_room).is_some_and(|(_, members)| members.len() >= MAX_ENDPOINTS) {
            first_with_room += 1;
        }
        match filled.get_mut(first_with_room) {
            Some((_, members)) => members.push(endpoint),
            None => filled.push((None, vec![endpoint])),
        }
    }
    if filled.is_empty() {
        filled.push((None, Vec::new()));
    }
    let all_empty = filled.iter().all(|(_, members)| members.is_empty());
    let mut actions = Vec::new();
    for (at, (slice, members)) in filled.into_iter().enumerate() {
        match slice {
            // Of several empty slices the first stays when nothing else does.
            Some(slice) if members.is_empty() && !(all_empty && at == 0) => left.push(slice),
            Some(slice) => actions.extend(update(service, slice, members)),
            None => actions.push(Action::Create(Box::new(build(service, family, ports, members, None)))),
        }
    }
    actions
}

fn update(service: &Service, slice: &Arc<EndpointSlice>, members: Vec<Endpoint>) -> Option<Action> {
    let family = Family::named(&slice.address_type)?;
    let updated = build(service, family, &slice_ports(slice), members, Some(slice));
    (updated != **slice).then(|| Action::Update(Box::new(updated)))
}

fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default();
    format!("{}/{target}", endpoint.addresses.first().map_or("", String::as_str))
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
    let mut slice = base.map_or_else(EndpointSlice::default, |slice| (**slice).clone());
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
fn endpoint(snapshot: Snapshot<'_>, pod: &Arc<Pod>, family: Family) -> Option<Endpoint> {
    let address = pod_address(pod, family)?;
    if matches!(phase(pod), "Succeeded" | "Failed") {
        return None;
    }
    let spec = snapshot.service.spec.as_ref();
    let publish_all = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let serving = is_ready(pod);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let zone = node.as_ref().and_then(|node| snapshot.zones.get(node).cloned());
    let ready = publish_all || serving && !terminating;
    let hints = TrafficDistribution::of(snapshot.service).filter(|_| ready);
    Some(Endpoint {
        addresses: vec![address],
        hints: hints.and_then(|distribution| distribution.hints(node.as_deref(), zone.as_deref())),
        conditions: Some(EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) }),
        hostname: hostname(snapshot.service, pod),
        zone,
        node_name: node,
        target_ref: Some(target(pod)),
        ..Endpoint::default()
    })
}

/// The pod's address of a family, if it is one that a pod can have.
pub fn pod_address(pod: &Pod, family: Family) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).chain(status.pod_ip.as_deref());
    all.into_iter().find(|ip| ip.parse().is_ok_and(|ip| family.has(ip) && is_unicast(ip))).map(str::to_owned)
}

/// What an endpoint's `targetRef` says about a pod.
pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// A pod whose subdomain names the Service has a DNS name of its own.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let same = spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.clone().filter(|name| same && !name.is_empty())
}
