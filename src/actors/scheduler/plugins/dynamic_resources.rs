//! DynamicResources: a pod runs where its claims' devices are, or where devices can be allocated to them (KEP-4381).

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::{Node, Pod},
        resource::v1::{AllocationResult, ResourceClaim},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use troupe_api::meta::ObjectKey;
use troupe_api_client::Client;

use crate::{
    devices::{allocation, can_be_reserved, claims_of, is_reserved_for, key_of, names_of_claims},
    scheduler::{
        devices::{
            Allocator, Failure,
            assumed::Choice,
            bind,
            caches::DeviceCaches,
            extended::{Classes, Requests, asking, requests},
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
    freed: Mutex<HashMap<ObjectKey, Freed>>,
}

/// A pod's claims, and what may be had for those that have nothing yet.
struct PodClaims {
    pod: Arc<Pod>,
    allocated: Vec<Arc<ResourceClaim>>,
    lacking: Vec<Arc<ResourceClaim>>,
    /// Classes of the extended resources that it asks for.
    extended: Classes,
    /// By the extended resources that a node does not offer by itself: those have a claim of their own.
    allocators: RefCell<BTreeMap<Vec<String>, Rc<Prepared>>>,
}

/// What is looked for on nodes that are alike.
struct Prepared {
    allocator: Result<Option<Allocator>, String>,
    extended: Option<Requests>,
}

/// What a pod gets on a node.
#[derive(Default)]
struct Got {
    /// In the order of the claims that have nothing yet.
    results: Vec<AllocationResult>,
    extended: Option<(Requests, AllocationResult)>,
}

/// What is done about a claim that keeps its pod from nodes.
enum Freed {
    Deallocate(Arc<ResourceClaim>),
    Delete(Arc<ResourceClaim>),
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
    fn claims(&self, pod: &Arc<Pod>) -> Result<PodClaims, String> {
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
        let extended = self.devices.classes_for(pod);
        if !extended.is_empty() && self.devices.extended_claim(pod).is_some() {
            return Err("cannot schedule extended resource claim".into());
        }
        Ok(PodClaims { pod: pod.clone(), allocated, lacking, extended, allocators: RefCell::default() })
    }

    /// Whether a pod has anything to do with devices.
    fn is_concerned(&self, pod: &Pod) -> bool {
        !claims_of(pod).is_empty() || !self.devices.classes_for(pod).is_empty()
    }

    /// What is to be looked for on nodes like this one.
    fn prepared(&self, claims: &PodClaims, node: &Node) -> Rc<Prepared> {
        let here: Classes =
            claims.extended.iter().filter(|(name, _)| !offers(node, name)).map(|(name, class)| (name.clone(), class.clone())).collect();
        let key: Vec<String> = here.keys().cloned().collect();
        let prepare = || {
            let extended = (!here.is_empty()).then(|| requests(&claims.pod, &here));
            let made = extended.iter().map(|requests| Arc::new(asking(&claims.pod, requests)));
            let all: Vec<Arc<ResourceClaim>> = claims.lacking.iter().cloned().chain(made).collect();
            let class = |name: &str| self.devices.class(name);
            let (selectors, slices) = (&self.devices.selectors, self.devices.slices());
            let allocator = (!all.is_empty()).then(|| Allocator::new(&all, &class, selectors, slices, Box::new(self.devices.in_use())));
            Rc::new(Prepared { allocator: allocator.transpose(), extended })
        };
        claims.allocators.borrow_mut().entry(key).or_insert_with(prepare).clone()
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

    fn allocate(&self, claims: &PodClaims, node: &Node) -> Result<Got, Rejection> {
        if !claims.allocated.iter().all(|claim| self.is_available(claim, node)) {
            return Err(Rejection::unresolvable(NOT_THERE));
        }
        let prepared = self.prepared(claims, node);
        let allocator = prepared.allocator.as_ref().map_err(|why| Rejection::unresolvable(why.clone()))?;
        let Some(allocator) = allocator else { return Ok(Got::default()) };
        let share = |claim: usize, result: usize| share_id(claims.lacking.get(claim).map_or(&claims.pod.metadata, |claim| &claim.metadata), result);
        let mut results = allocator.allocate(node, &share).map_err(|failure| {
            Rejection::unresolvable(match failure {
                Failure::Nothing => NOTHING_LEFT.into(),
                Failure::Error(why) => why,
            })
        })?;
        let extended = prepared.extended.clone().and_then(|requests| Some((requests, results.pop()?)));
        Ok(Got { results, extended })
    }

    /// A claim that keeps a pod from nodes, and that nobody else uses.
    fn in_the_way(&self, pod: &Pod, cluster: &Snapshot, rejects: bool) -> Option<Freed> {
        if let Some(claim) = self.devices.extended_claim(pod) {
            return Some(Freed::Delete(claim));
        }
        let claims = self.devices.claims_of(pod).ok().filter(|_| rejects)?;
        let is_kept_from = |claim: &ResourceClaim| cluster.nodes().iter().any(|node| !self.is_available(claim, &node.node));
        let idle = |claim: &Arc<ResourceClaim>| allocation(claim).is_some() && bind::is_used_by_none_but(pod, claim) && is_kept_from(claim);
        claims.into_iter().find(idle).map(Freed::Deallocate)
    }
}

/// Whether a node has an extended resource by itself.
fn offers(node: &Node, resource: &str) -> bool {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    allocatable.and_then(|allocatable| allocatable.get(resource)).is_some_and(|amount| troupe_cri::quantity::value(&amount.0) > 0)
}

/// The name of a share of a device: the same for the same decision, another one for each.
fn share_id(meta: &ObjectMeta, result: usize) -> String {
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
        if !self.is_concerned(&pod.pod) {
            return PreFilter::Skip;
        }
        match self.claims(&pod.pod) {
            Ok(claims) => PreFilter::by_node_alone(move |node| self.allocate(&claims, &node.node).map(drop)),
            Err(why) => PreFilter::Reject(Rejection::unresolvable(why)),
        }
    }

    /// A claim that keeps a pod from nodes, and that only this pod wants, may get other devices. What upstream says of pods without claims, or
    /// where it was not asked before, users see in the message about every pod that fits nowhere.
    fn post_filter(&self, failure: &mut framework::Failure<'_, '_>) -> Option<Outcome> {
        if failure.diagnosis.was_rejected_before(NAME) {
            return Some(Outcome { message: "not found".into(), is_final: true, ..Outcome::default() });
        }
        if !self.is_concerned(&failure.pod.pod) {
            return Some(Outcome { message: "no new claims to deallocate".into(), ..Outcome::default() });
        }
        let rejects = failure.diagnosis.plugins.get(NAME).is_some_and(|nodes| *nodes > 0);
        let message = match self.in_the_way(&failure.pod.pod, failure.cluster, rejects) {
            Some(freed) => {
                let done =
                    if matches!(freed, Freed::Delete(_)) { "deletion of ResourceClaim completed" } else { "deallocation of ResourceClaim completed" };
                self.freed.lock().insert(failure.pod.key().clone(), freed);
                done
            }
            None => "still not schedulable",
        };
        Some(Outcome { message: message.into(), ..Outcome::default() })
    }

    fn after_failure(&self, pod: &ObjectKey, client: &Client) -> Option<Writing> {
        let (freed, client) = (self.freed.lock().remove(pod)?, client.clone());
        Some(Box::pin(async move {
            match freed {
                Freed::Deallocate(claim) => bind::deallocate(&client, &claim).await,
                Freed::Delete(claim) => bind::delete(&client, &claim).await,
            }
        }))
    }

    fn pre_score<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot, _feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        if !self.is_concerned(&pod.pod) {
            return None;
        }
        let claims = self.claims(&pod.pod).ok().filter(|claims| claims.lacking.iter().any(|claim| has_alternatives(claim)))?;
        Some(Box::new(Scorer { plugin: self, claims }))
    }

    /// Chooses for good. Others see from now on that these devices are taken.
    fn reserve(&self, pod: &PodInfo, node: &Arc<Node>) -> Result<(), Refusal> {
        if !self.is_concerned(&pod.pod) {
            return Ok(());
        }
        let claims = self.claims(&pod.pod).map_err(Refusal::Failed)?;
        let Got { results, extended } = self.allocate(&claims, node).map_err(|rejection| Refusal::Failed(rejection.reasons.join(", ")))?;
        if !results.is_empty() || extended.is_some() {
            let uids = claims.lacking.iter().map(|claim| claim.metadata.uid.clone().unwrap_or_default());
            self.devices.assumed.assume(pod.key().clone(), Choice { results: uids.zip(results).collect(), extended });
        }
        Ok(())
    }

    fn unreserve(&self, pod: &ObjectKey) {
        self.devices.assumed.forget(pod);
    }

    fn pre_bind(&self, pod: &Arc<Pod>, _node: &Arc<Node>, client: &Client) -> Option<Writing> {
        if !self.is_concerned(pod) {
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
        let results = self.plugin.allocate(&self.claims, &node.node).unwrap_or_default().results;
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
