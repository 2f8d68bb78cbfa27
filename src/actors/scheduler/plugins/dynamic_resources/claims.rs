//! What a pod's claims are, and what they would get on a node.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt::Write as _,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::{Node, Pod},
        resource::v1::{AllocationResult, ResourceClaim},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use sha2::{Digest, Sha256};
use troupe_api::device_selectors::MOST_COST;

use super::searches::{Basis, Found, Round};
use crate::{
    devices::{allocation, can_be_reserved, claims_of, is_reserved_for, key_of},
    scheduler::{
        devices::{
            Allocator, Bounds, Failure,
            caches::DeviceCaches,
            extended::{Classes, Requests, asking, requests},
            readiness::{Readiness, has_timed_out, readiness},
        },
        framework::Rejection,
        node_matching::selector_matches,
        placed_pod::place_of,
        volumes::pod_key,
    },
};

const NOT_THERE: &str = "resourceclaim not available on the node";
const NOTHING_LEFT: &str = "cannot allocate all claims";
/// After how many steps a search looks whether it is over: they take about a tenth of a millisecond.
const BETWEEN_LOOKS: usize = 1_000;
/// How large the claims of a pod may be together, in bytes as they are stored: all of them are read in a decision, while others wait.
const MOST_BYTES: usize = 4 << 20;
/// How long the searches of one round may take together, where each is bounded.
const LONGEST_ROUND: Duration = Duration::from_secs(30);

/// A pod's claims, and what may be had for those that have nothing yet.
pub(super) struct PodClaims {
    pub(super) pod: Arc<Pod>,
    pub(super) allocated: Vec<Arc<ResourceClaim>>,
    pub(super) lacking: Vec<Arc<ResourceClaim>>,
    /// Classes of the extended resources that it asks for.
    extended: Classes,
    /// By the extended resources that a node does not offer by itself: those have a claim of their own.
    allocators: RefCell<BTreeMap<Vec<String>, Rc<Prepared>>>,
    /// Steps of all searches so far, and the time that they took.
    pub(super) steps: Cell<usize>,
    pub(super) took: Cell<Duration>,
    /// Whether decisions have no time for them.
    pub(super) goes_aside: Cell<bool>,
    pub(super) basis: Basis,
}

impl PodClaims {
    /// Whether devices have to be searched at all.
    pub(super) fn lacks_devices(&self) -> bool {
        !self.lacking.is_empty() || !self.extended.is_empty()
    }

    /// The selector that took most of the time of searches, with its claim and request, where one took much.
    pub(super) fn costliest(&self) -> Option<String> {
        let allocators = self.allocators.borrow();
        allocators.values().find_map(|prepared| prepared.allocator.as_ref().ok()?.as_ref()?.costliest())
    }
}

/// When a search looks at the clock.
#[derive(Default)]
pub(super) struct Looks(Cell<usize>);

impl Looks {
    /// Whether it is time to, after so many steps.
    pub(super) fn is_due(&self, steps: usize) -> bool {
        let is_due = steps >= self.0.get();
        if is_due {
            self.0.set(steps + BETWEEN_LOOKS);
        }
        is_due
    }
}

/// What is looked for on nodes that are alike.
struct Prepared {
    allocator: Result<Option<Allocator>, String>,
    extended: Option<Requests>,
}

/// What a pod gets on a node.
#[derive(Default)]
pub(super) struct Got {
    /// In the order of the claims that have nothing yet.
    pub(super) results: Vec<AllocationResult>,
    pub(super) extended: Option<(Requests, AllocationResult)>,
}

impl Got {
    /// The names of the devices.
    fn devices(&self) -> impl Iterator<Item = String> {
        let all = self.results.iter().chain(self.extended.iter().map(|(_, result)| result));
        let results = all.filter_map(|allocation| allocation.devices.as_ref()?.results.as_ref()).flatten();
        results.map(|result| result.device.clone())
    }
}

/// Why a pod gets nothing on a node.
pub(super) enum Lack {
    Rejected(Rejection),
    /// The search was over before it came to an end.
    Unfinished,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct ClaimAllocator {
    pub(super) devices: DeviceCaches,
    /// How long devices may take to become ready (`bindingTimeout`).
    pub(super) patience: Duration,
}

impl ClaimAllocator {
    /// Looks a pod's claims up.
    ///
    /// # Errors
    /// Why no node will do.
    pub(super) fn claims(&self, pod: &Arc<Pod>) -> Result<PodClaims, String> {
        if self.are_too_large(pod) {
            return Err(format!("the pod's resource claims are too large together, limit is {MOST_BYTES} bytes"));
        }
        let (mut allocated, mut lacking) = (Vec::new(), Vec::new());
        let mut basis = Basis { pod: pod.metadata.uid.clone(), claims: Vec::new(), changes: self.devices.changes() };
        for claim in self.devices.claims_of(pod)? {
            basis.claims.push((claim.metadata.uid.clone(), claim.metadata.resource_version.clone()));
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
        Ok(PodClaims {
            pod: pod.clone(),
            allocated,
            lacking,
            extended,
            allocators: RefCell::default(),
            steps: Cell::default(),
            took: Cell::default(),
            goes_aside: Cell::default(),
            basis,
        })
    }

    /// Whether a pod's claims are more than a decision can look at.
    pub(super) fn are_too_large(&self, pod: &Pod) -> bool {
        self.devices.size_of_claims(pod) > MOST_BYTES
    }

    /// Whether a pod has anything to do with devices.
    pub(super) fn is_concerned(&self, pod: &Pod) -> bool {
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
    pub(super) fn is_available(&self, claim: &ResourceClaim, node: &Node) -> bool {
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

    /// What a pod gets on a node, within bounds.
    ///
    /// # Errors
    /// Why nothing.
    pub(super) fn allocate(&self, claims: &PodClaims, node: &Node, bounds: &Bounds<'_>) -> Result<Got, Lack> {
        let failed = |why: String| Lack::Rejected(Rejection::error(why));
        if !claims.allocated.iter().all(|claim| self.is_available(claim, node)) {
            return Err(Lack::Rejected(Rejection::unresolvable(NOT_THERE)));
        }
        let prepared = self.prepared(claims, node);
        let allocator = prepared.allocator.as_ref().map_err(|why| failed(why.clone()))?;
        let Some(allocator) = allocator else { return Ok(Got::default()) };
        let share = |claim: usize, result: usize| share_id(claims.lacking.get(claim).map_or(&claims.pod.metadata, |claim| &claim.metadata), result);
        let mut results = allocator.allocate(node, bounds, &share).map_err(|failure| match failure {
            Failure::Nothing => Lack::Rejected(Rejection::unresolvable(NOTHING_LEFT)),
            Failure::Unfinished => Lack::Unfinished,
            Failure::OnNode(why) => Lack::Rejected(Rejection::unresolvable(why)),
            Failure::Error(why) => failed(why),
        })?;
        let extended = prepared.extended.clone().and_then(|requests| Some((requests, results.pop()?)));
        Ok(Got { results, extended })
    }

    /// Searches on these nodes, one after the other, until a pod gets something on one. A search ends after `timeout`, if that is not zero, and
    /// all of them when they are to `stop`, or pod or claims are gone or others. May take long: nothing else should wait for this thread.
    pub(super) fn search(&self, pod: &Arc<Pod>, nodes: Vec<Arc<Node>>, timeout: Duration, stop: &AtomicBool) -> Round {
        // What is wrong with its claims by now is told where it is tried anew.
        let Ok(claims) = self.claims(pod) else { return Round::default() };
        let clock = &self.devices.clock;
        let end = clock.instant() + LONGEST_ROUND;
        let mut round = Round { basis: Some(claims.basis.clone()), nodes: Vec::with_capacity(nodes.len()), costliest: None };
        let (mut is_there, mut is_wrong) = (false, false);
        for node in nodes {
            let until = (!timeout.is_zero()).then(|| end.min(clock.instant() + timeout));
            let is_late = || stop.load(Ordering::Relaxed) || until.is_some_and(|until| clock.instant() >= until) || !self.is_wanted(&claims);
            let looks = Looks::default();
            let is_over = |steps: usize| looks.is_due(steps) && is_late();
            // One node is enough, or one error; the others were not found out about.
            let came = if is_there || is_wrong || is_late() {
                Found::Skipped
            } else {
                match self.allocate(&claims, &node, &Bounds { is_over: &is_over, most_cost: MOST_COST, among: None }) {
                    Ok(got) => Found::Devices(Arc::new(got.devices().collect())),
                    Err(Lack::Rejected(rejection)) => Found::Rejected(rejection),
                    // It had not all the time that it may have.
                    Err(Lack::Unfinished) if until == Some(end) || stop.load(Ordering::Relaxed) => Found::Skipped,
                    Err(Lack::Unfinished) => Found::TimedOut,
                }
            };
            is_there |= matches!(came, Found::Devices(_));
            is_wrong |= matches!(&came, Found::Rejected(rejection) if rejection.is_error);
            round.nodes.push((node, came));
        }
        // Whether allocated claims can be used changes with time, and what was ended is not to be remembered.
        if is_there || !claims.allocated.is_empty() || !self.is_wanted(&claims) {
            round.basis = None;
        }
        round.costliest = claims.costliest();
        round
    }

    /// Whether the pod is there without a node, and none of its claims is gone.
    fn is_wanted(&self, claims: &PodClaims) -> bool {
        let is_same = |pod: &Pod| pod.metadata.uid == claims.pod.metadata.uid && place_of(pod).is_none();
        let namespace = claims.pod.metadata.namespace.as_deref().unwrap_or_default();
        let is_there = |claim: &Arc<ResourceClaim>| {
            let known = self.devices.claim(namespace, claim.metadata.name.as_deref().unwrap_or_default());
            known.is_some_and(|known| known.metadata.uid == claim.metadata.uid && known.metadata.deletion_timestamp.is_none())
        };
        self.devices.pods.get(&pod_key(&claims.pod)).is_some_and(|cached| is_same(&cached.object)) && claims.lacking.iter().all(is_there)
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
