//! Which EndpointSlices mirror an Endpoints object that somebody else than the Endpoints controller keeps. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, EndpointPort as CorePort, EndpointSubset, Endpoints, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::controllers::{
    endpointslice::{
        plan::{Action, MANAGED_BY, SERVICE_NAME, endpoint_port, slice_ports},
        ports::PortKey,
        trigger_times::LAST_CHANGE,
    },
    owners::controller_reference,
};

/// This controller's name in `endpointslice.kubernetes.io/managed-by`.
pub const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Addresses of a set of ports that are mirrored (upstream's `--mirroring-max-endpoints-per-subset`).
pub const MAX_ADDRESSES: usize = 1000;
/// Addresses of all sets of ports together that are looked at. Upstream has no such bound; ports and addresses multiply.
const MAX_LOOKED_AT: usize = 100_000;
/// Says that an Endpoints object is not to be mirrored.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Older clients elect their leaders by Endpoints.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What to do, and what was left out.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// Addresses that are none.
    pub invalid: usize,
    /// Addresses beyond [`MAX_ADDRESSES`] of a set of ports, and all of sets that were not looked at any more.
    pub skipped: usize,
}

/// Whether the Endpoints of a Service are to be mirrored: it is there and has no selector, and they do not ask for something else.
pub fn is_mirrored(service: Option<&Service>, endpoints: &Endpoints) -> bool {
    let metadata = &endpoints.metadata;
    let skips = metadata.labels.as_ref().and_then(|labels| labels.get(SKIP_MIRROR)).is_some_and(|value| value == "true");
    let leads = metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    let by_hand = service.is_some_and(|service| service.spec.as_ref().is_none_or(|spec| spec.selector.is_none()));
    by_hand && !skips && !leads
}

/// Plans the slices of an Endpoints object, a slice for each set of ports and family of addresses; `slices` are those that mirror it now.
pub fn plan(endpoints: &Endpoints, slices: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let mut there: BTreeMap<(&str, Vec<PortKey>), Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()) {
        there.entry((slice.address_type.as_str(), sorted(slice_ports(slice)))).or_default().push(slice);
    }
    let mut missing = Vec::new();
    for (ports, addresses) in port_sets(endpoints.subsets.as_deref().unwrap_or_default(), &mut plan) {
        for (family, members) in members(&addresses, &mut plan) {
            let mut ours = there.remove(&(family, ports.clone())).unwrap_or_default();
            ours.sort_by_key(|slice| slice.metadata.name.clone());
            let mut ours = ours.into_iter();
            match ours.next() {
                Some(slice) => {
                    let mut updated = mirror(endpoints, &ports, family, members, Some(slice));
                    if updated != **slice {
                        // Upstream writes metadata of its own, without the prefix of a name that there is.
                        updated.metadata.generate_name = None;
                        plan.actions.push(Action::Update(Box::new(updated)));
                    }
                }
                None => missing.push(mirror(endpoints, &ports, family, members, None)),
            }
            there.entry(("", Vec::new())).or_default().extend(ours);
        }
    }
    // One that is not needed becomes one that is: nobody who watches is without endpoints meanwhile.
    let mut left = there.into_values().flatten();
    for mut slice in missing {
        let reused = left.next().filter(|old| old.address_type == slice.address_type);
        plan.actions.push(match reused {
            Some(old) => {
                slice.metadata = ObjectMeta { labels: slice.metadata.labels, annotations: slice.metadata.annotations, ..old.metadata.clone() };
                Action::Update(Box::new(slice))
            }
            None => Action::Create(Box::new(slice)),
        });
    }
    plan.actions.extend(left.map(|slice| removal(slice)));
    plan
}

/// Plans that nothing is mirrored any more.
pub fn removals(slices: &[Arc<EndpointSlice>]) -> Vec<Action> {
    slices.iter().map(|slice| removal(slice)).collect()
}

fn removal(slice: &EndpointSlice) -> Action {
    Action::Delete { name: slice.metadata.name.clone().unwrap_or_default(), uid: slice.metadata.uid.clone().unwrap_or_default() }
}

/// An address as it stands in a subset, and whether it is ready there.
type Address<'a> = (&'a EndpointAddress, bool);

/// Ports with the addresses that have all of them.
type PortSet<'a> = (Vec<PortKey>, Vec<Address<'a>>);

/// What tells addresses apart: pods of one IP address are several.
fn identity(address: &EndpointAddress) -> (&str, Option<&str>) {
    (&address.ip, address.target_ref.as_ref().and_then(|target| target.uid.as_deref()))
}

/// Subsets in their canonical form (upstream's `RepackSubsets`): an address is once with each port, unready where one subset says so;
/// ports with the same addresses are together.
fn port_sets<'a>(subsets: &'a [EndpointSubset], plan: &mut Plan) -> Vec<PortSet<'a>> {
    // Ports of the same subsets have the same addresses, which are put together once.
    let mut subsets_of: BTreeMap<Option<PortKey>, BTreeSet<usize>> = BTreeMap::new();
    for (at, subset) in subsets.iter().enumerate() {
        let ports = subset.ports.as_deref().unwrap_or_default();
        for port in ports {
            subsets_of.entry(Some(port_key(port))).or_default().insert(at);
        }
        // Addresses without a port are addresses still.
        if ports.is_empty() {
            subsets_of.entry(None).or_default().insert(at);
        }
    }
    let mut ports_of: BTreeMap<BTreeSet<usize>, Vec<PortKey>> = BTreeMap::new();
    for (port, of) in subsets_of {
        ports_of.entry(of).or_default().extend(port);
    }
    let mut sets: BTreeMap<Vec<_>, PortSet<'_>> = BTreeMap::new();
    let mut looked_at = 0;
    for (of, ports) in ports_of {
        let count: usize = of.iter().map(|at| size(&subsets[*at])).sum();
        if looked_at + count > MAX_LOOKED_AT {
            plan.skipped += count;
            continue;
        }
        looked_at += count;
        let mut addresses: BTreeMap<_, Address<'_>> = BTreeMap::new();
        for subset in of.iter().map(|at| &subsets[*at]) {
            let ready = subset.addresses.iter().flatten().map(|address| (address, true));
            let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
            for (address, ready) in ready.chain(unready) {
                addresses.entry(identity(address)).and_modify(|known| known.1 &= ready).or_insert((address, ready));
            }
        }
        if addresses.is_empty() {
            continue;
        }
        let (names, addresses) = addresses.into_iter().unzip();
        sets.entry(names).or_insert_with(|| (Vec::new(), addresses)).0.extend(ports);
    }
    sets.into_values().map(|(ports, addresses)| (sorted(ports), addresses)).collect()
}

/// How many addresses a subset has.
fn size(subset: &EndpointSubset) -> usize {
    subset.addresses.as_ref().map_or(0, Vec::len) + subset.not_ready_addresses.as_ref().map_or(0, Vec::len)
}

fn sorted(mut ports: Vec<PortKey>) -> Vec<PortKey> {
    ports.sort();
    ports
}

fn port_key(port: &CorePort) -> PortKey {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
    (port.name.clone().unwrap_or_default(), protocol, port.port, port.app_protocol.clone())
}

/// The endpoints of addresses by their family; ready ones come first where not all can be mirrored.
fn members(addresses: &[Address<'_>], plan: &mut Plan) -> BTreeMap<&'static str, Vec<Endpoint>> {
    let mut families: BTreeMap<&'static str, Vec<Endpoint>> = BTreeMap::new();
    let mut taken = 0;
    let (ready, unready): (Vec<_>, Vec<_>) = addresses.iter().partition(|(_, ready)| *ready);
    for (address, ready) in ready.into_iter().chain(unready) {
        if taken == MAX_ADDRESSES {
            plan.skipped += 1;
            continue;
        }
        let Ok(ip) = address.ip.parse::<IpAddr>() else {
            plan.invalid += 1;
            continue;
        };
        taken += 1;
        families.entry(if ip.is_ipv4() { "IPv4" } else { "IPv6" }).or_default().push(Endpoint {
            addresses: vec![ip.to_string()],
            conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
            hostname: address.hostname.clone().filter(|name| !name.is_empty()),
            node_name: address.node_name.clone(),
            target_ref: address.target_ref.clone(),
            ..Endpoint::default()
        });
    }
    families
}

/// The slice of a set of ports and a family, in the place of `base` if there is one.
fn mirror(endpoints: &Endpoints, ports: &[PortKey], family: &str, members: Vec<Endpoint>, base: Option<&Arc<EndpointSlice>>) -> EndpointSlice {
    let mut slice = base.map_or_else(EndpointSlice::default, |slice| (**slice).clone());
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels.insert(SERVICE_NAME.into(), name.clone());
    slice.metadata.labels = Some(labels);
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key != LAST_CHANGE && key != LAST_APPLIED);
    slice.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    slice.metadata.owner_references = Some(vec![controller_reference(endpoints)]);
    if base.is_none() {
        slice.metadata.generate_name = Some(format!("{name}-"));
        slice.metadata.namespace = endpoints.metadata.namespace.clone();
    }
    slice.address_type = family.into();
    slice.ports = (!ports.is_empty()).then(|| ports.iter().map(endpoint_port).collect());
    slice.endpoints = Some(members);
    slice
}
