//! What is done about a pod that fits nowhere: it is told, and others are removed for it where that helps.

use std::{collections::HashSet, sync::Arc, time::Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use troupe_api::meta::{ObjectKey, time::format_time};

use super::{
    SchedulerUnit,
    attempt::Attempted,
    taking::{is_large, pod_info},
};
use crate::{
    runtime::{controller::ReconcileContext, host::UnitContext},
    scheduler::{
        asked::TOO_MUCH,
        bind,
        decide::Unschedulable,
        framework::{Nomination, Preemption, Victim},
        metrics::{self, AttemptResult},
        placed_pod::PlacedPod,
        preemption::apply,
        quarantine::PAUSE,
        queue::HintContext,
    },
};

/// Pods that are being removed for another one.
pub(super) struct Removal {
    number: u64,
    /// Those that are still there.
    left: HashSet<ObjectKey>,
}

impl SchedulerUnit {
    /// The attempt on a pod found no node.
    pub(super) fn unschedulable(&mut self, of: Attempted, unschedulable: Unschedulable, cx: &mut UnitContext<'_, Self>) {
        let tells = !bind::is_told(&of.pod, bind::UNSCHEDULABLE, &unschedulable.message);
        self.decided(&of, tells || unschedulable.nomination != Nomination::Keep || unschedulable.preemption.is_some(), cx);
        self.set_unschedulable(of, unschedulable, cx);
    }

    /// Nobody looks for a node for a pod that asks too much: it is told, and looked at again when there may be less to compare.
    pub(super) fn asks_too_much(&mut self, of: Attempted, cx: &mut UnitContext<'_, Self>) {
        self.queue.set_aside(&of.key, cx.system().instant() + PAUSE);
        self.arm(cx);
        let (message, nomination) = (TOO_MUCH.to_owned(), Nomination::Clear);
        self.unschedulable(of, Unschedulable { message, rejected_by: Vec::new(), nomination, preemption: None, candidates: Vec::new() }, cx);
    }

    /// The pod waits for a change that may help.
    pub(super) fn set_unschedulable(&mut self, of: Attempted, unschedulable: Unschedulable, cx: &mut UnitContext<'_, Self>) {
        self.failed += 1;
        metrics::attempted(&of.profile.name, AttemptResult::Unschedulable, of.begun.elapsed());
        let Unschedulable { message, rejected_by, nomination, preemption, .. } = unschedulable;
        self.rejections.set(of.key.clone(), of.profile.name.clone(), rejected_by.clone());
        let (pods, around, profiles) = (&self.pods, &self.around, &self.profiles);
        let whole = |key: &ObjectKey| pod_info(pods, around, profiles, key);
        let current = |key: &ObjectKey| if is_large(pods, key) { None } else { whole(key) };
        let with = HintContext { profiles, pod: &current, whole: &whole };
        self.queue.unschedulable(&of.key, rejected_by, preemption.is_some(), &with, cx.system().instant());
        metrics::preempted(preemption.as_ref().map(|preemption| preemption.victims.len()));
        match &nomination {
            Nomination::Keep => {}
            Nomination::Clear => self.snapshot.nominations_mut().remove(&of.key),
            Nomination::Set(node) => self.snapshot.nominations_mut().set(Arc::new(PlacedPod::of(&of.pod)), node),
        }
        if let Some(events) = self.events_of(&of.profile) {
            events.trying("Scheduling").warning(&ReconcileContext::reference(&*of.pod), "FailedScheduling", message.clone());
        }
        if let Some(preemption) = preemption {
            self.preempt(&of, preemption, cx);
        }
        let Attempted { key, pod, step, profile, .. } = of;
        let (client, now) = (self.client.caused_by(step.next), format_time(cx.system().clock().now()));
        let writings = profile.after_failure(&key, &client);
        cx.spawn(async move {
            for (plugin, writing) in writings {
                if let Err(error) = writing.await {
                    tracing::debug!(%error, %key, plugin, "what might help the pod was not written");
                }
            }
            if let Err(error) = bind::mark_unscheduled(&client, &pod, (bind::UNSCHEDULABLE, &message), &nomination, &now).await {
                tracing::debug!(%error, %key, "the pod's condition was not written");
            }
        });
    }

    /// Removes pods for another one, which is not tried again meanwhile. Those that only wait to be bound lose their places, and look elsewhere.
    fn preempt(&mut self, of: &Attempted, preemption: Preemption, cx: &mut UnitContext<'_, Self>) {
        let Preemption { node, victims } = preemption;
        let (client, now) = (self.client.caused_by(of.step.next.clone()), format_time(cx.system().clock().now()));
        let uid = of.pod.metadata.uid.clone().unwrap_or_default();
        // Those whose victims go already wait as well as this one does.
        let takes_more = victims.iter().any(|victim| !victim.is_terminating);
        let nominated = if takes_more { self.lower_priority_nominated(&of.key, &node) } else { Vec::new() };
        let (stopped, victims): (Vec<Victim>, Vec<Victim>) = victims.into_iter().partition(|victim| self.stop_binding(&victim.key));
        let message = format!("Preempted by pod {uid} on node {node}");
        if let Some(events) = self.events_of(&of.profile) {
            let of_stopped = format!("{message} (in kube-scheduler memory).");
            stopped.iter().for_each(|victim| events.trying("Preempting").normal(&reference(victim), "Preempted", of_stopped.clone()));
        }
        let (key, profile, scheduler) = (of.key.clone(), of.profile.clone(), of.profile.name.clone());
        let left = victims.iter().filter(|victim| !victim.is_terminating).map(|victim| victim.key.clone()).collect();
        let number = self.preempting.get(&key).map_or(0, |before| before.number + 1);
        self.preempting.insert(key.clone(), Removal { number, left });
        let work = async move {
            // They may not fit any more: let them look elsewhere, sooner than after the removal.
            for other in nominated {
                if let Err(error) = bind::clear_nomination(&client, &other).await {
                    tracing::debug!(%error, pod = %other.key(), "the nomination was not taken back");
                }
            }
            apply::remove(&client, &victims, &scheduler, &now).await
        };
        cx.spawn_then(work, move |unit, (removed, outcome), cx| {
            if let Some(events) = unit.events_of(&profile) {
                removed.iter().for_each(|victim| events.trying("Preempting").normal(&reference(victim), "Preempted", message.clone()));
            }
            if let Err(error) = &outcome {
                tracing::warn!(%error, %key, "not all pods were removed for a more important one");
            }
            // It may have been let go when all were gone, and others are being removed for it by now.
            if unit.preempting.get(&key).is_some_and(|removal| removal.number == number) {
                unit.preempting.remove(&key);
                unit.queue.unhold(&key, outcome.is_err(), cx.system().instant());
            }
            unit.pump(cx);
        });
    }

    /// A pod is gone. Whoever had it removed as the last one is tried at once, though the API has not answered yet: others may want its place.
    pub(super) fn victim_is_gone(&mut self, key: &ObjectKey, now: Instant) {
        let mut done = Vec::new();
        for (preemptor, removal) in &mut self.preempting {
            if removal.left.remove(key) && removal.left.is_empty() {
                done.push(preemptor.clone());
            }
        }
        for preemptor in done {
            self.queue.unhold(&preemptor, false, now);
        }
    }

    /// The less important pods that waited for a node which another one gets: they wait for it no more.
    fn lower_priority_nominated(&mut self, key: &ObjectKey, node: &str) -> Vec<Arc<PlacedPod>> {
        let nominations = self.snapshot.nominations_mut();
        let priority = nominations.pod(key).map_or(i32::MAX, |pod| pod.priority);
        let nominated: Vec<Arc<PlacedPod>> = nominations.on(node).filter(|other| other.priority < priority).cloned().collect();
        nominated.iter().for_each(|other| nominations.remove(other.key()));
        nominated
    }
}

fn reference(victim: &Victim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(victim.key.namespace.to_string()),
        name: Some(victim.key.name.to_string()),
        uid: Some(victim.uid.to_string()),
        ..ObjectReference::default()
    }
}
