//! DynamicResources: a pod runs where its claims' devices are, or where devices can be allocated to them (KEP-4381).

mod budgets;
mod claims;
mod searches;

use std::{
    cell::Cell,
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
use serde_json::Value;
use troupe_api::meta::ObjectKey;
use troupe_api_client::Client;

use self::{
    budgets::Budgets,
    claims::{ClaimAllocator, Got, Lack, Looks, PodClaims},
    searches::{Found, Next, Searches, Stage, name_of},
};
use crate::{
    devices::{allocation, key_of, names_of_claims},
    files::in_background,
    runtime::{panics::panic_text, turns::Turns},
    scheduler::{
        devices::{Bounds, assumed::Choice, bind, caches::DeviceCaches},
        framework::{
            self, ClusterChange, Event, NodeScorer, Outcome, Plugin, Point, PreFilter, Refusal, Rejection, Undecided, Writing, filter_error,
            normalize_to_largest,
        },
        metrics::{Operation, Working},
        node_info::NodeInfo,
        placed_pod::place_of,
        pod_info::PodInfo,
        snapshot::Snapshot,
        volumes::pod_key,
    },
};

/// How many alternatives a request may have (`FirstAvailableDeviceRequestMaxSize`).
const MOST_ALTERNATIVES: usize = 8;
const NAME: &str = "DynamicResources";
/// Steps of a search on one node, and of all searches of an attempt, that a decision has time for, and how long they may take by the clock.
/// Whatever takes longer goes on aside.
const MOST_STEPS: usize = 20_000;
const MOST_STEPS_OF_ALL: usize = 100_000;
const LONGEST: Duration = Duration::from_millis(10);
/// What a step takes at least, however fast the clock says it was.
const STEP: Duration = Duration::from_nanos(100);
/// For how many pods devices are searched aside at once.
const AT_ONCE: usize = 2;
/// How many pods of a namespace wait for that, each with the nodes that are to be searched. Others are unschedulable until something changes.
const MOST_WAITING: usize = 256;

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
    turns: Arc<Turns>,
    budgets: Budgets,
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
            turns: Turns::new(AT_ONCE),
            budgets: Budgets::default(),
        }
    }

    /// What a pod gets on a node. A search that takes too long here is put off, and the node will not do for now.
    fn allocate(&self, claims: &PodClaims, node: &Arc<Node>) -> Result<Got, Rejection> {
        let (pod, clock) = (pod_key(&claims.pod), &self.claims.devices.clock);
        let begun = clock.instant();
        match self.searches.failed(&pod, &claims.basis, node, begun) {
            Some(Found::Rejected(rejection)) => return Err(rejection),
            Some(_) => return Err(Rejection::unresolvable(TIMED_OUT)),
            None => {}
        }
        let among = match self.searches.found(&pod, node) {
            Some(Found::Rejected(rejection)) => return Err(rejection),
            Some(Found::TimedOut | Found::Skipped) => return Err(timed_out(name_of(node))),
            Some(Found::Devices(devices)) => Some(devices),
            None => None,
        };
        if among.is_none() && claims.lacks_devices() && (claims.goes_aside.get() || claims.took.get() >= LONGEST) {
            self.searches.put_off(&pod, node);
            return Err(Rejection::unresolvable(TIMED_OUT));
        }
        let (steps_before, looks, here) = (claims.steps.get(), Looks::default(), Cell::new(0));
        let is_over = |steps: usize| {
            here.set(steps);
            let is_late = || claims.took.get() + clock.instant().saturating_duration_since(begun) >= LONGEST;
            steps > MOST_STEPS || steps_before + steps > MOST_STEPS_OF_ALL || looks.is_due(steps) && is_late()
        };
        let got = self.claims.allocate(claims, node, &Bounds { is_over: &is_over, most_cost: MOST_STEPS as u64, among: among.as_deref() });
        claims.steps.set(steps_before + here.get());
        let now = clock.instant();
        let took = now.saturating_duration_since(begun).max(STEP.saturating_mul(u32::try_from(here.get()).unwrap_or(u32::MAX)));
        claims.took.set(claims.took.get() + took);
        self.budgets.take(&pod.namespace, took, now);
        match got {
            Ok(got) => Ok(got),
            Err(Lack::Rejected(rejection)) if among.is_none() || rejection.is_error => Err(rejection),
            // It takes longer, or what was found is not free any more.
            Err(_) => {
                if among.is_none() {
                    claims.goes_aside.set(true);
                    self.searches.set_slow(&pod);
                }
                self.searches.put_off(&pod, node);
                self.searches.note_costliest(&pod, claims.costliest());
                Err(Rejection::unresolvable(TIMED_OUT))
            }
        }
    }

    /// Searches on these nodes on a thread where nobody waits, until it is dropped; what comes of it is kept. Namespaces have their turns.
    fn look_aside(&self, pod: ObjectKey, nodes: Vec<Arc<Node>>) -> BoxFuture<'static, ()> {
        let (claims, searches, timeout, turns) = (self.claims.clone(), self.searches.clone(), self.filter_timeout, self.turns.clone());
        searches.set_stage(&pod, Stage::Waiting);
        Box::pin(async move {
            let _working = Working::on(Operation::SearchingDevices);
            let turn = turns.turn(&pod.namespace).await;
            searches.set_stage(&pod, Stage::Searching);
            let Some(object) = claims.devices.pods.get(&pod).map(|cached| cached.object) else { return };
            let stop = StopOnDrop::default();
            let stopped = stop.0.clone();
            let clock = claims.devices.clock.clone();
            let search = move || {
                // Nobody else has the turn before the thread is at its end, though nobody waits for that any more.
                let _turn = turn;
                catch_unwind(AssertUnwindSafe(|| claims.search(&object, nodes, timeout, &stopped)))
            };
            match in_background("device-search", search).await {
                Ok(round) => searches.tell(&pod, round, clock.instant()),
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

/// That a search took too long, of many nodes at once.
const TIMED_OUT: &str = "timed out trying to allocate devices";

fn timed_out(node: &str) -> Rejection {
    Rejection::unresolvable(timeout_message(node))
}

fn timeout_message(node: &str) -> String {
    format!("node {node}: {TIMED_OUT}")
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> &'static [Point] {
        Self::POINTS
    }

    /// A pod is not looked at before its claims are there. One whose claims are not to be looked at is told so by its attempt.
    fn pre_enqueue(&self, pod: &Pod) -> Result<(), String> {
        if self.claims.are_too_large(pod) {
            return Ok(());
        }
        self.claims.devices.claims_of(pod).map(drop)
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        if !self.claims.is_concerned(&pod.pod) {
            return PreFilter::Skip;
        }
        self.searches.begin(pod.key());
        match self.claims.claims(&pod.pod) {
            Ok(claims) => {
                let now = self.claims.devices.clock.instant();
                claims.goes_aside.set(self.searches.is_slow(pod.key()) || self.budgets.is_spent(&pod.key().namespace, now));
                PreFilter::by_node_alone(move |node| self.allocate(&claims, &node.node).map(drop))
            }
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
        // Upstream knows of no claims as long as one of them cannot be allocated anywhere.
        if !self.claims.is_concerned(&failure.pod.pod) || failure.diagnosis.was_rejected_by(NAME) {
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

    /// The pods whose devices are searched for aside, or took too long.
    fn observe(&self) -> Value {
        let devices = &self.claims.devices;
        let waits = |pod: &ObjectKey, uid: Option<&str>| {
            let object = devices.pods.get(pod).map(|cached| cached.object);
            object.is_some_and(|object| place_of(&object).is_none() && (uid.is_none() || object.metadata.uid.as_deref() == uid))
        };
        self.searches.list(devices.clock.instant(), waits).into()
    }

    fn undecided(&self, pod: &ObjectKey) -> Option<Undecided> {
        if self.searches.is_put_off(pod) && self.turns.waiting_of(&pod.namespace) >= MOST_WAITING {
            self.searches.give_up(pod);
            return None;
        }
        match self.searches.next(pod) {
            Next::Search(nodes) => Some(Undecided::Search(self.look_aside(pod.clone(), nodes))),
            Next::TimedOut(node) => Some(Undecided::Failed(filter_error(NAME, &timeout_message(&node)))),
            Next::Nothing => None,
        }
    }

    fn abandon(&self, pod: &ObjectKey) {
        self.searches.give_up(pod);
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
        let devices = &self.claims.devices;
        let is_bound = || devices.pods.get(pod).is_some_and(|cached| place_of(&cached.object).is_some());
        if devices.assumed.choice(pod).is_some() && !is_bound() {
            devices.note_change();
        }
        devices.assumed.forget(pod);
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
        &[Event::NodeAdded, Event::NodeUpdated, Event::ClaimChanged, Event::DevicesChanged, Event::ClassChanged, Event::WaitingPodUpdated]
    }

    fn helps_every_pod(&self, change: &ClusterChange) -> bool {
        matches!(change, ClusterChange::ClaimChanged { old: Some(old), new } if allocation(old).is_some() && allocation(new).is_none())
    }

    /// A claim helps whose it is, unless nothing but its metadata changed, a node by its labels and what it offers, and a pod once it is
    /// said which claims were made for it.
    fn may_help(&self, pod: &PodInfo, change: &ClusterChange) -> bool {
        if let ClusterChange::WaitingPodUpdated { old, new } = change {
            let status = |pod: &Pod| pod.status.clone().unwrap_or_default();
            let told = |pod: &Pod| (status(pod).resource_claim_statuses, status(pod).extended_resource_claim_status);
            return told(old) != told(new) && self.claims.devices.claims_of(&pod.pod).is_ok();
        }
        let ClusterChange::ClaimChanged { old, new } = change else { return !change.leaves_labels() || !change.leaves_allocatable() };
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
