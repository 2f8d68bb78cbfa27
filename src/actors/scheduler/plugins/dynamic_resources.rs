//! DynamicResources: a pod runs where its claims' devices are, or where devices can be allocated to them (KEP-4381).

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1::{AllocationResult, ResourceClaim},
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use troupe_api::{client::Client, meta::ObjectKey};

use crate::{
    devices::{allocation, can_be_reserved, claims_of, is_reserved_for, key_of, names_of_claims},
    scheduler::{
        devices::{
            Allocator, Failure, bind,
            caches::DeviceCaches,
            readiness::{Readiness, has_timed_out, readiness},
        },
        framework::{self, ClusterChange, Event, NodeScorer, Outcome, Plugin, Point, PreFilter, Refusal, Rejection, Writing, normalize_to_largest},
        node_info::NodeInfo,
        node_matching::selector_matches,
        pod_info::PodInfo,
        snapshot::Snapshot,
        volumes::pod_key,
    },
};

/// How many alternatives a request may have (`FirstAvailableDeviceRequestMaxSize`).
const MOST_ALTERNATIVES: usize = 8;
const NAME: &str = "DynamicResources";
const NOT_THERE: &str = "resourceclaim not available on the node";
const NOTHING_LEFT: &str = "cannot allocate all claims";

/// See the module.
pub struct DynamicResources {
    devices: DeviceCaches,
    /// How long devices may take to become ready (`bindingTimeout`).
    patience: Duration,
    /// Claims that are to lose what they got, by the pods for which that may help.
    freed: Mutex<HashMap<ObjectKey, Arc<ResourceClaim>>>,
}

/// A pod's claims, and what may be had for those that have nothing yet.
struct PodClaims {
    allocated: Vec<Arc<ResourceClaim>>,
    lacking: Vec<Arc<ResourceClaim>>,
    allocator: Option<Allocator>,
}

impl DynamicResources {
    pub const POINTS: &[Point] = &[Point::PreFilter, Point::Filter, Point::PostFilter, Point::PreScore, Point::Score, Point::Reserve, Point::PreBind];

    pub fn new(devices: DeviceCaches, patience: Duration) -> Self {
        DynamicResources { devices, patience, freed: Mutex::default() }
    }

    /// Looks a pod's claims up.
    ///
    /// # Errors
    /// Why no node will do.
    fn claims(&self, pod: &Pod) -> Result<PodClaims, String> {
        let (mut allocated, mut lacking) = (Vec::new(), Vec::new());
        for claim in self.devices.claims_of(pod)? {
            if allocation(&claim).is_some() {
                if !can_be_reserved(&claim) && !is_reserved_for(pod, &claim) {
                    return Err("resourceclaim in use".into());
                }
                allocated.push(claim);
                continue;
            }
            if self.devices.assumed.is_in_flight(claim.metadata.uid.as_deref().unwrap_or_default()) {
                return Err(format!("resource claim {} is in the process of being allocated", key_of(&claim.metadata)));
            }
            self.check_classes(&claim)?;
            lacking.push(claim);
        }
        let class = |name: &str| self.devices.class(name);
        let allocator = match &lacking[..] {
            [] => None,
            claims => Some(Allocator::new(claims, &class, &self.devices.selectors, self.devices.slices(), Box::new(self.devices.in_use()))?),
        };
        Ok(PodClaims { allocated, lacking, allocator })
    }

    fn check_classes(&self, claim: &ResourceClaim) -> Result<(), String> {
        let devices = claim.spec.devices.as_ref();
        for request in devices.and_then(|devices| devices.requests.as_ref()).into_iter().flatten() {
            let exact = request.exactly.iter().map(|exact| (request.name.clone(), &exact.device_class_name));
            let alternatives = request.first_available.iter().flatten();
            let alternatives = alternatives.map(|sub| (format!("{}/{}", request.name, sub.name), &sub.device_class_name));
            for (name, class) in exact.chain(alternatives) {
                if self.devices.class(class).is_none() {
                    return Err(format!("request {name}: device class {class} does not exist"));
                }
            }
        }
        Ok(())
    }

    /// Whether an allocated claim can be used on a node.
    fn is_available(&self, claim: &ResourceClaim, node: &Node) -> bool {
        let selector = allocation(claim).and_then(|allocation| allocation.node_selector.as_ref());
        if selector.is_some_and(|selector| !selector_matches(selector, node)) {
            return false;
        }
        match readiness(claim) {
            Readiness::Ready => true,
            Readiness::Failed(_) => false,
            Readiness::Waiting => !has_timed_out(claim, self.patience, self.devices.clock.now()),
        }
    }

    fn allocate(&self, claims: &PodClaims, node: &Node) -> Result<Vec<AllocationResult>, Rejection> {
        if !claims.allocated.iter().all(|claim| self.is_available(claim, node)) {
            return Err(Rejection::unresolvable(NOT_THERE));
        }
        let Some(allocator) = &claims.allocator else { return Ok(Vec::new()) };
        allocator.allocate(node, &|claim, result| share_id(&claims.lacking[claim], result)).map_err(|failure| {
            Rejection::unresolvable(match failure {
                Failure::Nothing => NOTHING_LEFT.into(),
                Failure::Error(why) => why,
            })
        })
    }

    /// An allocated claim that keeps a pod from a node, and that nobody else uses.
    fn in_the_way(&self, pod: &Pod, cluster: &Snapshot) -> Option<Arc<ResourceClaim>> {
        let claims = self.devices.claims_of(pod).ok()?;
        let is_kept_from = |claim: &ResourceClaim| cluster.nodes().iter().any(|node| !self.is_available(claim, &node.node));
        claims.into_iter().find(|claim| allocation(claim).is_some() && bind::is_used_by_none_but(pod, claim) && is_kept_from(claim))
    }
}

/// The name of a share of a device: the same for the same decision, another one for each.
fn share_id(claim: &ResourceClaim, result: usize) -> String {
    let meta = &claim.metadata;
    let of = format!("{}/{}/{result}", meta.uid.as_deref().unwrap_or_default(), meta.resource_version.as_deref().unwrap_or_default());
    let mut bytes = Sha256::digest(of.as_bytes());
    // As a UUID of version 8, which is for such names.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut id = String::with_capacity(36);
    for (at, byte) in bytes[..16].iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        // Writing to a text does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> &'static [Point] {
        Self::POINTS
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        if claims_of(&pod.pod).is_empty() {
            return PreFilter::Skip;
        }
        match self.claims(&pod.pod) {
            Ok(claims) => PreFilter::by_node(move |node| self.allocate(&claims, &node.node).map(drop)),
            Err(why) => PreFilter::Reject(Rejection::unresolvable(why)),
        }
    }

    /// A claim that keeps a pod from nodes, and that only this pod wants, may get other devices.
    fn post_filter(&self, failure: &mut framework::Failure<'_, '_>) -> Option<Outcome> {
        if claims_of(&failure.pod.pod).is_empty() {
            return None;
        }
        let rejects = failure.diagnosis.plugins.get(NAME).is_some_and(|nodes| *nodes > 0);
        let message = match self.in_the_way(&failure.pod.pod, failure.cluster).filter(|_| rejects) {
            Some(claim) => {
                self.freed.lock().insert(failure.pod.key().clone(), claim);
                "deallocation of ResourceClaim completed"
            }
            None => "still not schedulable",
        };
        Some(Outcome { message: message.into(), ..Outcome::default() })
    }

    fn after_failure(&self, pod: &ObjectKey, client: &Client) -> Option<Writing> {
        let (claim, client) = (self.freed.lock().remove(pod)?, client.clone());
        Some(Box::pin(async move { bind::deallocate(&client, &claim).await }))
    }

    fn pre_score<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot, _feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        if claims_of(&pod.pod).is_empty() {
            return None;
        }
        let claims = self.claims(&pod.pod).ok().filter(|claims| claims.lacking.iter().any(|claim| has_alternatives(claim)))?;
        Some(Box::new(Scorer { plugin: self, claims }))
    }

    /// Chooses for good. Others see from now on that these devices are taken.
    fn reserve(&self, pod: &PodInfo, node: &Arc<Node>) -> Result<(), Refusal> {
        if claims_of(&pod.pod).is_empty() {
            return Ok(());
        }
        let claims = self.claims(&pod.pod).map_err(Refusal::Failed)?;
        let results = self.allocate(&claims, node).map_err(|rejection| Refusal::Failed(rejection.reasons.join(", ")))?;
        if !results.is_empty() {
            let uids = claims.lacking.iter().map(|claim| claim.metadata.uid.clone().unwrap_or_default());
            self.devices.assumed.assume(pod.key().clone(), Arc::new(uids.zip(results).collect()));
        }
        Ok(())
    }

    fn unreserve(&self, pod: &ObjectKey) {
        self.devices.assumed.forget(pod);
    }

    fn pre_bind(&self, pod: &Arc<Pod>, _node: &Arc<Node>, client: &Client) -> Option<Writing> {
        if claims_of(pod).is_empty() {
            return None;
        }
        let choice = self.devices.assumed.choice(&pod_key(pod));
        let (pod, client, devices, patience) = (pod.clone(), client.clone(), self.devices.clone(), self.patience);
        Some(Box::pin(async move { bind::bind(&client, &devices, &pod, choice, patience).await }))
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated, Event::ClaimChanged, Event::DevicesChanged]
    }

    fn helps_every_pod(&self, change: &ClusterChange) -> bool {
        matches!(change, ClusterChange::ClaimChanged { old: Some(old), new } if allocation(old).is_some() && allocation(new).is_none())
    }

    /// A claim helps whose it is, unless nothing but its metadata changed.
    fn may_help(&self, pod: &PodInfo, change: &ClusterChange) -> bool {
        let ClusterChange::ClaimChanged { old, new } = change else { return true };
        let key = key_of(&new.metadata);
        let is_own = *key.namespace == *pod.placed.namespace() && names_of_claims(&pod.pod).any(|name| *name == *key.name);
        is_own && old.as_ref().is_none_or(|old| old.status != new.status || old.metadata.uid != new.metadata.uid)
    }
}

fn has_alternatives(claim: &ResourceClaim) -> bool {
    let requests = claim.spec.devices.as_ref().and_then(|devices| devices.requests.as_ref());
    requests.into_iter().flatten().any(|request| request.first_available.is_some())
}

/// Prefers nodes where earlier alternatives can be had.
struct Scorer<'a> {
    plugin: &'a DynamicResources,
    claims: PodClaims,
}

impl NodeScorer for Scorer<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let results = self.plugin.allocate(&self.claims, &node.node).unwrap_or_default();
        let lacking = self.claims.lacking.iter().zip(&results).map(|(claim, result)| score(claim, result));
        let allocated = self.claims.allocated.iter().filter_map(|claim| Some(score(claim, allocation(claim)?)));
        lacking.chain(allocated).sum()
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize_to_largest(scores, false);
    }
}

/// The first alternative of a request counts most.
fn score(claim: &ResourceClaim, got: &AllocationResult) -> i64 {
    let results = got.devices.as_ref().and_then(|devices| devices.results.as_deref()).unwrap_or_default();
    let requests = claim.spec.devices.as_ref().and_then(|devices| devices.requests.as_deref()).unwrap_or_default();
    let points = requests.iter().flat_map(|request| {
        let alternatives = request.first_available.as_deref().unwrap_or_default().iter().enumerate();
        alternatives.filter_map(move |(at, alternative)| {
            let name = format!("{}/{}", request.name, alternative.name);
            let is_taken = results.iter().any(|result| result.request == name);
            is_taken.then(|| i64::try_from(MOST_ALTERNATIVES.saturating_sub(at)).unwrap_or(0))
        })
    });
    points.sum()
}
