//! Keeps pods from using the node's memory up: while too little is available one pod after the other has to go, as upstream ranks them.
//!
//! In: what of the machine's memory is available, each second; what containers use, when too little is. Out: whether the node has memory
//! pressure, and pods to be evicted.

mod rank;

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use troupe_cri::names::PodIdentity;

use self::rank::{Candidate, first, message};
use super::{
    rank::is_critical,
    signals::{Met, Signal, Threshold, least},
};
use crate::{
    files::blocking,
    kubelet::{
        context::NodeContext,
        events::Note,
        manifests::Manifests,
        pods::{AllPods, Evict, Pods},
        stats::Sample,
    },
    pod_phase::is_finished,
    runtime::host::{Unit, UnitAddr, UnitContext},
};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the next pod waits for the memory that one leaves (upstream's `podCleanupTimeout`).
const CLEANUP: Duration = Duration::from_secs(30);

/// The machine's memory at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub capacity: u64,
    pub available: u64,
}

impl Memory {
    /// From `/proc/meminfo`. As upstream, what is not the working set is available: free memory, and the pages of files that nobody used
    /// lately.
    pub fn of(meminfo: &str) -> Option<Memory> {
        let bytes = |name: &str| -> Option<u64> {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Some(Memory { capacity: bytes("MemTotal")?, available: bytes("MemFree")?.saturating_add(bytes("Inactive(file)")?) })
    }
}

/// The thresholds that are met.
fn met(thresholds: &[Threshold], memory: Memory) -> Option<Met> {
    let of_memory = thresholds.iter().filter(|threshold| threshold.signal == Signal::MemoryAvailable);
    let seen =
        of_memory.map(|threshold| Met { signal: threshold.signal, threshold: least(threshold.least, memory.capacity), available: memory.available });
    seen.filter(|seen| seen.available < seen.threshold).max_by_key(|seen| seen.threshold)
}

/// The unit that evicts for memory.
pub struct MemoryEviction {
    context: Arc<NodeContext>,
    all: AllPods,
    manifests: Manifests,
    pods: UnitAddr<Pods>,
    thresholds: Vec<Threshold>,
    /// How long pressure counts after a threshold was met last.
    transition: Duration,
    met_at: Option<Instant>,
    /// The pod whose memory is waited for.
    last: Option<(PodIdentity, Instant)>,
    evictions: u64,
}

impl MemoryEviction {
    pub fn new(
        context: Arc<NodeContext>,
        all: AllPods,
        manifests: Manifests,
        pods: UnitAddr<Pods>,
        thresholds: Vec<Threshold>,
        transition: Duration,
    ) -> Self {
        MemoryEviction { context, all, manifests, pods, thresholds, transition, met_at: None, last: None, evictions: 0 }
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        cx.spawn_then(blocking(|| fs::read_to_string("/proc/meminfo").ok()), |unit, meminfo, cx| {
            if let Some(memory) = meminfo.as_deref().and_then(Memory::of) {
                unit.looked(memory, cx);
            }
            cx.after(LOOK, Self::look);
        });
    }

    fn looked(&mut self, memory: Memory, cx: &mut UnitContext<'_, Self>) {
        let now = Instant::now();
        let met = met(&self.thresholds, memory);
        let before = self.met_at;
        if met.is_some() {
            self.met_at = Some(now);
        }
        let pressure = self.met_at.is_some_and(|at| now.saturating_duration_since(at) < self.transition);
        self.context.memory_pressure.store(pressure, Ordering::Relaxed);
        let Some(met) = met else { return };
        if before.is_none_or(|before| before.elapsed() > LOOK * 10) {
            tracing::warn!(available = met.available, threshold = met.threshold, "this node is short of memory");
            self.context.events.node(&self.context.node_name, Note::warning("EvictionThresholdMet", "Attempting to reclaim memory"));
        }
        let waits = self.last.as_ref().is_some_and(|(id, since)| since.elapsed() < CLEANUP && self.context.paths(&id.uid).root().exists());
        if !waits {
            self.reclaim(met, cx);
        }
    }

    fn reclaim(&mut self, met: Met, cx: &mut UnitContext<'_, Self>) {
        // Until it is known who goes, nobody else does.
        self.last.get_or_insert_with(|| (PodIdentity::default(), Instant::now()));
        let context = self.context.clone();
        cx.spawn_then(async move { Sample::take(&*context.runtime).await }, move |unit, sample, cx| {
            let used = match sample {
                Ok(sample) => sample.pods,
                Err(error) => return tracing::warn!(%error, "it is not known what pods use of the memory"),
            };
            let pods = unit.active();
            let candidates = pods.iter().map(|pod| Candidate { pod, used: used.get(&PodIdentity::of(pod)).map_or(&[], Vec::as_slice) });
            let Some(chosen) = first(candidates) else { return };
            let (id, text) = (PodIdentity::of(chosen.pod), message(&chosen, &met));
            tracing::warn!(pod = %format_args!("{}/{}", id.namespace, id.name), text, "evict");
            unit.evictions += 1;
            unit.last = Some((id.clone(), Instant::now()));
            unit.pods.wake(Evict { id, message: text, disruption: true }, cx.cause().clone());
        });
    }

    /// Pods that may go.
    fn active(&self) -> Vec<Arc<Pod>> {
        let of_manifests: BTreeSet<PodIdentity> = self.manifests.pods().into_iter().flatten().map(|pod| PodIdentity::of(&pod)).collect();
        let all = (self.all)().unwrap_or_default().into_iter();
        all.filter(|pod| !is_finished(pod) && !is_critical(pod) && !of_manifests.contains(&PodIdentity::of(pod))).collect()
    }
}

impl Unit for MemoryEviction {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.look(cx);
    }

    fn observe(&self) -> Value {
        json!({"pressure": self.context.memory_pressure.load(Ordering::Relaxed), "evictions": self.evictions})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_and_files_that_nobody_used_lately_are_available() {
        let meminfo = "MemTotal:       1000 kB\nMemFree:         100 kB\nInactive:        999 kB\nInactive(file):   50 kB\n";
        let memory = Memory::of(meminfo).expect("is read");
        assert_eq!(memory, Memory { capacity: 1000 << 10, available: 150 << 10 });
        assert_eq!(Memory::of("MemTotal: 1 kB"), None);
        let short = |threshold: &str| met(&[threshold.parse().expect("a threshold")], memory).map(|met| met.threshold >> 10);
        assert_eq!((short("memory.available<150Ki"), short("memory.available<151Ki")), (None, Some(151)));
        assert_eq!((short("memory.available<20%"), short("nodefs.available<99%")), (Some(200), None));
    }
}
