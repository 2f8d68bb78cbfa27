//! DynamicResources: a pod runs where its claims' devices are, or where devices can be allocated to them (KEP-4381).

mod claims;
mod searches;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1::{AllocationResult, ResourceClaim},
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use troupe_api::meta::ObjectKey;
use troupe_api_client::Client;

use self::{
    claims::{ClaimAllocator, Got, Lack, PodClaims},
    searches::{Found, Next, Searches, name_of},
};
use crate::{
    devices::{allocation, key_of, names_of_claims},
    files::blocking,
    runtime::panics::panic_text,
    scheduler::{
        devices::{Bounds, assumed::Choice, bind, caches::DeviceCaches},
        framework::{
            self, ClusterChange, Event, NodeScorer, Outcome, Plugin, Point, PreFilter, Refusal, Rejection, Undecided, Writing, normalize_to_largest,
        },
        node_info::NodeInfo,
        pod_info::PodInfo,
        snapshot::Snapshot,
        volumes::pod_key,
    },
};

/// How many alternatives a request may have (`FirstAvailableDeviceRequestMaxSize`).
const MOST_ALTERNATIVES: usize = 8;
const NAME: &str = "DynamicResources";
/// Steps of a search on one node, and of all searches of an attempt, that a decision has time for. They take some milliseconds, and about a
/// quarter of a second.
const MOST_STEPS: usize = 100_000;
const MOST_STEPS_OF_ALL: usize = 2_000_000;
/// For how many pods devices are searched aside at once.
const AT_ONCE: usize = 2;

/// How long devices may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTimeouts {
    /// To become ready (`bindingTimeout`).
    pub binding: Duration,
    /// To be found on a node (`filterTimeout`); zero for as long as it takes.
    pub filter: Duration,
}

impl Default for DeviceTimeouts {
    fn default() -> Self {
        DeviceTimeouts { binding: Duration::from_secs(600), filter: Duration::from_secs(10) }
    }
}

/// See the module.
pub struct DynamicResources {
    claims: ClaimAllocator,
    filter_timeout: Duration,
    searches: Arc<Searches>,
    at_once: Arc<Semaphore>,
    /// Claims that are to lose what they got, by the pods for which that may help.
    freed: Mutex<HashMap<ObjectKey, Freed>>,
}

/// What is done about a claim that keeps its pod from nodes.
enum Freed {
    Deallocate(Arc<ResourceClaim>),
    Delete(Arc<ResourceClaim>),
}

impl DynamicResources {
    pub const POINTS: &[Point] =
        &[Point::PreEnqueue, Point::PreFilter, Point::Filter, Point::PostFilter, Point::PreScore, Point::Score, Point::Reserve, Point::PreBind];

    pub fn new(devices: DeviceCaches, timeouts: DeviceTimeouts) -> Self {
        let claims = ClaimAllocator { devices, patience: timeouts.binding };
        DynamicResources {
            claims,
            filter_timeout: timeouts.filter,
            freed: Mutex::default(),
            searches: Arc::default(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// What a pod gets on a node. A search that takes too long here is put off, and the node will not do for now.
    fn allocate(&self, claims: &PodClaims, node: &Arc<Node>) -> Result<Got, Rejection> {
        let pod = pod_key(&claims.pod);
        let among = match self.searches.found(&pod, node) {
            Some(Found::Rejected(rejection)) => return Err(rejection),
            Some(Found::TimedOut) => return Err(timed_out(name_of(node))),
            Some(Found::Devices(devices)) => Some(devices),
            None => None,
        };
        let is_over = |steps: usize| {
            let of_all = claims.steps.get() + 1;
            claims.steps.set(of_all);
            steps > MOST_STEPS || of_all > MOST_STEPS_OF_ALL
        };
        match self.claims.allocate(claims, node, &Bounds { is_over: &is_over, among: among.as_deref() }) {
            Ok(got) => Ok(got),
            Err(Lack::Rejected(rejection)) if among.is_none() => Err(rejection),
            // It takes longer, or what was found is not free any more.
            Err(_) => {
                self.searches.put_off(&pod, node);
                Err(timed_out(name_of(node)))
            }
        }
    }

    /// Searches on these nodes on a thread where nobody waits, until it is dropped; what comes of it is kept.
    fn look_aside(&self, pod: ObjectKey, nodes: Vec<Arc<Node>>) -> BoxFuture<'static, ()> {
        let (claims, searches, timeout, at_once) = (self.claims.clone(), self.searches.clone(), self.filter_timeout, self.at_once.clone());
        Box::pin(async move {
            // It is never closed.
            let _permit = at_once.acquire().await;
            let Some(object) = claims.devices.pods.get(&pod).map(|cached| cached.object) else { return };
            let stop = StopOnDrop::default();
            let stopped = stop.0.clone();
            let search = move || catch_unwind(AssertUnwindSafe(|| claims.search(&object, &nodes, timeout, &stopped)));
            match blocking(search).await {
                Ok(found) => searches.tell(&pod, found),
                Err(panic) => tracing::error!(key = %pod, panic = panic_text(panic.as_ref()), "the search for devices panicked"),
            }
        })
    }

    /// A claim that keeps a pod from nodes, and that nobody else uses.
    fn in_the_way(&self, pod: &Pod, cluster: &Snapshot, rejects: bool) -> Option<Freed> {
        if let Some(claim) = self.claims.devices.extended_claim(pod) {
            return Some(Freed::Delete(claim));
        }
        let claims = self.claims.devices.claims_of(pod).ok().filter(|_| rejects)?;
        let is_kept_from = |claim: &ResourceClaim| cluster.nodes().iter().any(|node| !self.claims.is_available(claim, &node.node));
        let idle = |claim: &Arc<ResourceClaim>| allocation(claim).is_some() && bind::is_used_by_none_but(pod, claim) && is_kept_from(claim);
        claims.into_iter().find(idle).map(Freed::Deallocate)
    }
}

/// Ends a search when nobody waits for it any more.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn timed_out(node: &str) -> Rejection {
    Rejection::unresolvable(timeout_message(node))
}

fn timeout_message(node: &str) -> String {
    format!("node {node}: timed out trying to allocate devices")
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> &'static [Point] {
        Self::POINTS
    }

    /// A pod is not looked at before its claims are there.
    fn pre_enqueue(&self, pod: &Pod) -> Result<(), String> {
        self.claims.devices.claims_of(pod).map(drop)
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        if !self.claims.is_concerned(&pod.pod) {
            return PreFilter::Skip;
        }
        self.searches.begin(pod.key());
        match self.claims.claims(&pod.pod) {
            Ok(claims) => PreFilter::by_node_alone(move |node| self.allocate(&claims, &node.node).map(drop)),
            Err(why) => PreFilter::Reject(Rejection::unresolvable(why)),
        }
    }

    /// A claim that keeps a pod from nodes, and that only this pod wants, may get other devices. What upstream says of pods without claims, or
    /// where it was not asked before, users see in the message about every pod that fits nowhere.
    fn post_filter(&self, failure: &mut framework::Failure<'_, '_>) -> Option<Outcome> {
        // Nobody is removed before it is known whether there are devices.
        if self.searches.is_put_off(failure.pod.key()) {
            return Some(Outcome { is_final: true, ..Outcome::default() });
        }
        if failure.diagnosis.was_rejected_before(NAME) {
            return Some(Outcome { message: "not found".into(), is_final: true, ..Outcome::default() });
        }
        if !self.claims.is_concerned(&failure.pod.pod) {
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

    fn undecided(&self, pod: &ObjectKey) -> Option<Undecided> {
        match self.searches.next(pod) {
            Next::Search(nodes) => Some(Undecided::Search(self.look_aside(pod.clone(), nodes))),
            Next::TimedOut(node) => Some(Undecided::Failed(timeout_message(&node))),
            Next::Nothing => None,
        }
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
        if !self.claims.is_concerned(&pod.pod) {
            return None;
        }
        let claims = self.claims.claims(&pod.pod).ok().filter(|claims| claims.lacking.iter().any(|claim| has_alternatives(claim)))?;
        Some(Box::new(Scorer { plugin: self, claims }))
    }

    /// Chooses for good. Others see from now on that these devices are taken.
    fn reserve(&self, pod: &PodInfo, node: &Arc<Node>) -> Result<(), Refusal> {
        if !self.claims.is_concerned(&pod.pod) {
            return Ok(());
        }
        let claims = self.claims.claims(&pod.pod).map_err(Refusal::Failed)?;
        let got = self.allocate(&claims, node);
        self.searches.forget(pod.key());
        let Got { results, extended } = got.map_err(|rejection| Refusal::Failed(rejection.reasons.join(", ")))?;
        if !results.is_empty() || extended.is_some() {
            let uids = claims.lacking.iter().map(|claim| claim.metadata.uid.clone().unwrap_or_default());
            self.claims.devices.assumed.assume(pod.key().clone(), Choice { results: uids.zip(results).collect(), extended });
        }
        Ok(())
    }

    fn unreserve(&self, pod: &ObjectKey) {
        self.claims.devices.assumed.forget(pod);
    }

    fn pre_bind(&self, pod: &Arc<Pod>, _node: &Arc<Node>, client: &Client) -> Option<Writing> {
        if !self.claims.is_concerned(pod) {
            return None;
        }
        let choice = self.claims.devices.assumed.choice(&pod_key(pod));
        let (pod, client, devices, patience) = (pod.clone(), client.clone(), self.claims.devices.clone(), self.claims.patience);
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
