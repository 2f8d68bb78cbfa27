//! An attempt on a pod: its decision, guarded, and what comes of it.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use rand::RngCore;
use troupe_api::meta::{ObjectKey, Uid};

use super::{NAME, SchedulerUnit};
use crate::{
    runtime::{
        chaos::die_if,
        controller::ReconcileContext,
        events,
        host::{Step, UnitContext},
        panics::panic_text,
        work::{self, Attempt, Version},
    },
    scheduler::{
        asked,
        decide::{Decision, SchedulingContext, decide},
        extender::decide::begin,
        framework::{Profile, Undecided},
        metrics::{self, AttemptResult},
        object_lookup::ObjectLookup,
        pod_info::PodInfo,
        quarantine::{PAUSE, QuarantineDecision},
    },
};

/// A decision that takes so long is told: everybody waits for it.
const LONG: Duration = Duration::from_millis(500);

/// An attempt on a pod.
#[derive(Clone)]
pub(super) struct Attempted {
    pub key: ObjectKey,
    pub pod: Arc<Pod>,
    pub version: Version,
    pub profile: Arc<Profile>,
    /// The decision, which is recorded when it is made.
    pub step: Step,
    pub begun: Instant,
}

impl SchedulerUnit {
    /// Tries a pod that was taken out of the queue.
    pub(super) fn attempt(&mut self, key: ObjectKey, cx: &mut UnitContext<'_, Self>) {
        if let Some(of) = self.attempted(key, cx) {
            self.attempt_alone(of, cx);
        }
    }

    /// Begins an attempt. A pod that is gone from the cache is news that comes with the next look.
    pub(super) fn attempted(&mut self, key: ObjectKey, cx: &mut UnitContext<'_, Self>) -> Option<Attempted> {
        self.rejections.remove(&key);
        let (cause, cached) = (self.pending.get(&key).cloned()?, self.pods.get(&key)?);
        let (pod, version) = (cached.object, Version::of(&cached.stored));
        if self.set_aside_if_deadly(&key, version, &pod, cx) {
            return None;
        }
        let profile = self.profiles.of(&pod).cloned()?;
        let asked = asked::comparisons(&pod, &self.snapshot);
        self.queue.rests(&key, asked::rest(asked));
        let of = Attempted { step: cx.begin_step(&cause), begun: Instant::now(), key, pod, version, profile };
        if asked::is_too_much(asked, &self.snapshot) {
            self.asks_too_much(of, cx);
            return None;
        }
        Some(of)
    }

    pub(super) fn attempt_alone(&mut self, of: Attempted, cx: &mut UnitContext<'_, Self>) {
        let extenders = self.extenders.of_nodes(&of.pod);
        if !extenders.is_empty() {
            let Some((info, begun)) = self.guarded(&of, cx, |info, context| begin(info, context, false)) else { return };
            return self.has_begun(of, (&info, begun), extenders, cx);
        }
        let Some((info, (decision, looked_at))) = self.guarded(&of, cx, decide) else { return };
        self.looked_at(looked_at);
        self.settle(of, &info, decision, cx);
    }

    /// The next attempt goes round the nodes from where this one ended.
    pub(super) fn looked_at(&mut self, nodes: usize) {
        self.next_start = (self.next_start + nodes) % self.snapshot.nodes().len().max(1);
    }

    /// Decides something about a pod. That is pure, so a panic leaves nothing half done: only this pod must suffer, and there is no answer.
    pub(super) fn guarded<T>(
        &mut self,
        of: &Attempted,
        cx: &mut UnitContext<'_, Self>,
        decide: impl FnOnce(&PodInfo, &SchedulingContext<'_>) -> T,
    ) -> Option<(PodInfo, T)> {
        let chance = self.rng.as_mut().map_or(0, RngCore::next_u64);
        let poisoned = cx.is_poisoned(&of.key);
        let (begun, ranking) = (Instant::now(), Cell::new(None));
        let guarded = || {
            catch_unwind(AssertUnwindSafe(|| {
                die_if(poisoned);
                let info = of.profile.info(of.pod.clone(), &self.around);
                self.snapshot.prepare(&info);
                let (profile, cluster, budgets) = (&*of.profile, &self.snapshot, &|| self.around.budgets());
                let ranked = &|told| ranking.set(Some(told));
                let decided = decide(&info, &SchedulingContext { profile, cluster, start: self.next_start, chance, budgets, ranked });
                (info, decided)
            }))
        };
        let decided = work::noting(cx.system().work(), &Attempt { unit: NAME, key: &of.key, version: of.version }, guarded);
        let took = begun.elapsed();
        metrics::decided(took);
        if took >= LONG {
            tracing::warn!(key = %of.key, ?took, "a decision took long: no other pod was scheduled meanwhile");
        }
        match decided {
            Ok(decided) => {
                self.quarantine.forget(&of.key);
                if let Some(ranking) = ranking.take() {
                    self.rankings.note(&of.key, Uid(of.pod.metadata.uid.as_deref().unwrap_or_default().into()), ranking);
                }
                if cx.system().work().has_suspects() {
                    cx.system().work().forget(NAME, &of.key);
                }
                Some(decided)
            }
            Err(panic) => {
                metrics::attempted(&of.profile.name, AttemptResult::Error, of.begun.elapsed());
                self.decided(of, false, cx);
                self.panicked(of, panic_text(panic.as_ref()), cx);
                None
            }
        }
    }

    /// Records the decision. One that leads to a write, which is remembered long, is remembered as long, so that no trace is without it.
    pub(super) fn decided(&self, of: &Attempted, changes: bool, cx: &UnitContext<'_, Self>) {
        cx.end_step("Schedule", &of.step, changes);
    }

    /// Does what was decided.
    pub(super) fn settle(&mut self, of: Attempted, info: &PodInfo, decision: Decision, cx: &mut UnitContext<'_, Self>) {
        match decision {
            Decision::Bind { node } => {
                self.decided(&of, true, cx);
                self.place(of, info, node, cx);
            }
            Decision::Failed(why) => {
                of.profile.abandon(&of.key);
                self.decided(&of, true, cx);
                self.erred(&of, &why, true, cx);
            }
            Decision::Unschedulable(unschedulable) => {
                match of.profile.undecided(&of.key) {
                    Some(Undecided::Search(search)) => return self.look_aside(of, search, cx),
                    Some(Undecided::Failed(why)) => {
                        self.decided(&of, true, cx);
                        return self.erred(&of, &why, true, cx);
                    }
                    None => {}
                }
                let extenders = self.extenders.of_preemption(&of.pod);
                if unschedulable.candidates.is_empty() || extenders.is_empty() {
                    self.unschedulable(of, unschedulable, cx);
                } else {
                    self.ask_whom_to_remove(of, unschedulable, extenders, cx);
                }
            }
        }
    }

    /// Sets a pod aside on which decisions panic.
    fn panicked(&mut self, of: &Attempted, why: String, cx: &mut UnitContext<'_, Self>) {
        let (key, pod) = (&of.key, &*of.pod);
        tracing::warn!(%key, panic = why, "deciding panicked");
        self.failed += 1;
        let now = cx.system().instant();
        let message = events::quarantine_message("scheduler", &why);
        let decision = self.quarantine.panicked(key, pod, why);
        match decision {
            QuarantineDecision::Retry => self.queue.failed(key, now),
            QuarantineDecision::Quarantine | QuarantineDecision::StillQuarantined => self.queue.set_aside(key, now + PAUSE),
        }
        if let (QuarantineDecision::Quarantine, Some(events)) = (decision, self.events_of(&of.profile)) {
            events.trying("Scheduling").warning(&ReconcileContext::reference(pod), events::QUARANTINED, message);
        }
        self.arm(cx);
    }
}
