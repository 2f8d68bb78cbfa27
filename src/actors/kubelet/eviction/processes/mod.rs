//! Keeps pods' processes from using the node's memory or process ids up: while too little is available one pod after the other has to go,
//! as upstream ranks them.
//!
//! In: what is available, each second; what pods use, when that is too little. Out: whether the node has memory pressure or PID pressure,
//! and pods to be evicted.

mod memory;
mod rank;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use troupe_cri::names::PodIdentity;

use super::{
    GracePeriods,
    rank::is_critical,
    signals::{Met, Observation, Resource, Signal, Threshold},
    tracker::{Condition, Tracker, Verdict},
};
use crate::{
    files::blocking,
    kubelet::{
        cgroups,
        context::NodeContext,
        events::Note,
        manifests::Manifests,
        node::facts::process_ids_in_use,
        pods::{AllPods, Evict, Pods},
        stats::Sample,
    },
    pod_phase::is_finished,
    runtime::host::{Unit, UnitAddr, UnitContext},
};

/// How often memory and process ids are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the next pod waits for what one leaves (upstream's `podCleanupTimeout`), beside the time that its processes have to end.
const CLEANUP: Duration = Duration::from_secs(30);
/// A shortage that ended so long ago is a new one when it comes back.
const FORGET: Duration = Duration::from_secs(10);

/// What is available by now.
type Available = BTreeMap<Signal, Observation>;

/// When pods have to go.
#[derive(Clone, Debug)]
pub struct ProcessThresholds {
    pub thresholds: Vec<Threshold>,
    /// How long pressure counts after a threshold was met last.
    pub transition: Duration,
    pub grace: GracePeriods,
    /// The bytes of memory that pods may have together.
    pub allocatable: u64,
}

/// The pod that was evicted last.
struct Leaving {
    id: PodIdentity,
    since: Instant,
    /// Seconds that its processes have to end.
    grace: u64,
}

impl Leaving {
    /// Whether what it leaves is still waited for.
    fn is_waited_for(&self) -> bool {
        self.since.elapsed() < CLEANUP + Duration::from_secs(self.grace)
    }
}

/// The unit that evicts for memory and process ids.
pub struct ProcessEviction {
    context: Arc<NodeContext>,
    all: AllPods,
    manifests: Manifests,
    pods: UnitAddr<Pods>,
    tracker: Tracker,
    grace: GracePeriods,
    allocatable: u64,
    /// When each was short last.
    short: BTreeMap<Resource, Instant>,
    last: Option<Leaving>,
    /// It is being found out who goes: until that is known, nobody else does.
    choosing: bool,
    evictions: u64,
}

impl ProcessEviction {
    pub fn new(context: Arc<NodeContext>, all: AllPods, manifests: Manifests, pods: UnitAddr<Pods>, given: &ProcessThresholds) -> Self {
        let own = given.thresholds.iter().filter(|threshold| !threshold.signal.is_of_disks()).copied().collect();
        ProcessEviction {
            context,
            all,
            manifests,
            pods,
            tracker: Tracker::new(own, given.transition),
            grace: given.grace,
            allocatable: given.allocatable,
            short: BTreeMap::new(),
            last: None,
            choosing: false,
            evictions: 0,
        }
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (context, allocatable) = (self.context.clone(), self.allocatable);
        cx.spawn_then(blocking(move || available(&context.cgroup_parent, allocatable)), |unit, available, cx| {
            let verdict = unit.tracker.look(|signal| available.get(&signal).copied(), Instant::now());
            unit.looked(&verdict, cx);
            cx.after(LOOK, Self::look);
        });
    }

    fn looked(&mut self, verdict: &Verdict, cx: &mut UnitContext<'_, Self>) {
        let tell = |holds: &std::sync::atomic::AtomicBool, condition| holds.store(verdict.conditions.contains(&condition), Ordering::Relaxed);
        tell(&self.context.memory_pressure, Condition::Memory);
        tell(&self.context.pid_pressure, Condition::Pids);
        self.tell_short(&verdict.met);
        let Some(met) = verdict.met.first() else { return };
        let leaves = |last: &Leaving| last.is_waited_for() && self.context.paths(&last.id.uid).root().exists();
        if !self.last.as_ref().is_some_and(leaves) {
            self.reclaim(*met, cx);
        } else if met.hard {
            self.hurry(cx);
        }
    }

    /// Whom a soft threshold granted time has none any more.
    fn hurry(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(last) = self.last.as_mut().filter(|last| last.grace > 0) else { return };
        (last.grace, last.since) = (0, Instant::now());
        let id = last.id.clone();
        tracing::warn!(pod = %format_args!("{}/{}", id.namespace, id.name), "an evicted pod has no more time to end");
        // It was told why.
        self.pods.wake(Evict { id, message: String::new(), disruption: true, grace: 0 }, cx.cause().clone());
    }

    fn tell_short(&mut self, met: &[Met]) {
        for met in met {
            let resource = met.signal.resource();
            if self.short.insert(resource, Instant::now()).is_none_or(|before| before.elapsed() > FORGET) {
                tracing::warn!(signal = met.signal.name(), available = met.available, threshold = met.threshold, "this node is short of {resource}");
                let note = Note::warning("EvictionThresholdMet", format!("Attempting to reclaim {resource}"));
                self.context.events.node(&self.context.node_name, note);
            }
        }
    }

    fn reclaim(&mut self, met: Met, cx: &mut UnitContext<'_, Self>) {
        if std::mem::replace(&mut self.choosing, true) {
            return;
        }
        let (context, pods) = (self.context.clone(), self.active());
        if met.signal.resource() == Resource::Pids {
            let count = blocking(move || pods.into_iter().map(|pod| (processes(&context, &pod), pod)).collect::<Vec<_>>());
            cx.spawn_then(count, move |unit, counted, cx| {
                unit.choosing = false;
                let candidates = counted.iter().map(|(processes, pod)| rank::ProcessCandidate { pod, processes: *processes });
                let chosen = rank::first_of_processes(candidates).map(|chosen| (chosen.pod.clone(), rank::process_message(&met)));
                unit.evict(chosen, &met, cx);
            });
            return;
        }
        cx.spawn_then(async move { Sample::take(&*context.runtime).await }, move |unit, sample, cx| {
            unit.choosing = false;
            let used = match sample {
                Ok(sample) => sample.pods,
                Err(error) => return tracing::warn!(%error, "it is not known what pods use of the memory"),
            };
            let candidates = pods.iter().map(|pod| rank::Candidate { pod, used: used.get(&PodIdentity::of(pod)).map_or(&[], Vec::as_slice) });
            let chosen = rank::first(candidates).map(|chosen| (chosen.pod.clone(), rank::message(&chosen, &met)));
            unit.evict(chosen, &met, cx);
        });
    }

    fn evict(&mut self, chosen: Option<(Pod, String)>, met: &Met, cx: &mut UnitContext<'_, Self>) {
        let Some((pod, message)) = chosen else { return };
        let id = PodIdentity::of(&pod);
        tracing::warn!(pod = %format_args!("{}/{}", id.namespace, id.name), message, "evict");
        self.evictions += 1;
        let grace = self.grace.of(&pod, met);
        self.last = Some(Leaving { id: id.clone(), since: Instant::now(), grace });
        self.pods.wake(Evict { id, message, disruption: true, grace }, cx.cause().clone());
    }

    /// Pods that may go.
    fn active(&self) -> Vec<Arc<Pod>> {
        let of_manifests: BTreeSet<PodIdentity> = self.manifests.pods().into_iter().flatten().map(|pod| PodIdentity::of(&pod)).collect();
        let all = (self.all)().unwrap_or_default().into_iter();
        all.filter(|pod| !is_finished(pod) && !is_critical(pod) && !of_manifests.contains(&PodIdentity::of(pod))).collect()
    }
}

fn available(cgroup_parent: &str, allocatable: u64) -> Available {
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory::of_machine(&text));
    let of_pods = memory::of_pods(cgroup_parent, allocatable);
    let (limit, used) = process_ids_in_use();
    let pids = (limit > 0).then(|| Observation { capacity: limit, available: limit.saturating_sub(used) });
    let all = [(Signal::MemoryAvailable, of_machine), (Signal::AllocatableMemoryAvailable, of_pods), (Signal::PidAvailable, pids)];
    all.into_iter().filter_map(|(signal, observed)| Some((signal, observed?))).collect()
}

/// Processes and threads of a pod; `None` where nobody counts them.
fn processes(context: &NodeContext, pod: &Pod) -> Option<u64> {
    cgroups::usage::processes(&context.cgroup_parent, pod.metadata.uid.as_deref()?).ok().flatten()
}

impl Unit for ProcessEviction {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.look(cx);
    }

    fn observe(&self) -> Value {
        let told = |holds: &std::sync::atomic::AtomicBool| holds.load(Ordering::Relaxed);
        json!({"pressure": told(&self.context.memory_pressure), "pidPressure": told(&self.context.pid_pressure), "evictions": self.evictions})
    }
}
