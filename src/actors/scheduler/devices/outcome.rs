//! A solution, written down as allocations.

use k8s_openapi::api::{
    core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
    resource::v1::{
        AllocationResult, Device, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult, OpaqueDeviceConfiguration,
        ResourceSlice,
    },
};

use super::{
    Amounts, Failure, capacity,
    wanted::{Wanted, WantedClaim},
};
use crate::{
    devices::{DeviceId, key_of},
    scheduler::node_matching::NAME,
};

/// A device that was chosen.
pub struct Chosen<'s> {
    pub request: usize,
    pub alternative: usize,
    pub id: DeviceId,
    pub device: &'s Device,
    pub slice: &'s ResourceSlice,
    /// What is taken of it, if others may take the rest.
    pub consumed: Option<Amounts>,
}

/// The devices of all claims.
pub struct Solution<'s> {
    pub claims: &'s [WantedClaim],
    pub chosen: Vec<Vec<Chosen<'s>>>,
    /// By claim and request.
    pub alternatives: Vec<Vec<usize>>,
    pub node: &'s Node,
}

impl Solution<'_> {
    /// # Errors
    /// A slice selects nodes in a way that is not known.
    pub fn into_results(self, share_id: &dyn Fn(usize, usize) -> String) -> Result<Vec<AllocationResult>, Failure> {
        let one = |(at, chosen): (usize, &Vec<Chosen<'_>>)| {
            let claim = &self.claims[at];
            let result = |(number, chosen): (usize, &Chosen<'_>)| result(claim, chosen, &|| share_id(at, number));
            let devices = DeviceAllocationResult {
                results: Some(chosen.iter().enumerate().map(result).collect()),
                config: Some(configurations(claim, &self.alternatives[at])).filter(|configs| !configs.is_empty()),
            };
            let selector = node_selector(chosen, self.node)
                .map_err(|why| Failure::Error(format!("create NodeSelector for claim {}: {why}", key_of(&claim.claim.metadata).name)))?;
            Ok(AllocationResult { allocation_timestamp: None, devices: Some(devices), node_selector: selector })
        };
        self.chosen.iter().enumerate().map(one).collect()
    }
}

fn result(claim: &WantedClaim, chosen: &Chosen<'_>, share_id: &dyn Fn() -> String) -> DeviceRequestAllocationResult {
    let wanted = &claim.requests[chosen.request].alternatives[chosen.alternative];
    let consumed = chosen.consumed.as_ref().filter(|consumed| !consumed.is_empty());
    let written = |(name, nanos): (&String, &i128)| (name.clone(), capacity::written(chosen.device, name, *nanos));
    DeviceRequestAllocationResult {
        request: wanted.full_name(),
        driver: chosen.id.driver.clone(),
        pool: chosen.id.pool.clone(),
        device: chosen.id.device.clone(),
        admin_access: wanted.admin_access.filter(|admin| *admin),
        tolerations: Some(wanted.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        share_id: chosen.consumed.is_some().then(share_id),
        consumed_capacity: consumed.map(|consumed| consumed.iter().map(written).collect()),
        binding_conditions: chosen.device.binding_conditions.clone(),
        binding_failure_conditions: chosen.device.binding_failure_conditions.clone(),
    }
}

/// What drivers are told: for each class once, then what the claim says of requests that count.
fn configurations(claim: &WantedClaim, alternatives: &[usize]) -> Vec<DeviceAllocationConfiguration> {
    let taken: Vec<&Wanted> = claim.requests.iter().zip(alternatives).map(|(request, at)| &request.alternatives[*at]).collect();
    let configuration = |source: &str, requests: Vec<String>, opaque: &Option<OpaqueDeviceConfiguration>| DeviceAllocationConfiguration {
        source: source.to_owned(),
        requests: Some(requests).filter(|requests| !requests.is_empty()),
        opaque: opaque.clone(),
    };
    let mut configs = Vec::new();
    let mut seen: Vec<Option<&str>> = Vec::new();
    for wanted in &taken {
        let name = wanted.class.metadata.name.as_deref();
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let requests: Vec<String> =
            taken.iter().filter(|other| other.class.metadata.name.as_deref() == name).map(|other| other.full_name()).collect();
        configs.extend(wanted.class.spec.config.iter().flatten().map(|config| configuration("FromClass", requests.clone(), &config.opaque)));
    }
    let devices = claim.claim.spec.devices.as_ref();
    for config in devices.and_then(|devices| devices.config.as_ref()).into_iter().flatten() {
        let requests = config.requests.clone().unwrap_or_default();
        let is_about = |wanted: &&Wanted| requests.contains(&wanted.request) || requests.contains(&wanted.full_name());
        let times = if requests.is_empty() { 1 } else { taken.iter().copied().filter(is_about).count() };
        configs.extend((0..times).map(|_| configuration("FromClaim", requests.clone(), &config.opaque)));
    }
    configs
}

/// The nodes on which all devices of a claim can be used; `None` for all nodes.
fn node_selector(chosen: &[Chosen<'_>], node: &Node) -> Result<Option<NodeSelector>, String> {
    let mut term = NodeSelectorTerm::default();
    for Chosen { device, slice, .. } in chosen {
        let by_device = slice.spec.per_device_node_selection == Some(true);
        let (name, selector) =
            if by_device { (&device.node_name, &device.node_selector) } else { (&slice.spec.node_name, &slice.spec.node_selector) };
        if name.as_ref().is_some_and(|name| !name.is_empty()) || device.binds_to_node == Some(true) {
            let own = NodeSelectorRequirement {
                key: NAME.to_owned(),
                operator: "In".to_owned(),
                values: Some(node.metadata.name.iter().cloned().collect()),
            };
            let term = NodeSelectorTerm { match_fields: Some(vec![own]), ..NodeSelectorTerm::default() };
            return Ok(Some(NodeSelector { node_selector_terms: vec![term] }));
        }
        match selector.as_ref().map(|selector| &selector.node_selector_terms[..]) {
            None | Some([]) => {}
            Some([only]) => {
                add(&mut term.match_fields, only.match_fields.as_deref());
                add(&mut term.match_expressions, only.match_expressions.as_deref());
            }
            Some(terms) => return Err(format!("unsupported ResourceSlice.NodeSelector with {} terms", terms.len())),
        }
    }
    let is_empty = term.match_fields.is_none() && term.match_expressions.is_none();
    Ok((!is_empty).then(|| NodeSelector { node_selector_terms: vec![term] }))
}

/// Adds requirements that are not there yet.
fn add(to: &mut Option<Vec<NodeSelectorRequirement>>, from: Option<&[NodeSelectorRequirement]>) {
    for requirement in from.into_iter().flatten() {
        let known = to.get_or_insert_default();
        if !known.contains(requirement) {
            known.push(requirement.clone());
        }
    }
}
