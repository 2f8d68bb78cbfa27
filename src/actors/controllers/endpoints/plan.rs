//! What a Service's Endpoints object says (the older form of EndpointSlices). Pure.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};

use crate::controllers::endpointslice::{
    plan::{families, is_headless},
    pods::EndpointPod,
    ports::{Groups, PortKey, by_ports},
    trigger_times,
};

/// More addresses than this are cut off (and the object says so).
const MAX_ADDRESSES: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Marks objects that this controller made.
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// The one step there is.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Box<Endpoints>),
    Update(Box<Endpoints>),
}

/// Plans the Endpoints of a Service with a selector. `triggered` is when the change was made that this look is about, as far as that is known.
pub fn plan(service: &Service, pods: &[Arc<EndpointPod>], current: Option<&Endpoints>, triggered: Option<Timestamp>) -> Option<Action> {
    let (subsets, over) = subsets(service, pods);
    let mut wanted = current.cloned().unwrap_or_default();
    wanted.metadata.name = service.metadata.name.clone();
    wanted.metadata.namespace = service.metadata.namespace.clone();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), "endpoint-controller".into());
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    wanted.metadata.labels = Some(labels);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if over {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        wanted.metadata.annotations = None;
    }
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    if current == Some(&wanted) {
        return None;
    }
    trigger_times::tell(&mut wanted.metadata, triggered);
    let wanted = Box::new(wanted);
    Some(if current.is_some() { Action::Update(wanted) } else { Action::Create(wanted) })
}

/// Addresses grouped by the ports they serve, ready ones apart from others; sorted, so that equal states are equal.
fn subsets(service: &Service, pods: &[Arc<EndpointPod>]) -> (Vec<EndpointSubset>, bool) {
    let spec = service.spec.as_ref();
    let publish_all = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    // This form of endpoints knows one family.
    let family = families(service, pods).first().copied().unwrap_or_default();
    let mut addresses = Vec::new();
    let mut sorted: Vec<(&str, &EndpointPod)> =
        pods.iter().filter(|pod| !pod.is_finished).filter_map(|pod| Some((pod.address(family)?, &**pod))).collect();
    sorted.sort_by_key(|(ip, pod)| (*ip, &*pod.meta.uid));
    let mut count = 0;
    for (ip, pod) in sorted {
        if pod.is_terminating() && !publish_all {
            continue;
        }
        count += 1;
        if count > MAX_ADDRESSES {
            break;
        }
        let node_name = pod.node.as_deref().map(str::to_owned);
        let address = EndpointAddress { ip: ip.to_owned(), node_name, hostname: pod.hostname(service), target_ref: Some(pod.target()) };
        addresses.push((pod, (pod.is_ready || publish_all, address)));
    }
    // Those that are left out are cut off, as others beyond the capacity.
    let Groups { of: groups, left_out } = by_ports(service, addresses.into_iter());
    let some = |list: Vec<EndpointAddress>| (!list.is_empty()).then_some(list);
    // A pod that has none of the Service's ports is reached at none.
    let has_ports = spec.is_some_and(|spec| spec.ports.as_ref().is_some_and(|ports| !ports.is_empty()));
    let groups = groups.into_iter().filter(|(ports, _)| !ports.is_empty() || !has_ports);
    let subsets = repacked(groups.collect()).into_iter().map(|(ports, addresses)| {
        let (ready, unready): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|(ready, _)| *ready);
        let [ready, unready] = [ready, unready].map(|list| list.into_iter().map(|(_, address)| address).collect());
        EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(unready),
            ports: (!ports.is_empty()).then(|| ports.into_iter().map(endpoint_port).collect()),
        }
    });
    (subsets.collect(), count > MAX_ADDRESSES || left_out > 0)
}

/// Ports, and the addresses at which they are served, ready or not.
type Group = (Vec<PortKey>, Vec<(bool, EndpointAddress)>);

/// Puts the ports together that the same pods serve, whatever else those serve (`RepackSubsets`).
fn repacked(groups: Vec<Group>) -> Vec<Group> {
    if groups.len() < 2 {
        return groups;
    }
    let mut of_port: BTreeMap<&PortKey, Vec<usize>> = BTreeMap::new();
    for (at, (ports, _)) in groups.iter().enumerate() {
        for port in ports {
            of_port.entry(port).or_default().push(at);
        }
    }
    // Every pod is of one group: ports of the same groups are those of the same pods.
    let mut together: BTreeMap<Vec<usize>, Vec<PortKey>> = BTreeMap::new();
    for (port, of) in of_port {
        together.entry(of).or_default().push(port.clone());
    }
    let addresses = |of: &[usize]| {
        let mut addresses: Vec<_> = of.iter().flat_map(|at| groups[*at].1.iter().cloned()).collect();
        addresses.sort_by(|(_, one), (_, other)| one.ip.cmp(&other.ip));
        addresses
    };
    together.into_iter().map(|(of, ports)| (ports, addresses(&of))).collect()
}

fn endpoint_port((name, protocol, port, app_protocol): PortKey) -> EndpointPort {
    EndpointPort { name: (!name.is_empty()).then_some(name), protocol: Some(protocol), port, app_protocol }
}
