//! Deciding who gets the size that it asks for: pods are looked at one after the other, so that nothing is promised twice.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use troupe_cri::{
    names::PodIdentity,
    resources::{cpu_shares, qos_class},
};

use super::Pods;
use crate::{
    files::blocking,
    kubelet::{
        admission::fit,
        cgroups::limit::{Limits, class_cgroup, weigh_class},
        context::NodeContext,
        events::Note,
        metrics,
        resize::{
            Allocated, PodAllocation,
            allocation::{DEFERRED, INFEASIBLE, Pending, generation},
            message,
            pending::{self, Candidate, PENDING},
        },
        worker::shell::Wake,
    },
    pod_phase::is_finished,
    runtime::host::UnitContext,
    scheduler::resources::pod_requests,
};

/// How long news of other pods may pile up before pods that wait are looked at again.
const SOON: Duration = Duration::from_millis(100);
/// The same for the weight of a class of pods.
const WEIGH: Duration = Duration::from_secs(1);

impl Pods {
    /// Gives a pod that is let in what it asks for, unless an earlier process promised something else.
    pub(super) fn promise(&mut self, id: &PodIdentity) {
        let Some(pod) = (self.source)(id) else { return };
        match self.context.allocations.get(&id.uid) {
            None => self.context.allocations.set(&id.uid, PodAllocation::admitted(&pod)),
            Some(known) if !covers(&known, &pod) => drop(self.resizing.insert(id.uid.clone())),
            Some(_) => {}
        }
    }

    /// A pod changed: it may ask for another size, or leave room for others.
    pub(super) fn consider(&mut self, id: &PodIdentity, cx: &mut UnitContext<'_, Self>) {
        if let Some((pod, known)) = (self.source)(id).zip(self.context.allocations.get(&id.uid)) {
            if covers(&known, &pod) {
                self.resizing.remove(&id.uid);
                if known.pending.is_some() {
                    // It asks for what it has again.
                    let judged = generation(&pod);
                    self.context.allocations.set(&id.uid, PodAllocation { pending: None, judged, ..PodAllocation::clone(&known) });
                }
            } else if known.judged < generation(&pod) {
                self.resizing.insert(id.uid.clone());
                return self.allocate(cx);
            }
        }
        self.allocate_soon(cx);
    }

    /// Looks again at pods that wait, after some time in which more may change.
    pub(super) fn allocate_soon(&mut self, cx: &mut UnitContext<'_, Self>) {
        if !self.resizing.is_empty() && !std::mem::replace(&mut self.allocating, true) {
            cx.after(SOON, |pods, cx| {
                pods.allocating = false;
                pods.allocate(cx);
            });
        }
    }

    /// Looks at all pods that ask for another size, in their order.
    pub(super) fn allocate(&mut self, cx: &mut UnitContext<'_, Self>) {
        let mut candidates = Vec::new();
        for uid in std::mem::take(&mut self.resizing) {
            let pod = self.workers.get(&uid).and_then(|(id, _)| (self.source)(id));
            let Some((pod, allocation)) = pod.zip(self.context.allocations.get(&uid)) else { continue };
            let goes = is_finished(&pod) || pod.metadata.deletion_timestamp.is_some();
            if !goes && !covers(&allocation, &pod) {
                candidates.push(Candidate { pod, allocation });
            } else if allocation.judged < generation(&pod) {
                self.judged_as(&uid, PodAllocation { judged: generation(&pod), pending: None, ..PodAllocation::clone(&allocation) }, cx);
            }
        }
        pending::sort(&mut candidates);
        for candidate in candidates {
            self.allocate_to(&candidate, cx);
        }
        metrics::resizes_deferred(self.resizing.len());
    }

    fn allocate_to(&mut self, candidate: &Candidate, cx: &mut UnitContext<'_, Self>) {
        let pod = &candidate.pod;
        let (uid, generation) = (pod.metadata.uid.clone().unwrap_or_default(), generation(pod));
        if let Some(manager) = self.fixed_by(candidate) {
            let message = format!("Resize is infeasible for Guaranteed Pods alongside {manager}");
            return self.wait_with(candidate, Pending { reason: INFEASIBLE, message, generation }, cx);
        }
        let place = self.room.place(self.room.node.get(), Vec::new());
        let Err(rejection) = fit::takes(&super::guest(pod), &self.others(pod), &place) else {
            let allocated = pod.spec.as_ref().map(Allocated::of).unwrap_or_default();
            let note = Note::normal("ResizeStarted", message::started(pod, generation));
            self.context.events.pod(pod, note);
            self.weigh_soon(cx);
            return self.judged_as(&uid, PodAllocation { allocated, generation, judged: generation, pending: None }, cx);
        };
        self.resizing.insert(uid);
        self.wait_with(candidate, Pending { reason: DEFERRED, message: rejection.message, generation }, cx);
    }

    /// What keeps the pod from other CPUs or memory: containers have theirs until their pod is gone.
    fn fixed_by(&self, Candidate { pod, allocation }: &Candidate) -> Option<&'static str> {
        let (spec, manager) = (pod.spec.as_ref()?, &self.context.container_manager);
        if qos_class(pod) != "Guaranteed" {
            None
        } else if manager.cpus().is_some() && !allocation.allocated.covers_cpus(spec) {
            Some("CPU Manager policy \"static\"")
        } else if manager.has_static_memory() && !allocation.allocated.covers_memory(spec) {
            Some("Memory Manager policy \"Static\"")
        } else {
            None
        }
    }

    /// The pod keeps what it has, and tells why.
    fn wait_with(&self, candidate: &Candidate, news: Pending, cx: &mut UnitContext<'_, Self>) {
        let Candidate { pod, allocation } = candidate;
        let (uid, generation) = (pod.metadata.uid.clone().unwrap_or_default(), news.generation);
        if !was_told(candidate, &news) {
            let text = message::pending(pod, generation, news.reason, &news.message);
            self.context.events.pod(pod, Note::warning(&format!("Resize{}", news.reason), text));
        }
        if allocation.pending.as_ref() != Some(&news) || allocation.judged != generation {
            self.judged_as(&uid, PodAllocation { pending: Some(news), judged: generation, ..PodAllocation::clone(allocation) }, cx);
        }
    }

    fn judged_as(&self, uid: &str, allocation: PodAllocation, cx: &mut UnitContext<'_, Self>) {
        self.context.allocations.set(uid, allocation);
        if let Some((_, worker)) = self.workers.get(uid) {
            cx.reach(worker).wake(Wake::default(), cx.cause().clone());
        }
    }

    /// Weighs the class of burstable pods by what they ask for, some time after it changed.
    pub(super) fn weigh_soon(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.context.cgroups_per_qos && !std::mem::replace(&mut self.weighing, true) {
            cx.after(WEIGH, |pods, cx| {
                pods.weighing = false;
                pods.weigh(cx);
            });
        }
    }

    fn weigh(&mut self, cx: &mut UnitContext<'_, Self>) {
        let known = self.workers.values().filter_map(|(id, _)| (self.source)(id));
        let burstable = known.filter(|pod| !is_finished(pod) && qos_class(pod) == "Burstable");
        let milli = burstable.map(|pod| pod_requests(&self.context.allocations.applied_to(&pod)).cpu).fold(0, i64::saturating_add);
        let shares = cpu_shares(milli);
        if std::mem::replace(&mut self.weight, shares) == shares {
            return;
        }
        cx.spawn_then(weigh_classes(self.context.clone(), shares), |pods, written, _| {
            if let Err(error) = written {
                tracing::warn!(%error, "the weight of burstable pods is not set");
                pods.weight = 0;
            }
        });
    }
}

/// Gives burstable pods so much weight together, and those without requests the least.
async fn weigh_classes(context: Arc<NodeContext>, burstable: i64) -> Result<(), String> {
    for (class, shares) in [("Burstable", burstable), ("BestEffort", cpu_shares(0))] {
        let parent = context.cgroup_parent.clone();
        let told = context.slices.set(&class_cgroup(&parent, class), &Limits::of_class(shares)).await;
        told.map_err(|error| error.to_string())?;
        blocking(move || weigh_class(&parent, class, shares)).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn covers(known: &PodAllocation, pod: &Arc<Pod>) -> bool {
    pod.spec.as_ref().is_none_or(|spec| known.allocated.covers(spec))
}

/// Whether an event said so before, by this process or one before it.
fn was_told(candidate: &Candidate, news: &Pending) -> bool {
    let same = |reason: Option<&str>, generation: Option<i64>| reason == Some(news.reason) && generation == Some(news.generation);
    match &candidate.allocation.pending {
        Some(before) => same(Some(before.reason), Some(before.generation)),
        None => {
            let conditions = candidate.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            let told = conditions.into_iter().flatten().find(|condition| condition.type_ == PENDING);
            told.is_some_and(|told| same(told.reason.as_deref(), told.observed_generation))
        }
    }
}
