//! From a decision to the binding: the pod takes its place at once, plugins keep what it needs there and may make it wait, and it is bound
//! aside. If anything fails it loses its place.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{Either, select};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::sync::oneshot;
use troupe_api::{
    meta::{ObjectKey, time::format_time},
    status::Status,
};

use super::{SchedulerUnit, attempt::Attempted};
use crate::{
    runtime::{controller::ReconcileContext, host::UnitContext},
    scheduler::{
        bind,
        decide::Unschedulable,
        extender,
        framework::{ClusterChange, Nomination, PluginRefusal, Point, Profile, Refusal, Writing},
        metrics::{self, AttemptResult, Operation, Working},
        placed_pod::{PlacedPod, nominated_node, place_of},
        pod_info::PodInfo,
    },
};

/// Who makes room for more important pods.
const PREEMPTION: &str = "DefaultPreemption";

/// A place that a pod has by our word, and the API does not show yet.
pub(super) struct Seat {
    pub uid: Option<String>,
    pub profile: Arc<Profile>,
    /// As long as plugins wait for what has to be ready before the pod is bound: has it lose its place.
    pub stop: Option<oneshot::Sender<()>>,
}

/// A pod with a node.
pub(super) struct Placement {
    pub of: Attempted,
    node: Arc<Node>,
    pub name: Arc<str>,
    /// How long it has been here, and how often it was tried.
    history: Option<(Duration, u32)>,
}

/// Why a pod was not bound.
enum Failed {
    Before(String),
    /// The answer to the binding itself: whether the pod is bound is not known.
    Binding(Status),
}

impl SchedulerUnit {
    /// Gives a pod its node.
    pub(super) fn place(&mut self, of: Attempted, info: &PodInfo, name: Arc<str>, cx: &mut UnitContext<'_, Self>) {
        let Some(node) = self.snapshot.node(&name).map(|known| known.node.clone()) else {
            return self.queue.failed(&of.key, cx.system().instant());
        };
        let (placement, kept) = self.seat(of, info, (name, node), cx);
        match kept {
            Ok(()) => self.permit(placement, info, cx),
            Err(refusal) => self.refused(placement, refusal, cx),
        }
    }

    /// The pod takes its place, and plugins keep what it needs there.
    pub(super) fn seat(
        &mut self,
        of: Attempted,
        info: &PodInfo,
        (name, node): (Arc<str>, Arc<Node>),
        cx: &UnitContext<'_, Self>,
    ) -> (Placement, Result<(), PluginRefusal>) {
        self.snapshot.nominations_mut().remove(&of.key);
        self.snapshot.set_placed(&name, PlacedPod::clone(&info.placed));
        self.assumed.insert(of.key.clone(), Seat { uid: of.pod.metadata.uid.clone(), profile: of.profile.clone(), stop: None });
        if let Some(known) = &self.gangs {
            known.gangs.place(&of.key, true);
        }
        let (profile, begun) = (of.profile.clone(), Instant::now());
        let kept = profile.reserve(info, &node);
        metrics::asked(&profile.name, Point::Reserve, if kept.is_ok() { "Success" } else { "Error" }, begun.elapsed());
        let history = self.queue.history(&of.key, cx.system().instant());
        (Placement { of, node, name, history }, kept)
    }

    /// Binds a pod that has its place, now or when plugins say so.
    pub(super) fn permit(&mut self, mut placement: Placement, info: &PodInfo, cx: &mut UnitContext<'_, Self>) {
        let verdict = placement.of.profile.permit(info, &placement.name);
        match verdict {
            Err(refusal) => self.refused(placement, refusal, cx),
            Ok(waits) if waits.is_empty() => self.bind(placement, cx),
            Ok(waits) => {
                let permitted = self.waiting.wait(placement.of.key.clone(), &waits);
                let (nominated, since) = (self.announce_place(&mut placement), cx.system().instant());
                let working = Working::on(Operation::Binding);
                let verdict = async move {
                    let _working = working;
                    nominated.await;
                    permitted.await
                };
                cx.spawn_then(verdict, move |unit, verdict, cx| unit.permitted(placement, verdict, since, cx));
            }
        }
    }

    /// Says in the pod's status where it is going to be, since it takes a while until it is bound.
    fn announce_place(&self, placement: &mut Placement) -> impl Future<Output = ()> + use<> {
        let (of, node) = (&mut placement.of, placement.name.clone());
        let (client, key, pod) = (self.client.caused_by(of.step.next.clone()), of.key.clone(), of.pod.clone());
        of.pod = bind::with_nomination(&pod, &node);
        async move {
            // It is bound all the same.
            if let Err(error) = bind::nominate(&client, &pod, &node).await {
                tracing::debug!(%error, %key, "the nominated node was not written");
            }
        }
    }

    /// The wait for plugins is over.
    fn permitted(&mut self, placement: Placement, verdict: Result<(), PluginRefusal>, since: Instant, cx: &mut UnitContext<'_, Self>) {
        let result = if verdict.is_ok() { "Success" } else { "Unschedulable" };
        metrics::permitted(result, cx.system().instant().saturating_duration_since(since));
        if !self.is_seated(&placement.of) {
            return;
        }
        match verdict {
            Ok(()) => self.bind(placement, cx),
            Err((_, Refusal::Failed(why))) => {
                self.take_back(&placement.of, cx);
                self.erred(&placement.of, &format!("waiting on permit for pod: {why}"), true, cx);
            }
            Err(refusal) => self.refused(placement, refusal, cx),
        }
        self.pump(cx);
    }

    /// A pod that waits for plugins, or for what has to be ready before it is bound, loses its place to a more important one, and is tried again;
    /// `false` if it waits for neither.
    pub(super) fn stop_binding(&mut self, key: &ObjectKey) -> bool {
        if self.waiting.preempt(key, PREEMPTION) {
            return true;
        }
        let stop = self.assumed.get_mut(key).and_then(|seat| seat.stop.take());
        // Nobody listens any more once all is ready.
        stop.is_some_and(|stop| stop.send(()).is_ok())
    }

    /// Whether the place is still this pod's, and not that of another one of its name.
    fn is_seated(&self, of: &Attempted) -> bool {
        self.assumed.get(&of.key).is_some_and(|seat| seat.uid == of.pod.metadata.uid)
    }

    /// Plugins keep nothing for a pod any more.
    pub(super) fn release(&mut self, key: &ObjectKey) -> bool {
        let Some(seat) = self.assumed.remove(key) else { return false };
        seat.profile.unreserve(key);
        true
    }

    /// The pod loses its place, and others may have it.
    fn take_back(&mut self, of: &Attempted, cx: &UnitContext<'_, Self>) {
        if !self.is_seated(of) {
            return;
        }
        let now = cx.system().instant();
        let Some(gone) = self.unseat(&of.key) else { return };
        if !gone.claims.is_empty() {
            self.cluster_changed(ClusterChange::StorageChanged, now);
        }
        self.cluster_changed(ClusterChange::PodRemoved(gone), now);
    }

    /// The pod is as if it had never had a place. Nobody is told: whoever tells others does that.
    pub(super) fn unseat(&mut self, key: &ObjectKey) -> Option<Arc<PlacedPod>> {
        self.waiting.forget(key);
        self.release(key);
        if let Some(known) = &self.gangs {
            known.gangs.place(key, false);
        }
        self.snapshot.remove_pod(key)
    }

    /// A plugin does not let the pod have its node.
    pub(super) fn refused(&mut self, placement: Placement, (plugin, refusal): PluginRefusal, cx: &mut UnitContext<'_, Self>) {
        let of = placement.of;
        self.take_back(&of, cx);
        match refusal {
            Refusal::Rejected(why) => {
                let message = format!("0/1 nodes are available: 1 {why}.");
                let (rejected_by, nomination) = (vec![plugin], Nomination::Clear);
                self.set_unschedulable(of, Unschedulable { message, rejected_by, nomination, preemption: None, candidates: Vec::new() }, cx);
            }
            Refusal::Failed(why) => self.erred(&of, &format!("running Reserve plugin {plugin:?}: {why}"), true, cx),
        }
    }

    /// Binds in the background.
    fn bind(&mut self, mut placement: Placement, cx: &mut UnitContext<'_, Self>) {
        self.queue.binding(&placement.of.key);
        let client = self.client.caused_by(placement.of.step.next.clone());
        let before = placement.of.profile.pre_bind(&placement.of.pod, &placement.node, &client);
        let nominated = if before.is_empty() { None } else { Some(self.announce_place(&mut placement)) };
        let (stop, stopped) = oneshot::channel();
        if let Some(seat) = self.assumed.get_mut(&placement.of.key).filter(|_| nominated.is_some()) {
            seat.stop = Some(stop);
        }
        let Placement { of, name, history, .. } = placement;
        let bind = of.profile.bind(&of.pod, &name, &client);
        let (binders, pod, target) = (self.extenders.of_binding(&of.pod), of.pod.clone(), name.clone());
        let (profile, working) = (of.profile.clone(), Working::on(Operation::Binding));
        let binding = async move {
            let _working = working;
            if let Some(nominated) = nominated {
                nominated.await;
            }
            unless_stopped(written_before(&profile, before), stopped).await?;
            let asked = Instant::now();
            let by_extender = extender::bind(&binders, &pod, &target).await.map_err(|why| Failed::Binding(Status::internal(why)));
            let bound = match bind {
                _ if !matches!(by_extender, Ok(false)) => by_extender.map(drop),
                Some(bind) => bind.await.map_err(Failed::Binding),
                None => Err(Failed::Before("no plugin binds this pod".into())),
            };
            metrics::asked(&profile.name, Point::Bind, if bound.is_ok() { "Success" } else { "Error" }, asked.elapsed());
            bound
        };
        cx.spawn_then(binding, move |unit, result, cx| match result {
            Ok(()) => unit.is_bound(&of, &name, history),
            Err(Failed::Before(why)) => {
                unit.take_back(&of, cx);
                unit.erred(&of, &why, true, cx);
                unit.pump(cx);
            }
            Err(Failed::Binding(status)) => {
                unit.take_back(&of, cx);
                unit.erred(&of, &status.to_string(), false, cx);
                unit.pump(cx);
            }
        });
    }

    fn is_bound(&mut self, of: &Attempted, node: &str, history: Option<(Duration, u32)>) {
        self.bound += 1;
        metrics::attempted(&of.profile.name, AttemptResult::Scheduled, of.begun.elapsed());
        if let Some((waited, attempts)) = history {
            metrics::scheduled(waited + of.begun.elapsed(), attempts);
        }
        if self.is_seated(of) {
            of.profile.unreserve(&of.key);
        }
        of.profile.post_bind(&of.key);
        let message = format!("Successfully assigned {} to {node}", of.key);
        if let Some(events) = self.events_of(&of.profile) {
            events.trying("Binding").normal(&ReconcileContext::reference(&*of.pod), "Scheduled", message);
        }
    }

    /// An attempt failed for a reason outside the pod: it is tried again after backoff. `told` says that nothing can have bound it, so that
    /// its condition may say so.
    pub(super) fn erred(&mut self, of: &Attempted, why: &str, told: bool, cx: &mut UnitContext<'_, Self>) {
        tracing::debug!(key = %of.key, error = why, "the attempt failed, will retry");
        self.failed += 1;
        metrics::attempted(&of.profile.name, AttemptResult::Error, of.begun.elapsed());
        // Another pod of its name has attempts of its own, and one that has a node after all needs none.
        let still_waits = |pod: &Pod| pod.metadata.uid == of.pod.metadata.uid && place_of(pod).is_none();
        if !self.pods.get(&of.key).is_some_and(|cached| still_waits(&cached.object)) {
            return;
        }
        self.snapshot.nominations_mut().remove(&of.key);
        self.queue.failed(&of.key, cx.system().instant());
        self.arm(cx);
        if let Some(events) = self.events_of(&of.profile) {
            events.trying("Scheduling").warning(&ReconcileContext::reference(&*of.pod), "FailedScheduling", why.to_owned());
        }
        let (client, now) = (self.client.caused_by(of.step.next.clone()), format_time(cx.system().clock().now()));
        let (pod, key, why) = (of.pod.clone(), of.key.clone(), why.to_owned());
        cx.spawn(async move {
            let reason = bind::SCHEDULER_ERROR;
            let written = match told {
                true => bind::mark_unscheduled(&client, &pod, (reason, &why), &Nomination::Clear, &now).await,
                false if nominated_node(&pod).is_some() => bind::clear_nomination(&client, &PlacedPod::of(&pod)).await,
                false => Ok(()),
            };
            if let Err(error) = written {
                tracing::debug!(%error, %key, "the pod's status was not written");
            }
        });
    }
}

/// Waits for what has to be ready, unless the pod is to make room for another one meanwhile.
async fn unless_stopped(ready: impl Future<Output = Result<(), Failed>>, mut stopped: oneshot::Receiver<()>) -> Result<(), Failed> {
    let preempted = || Err(Failed::Before(format!("preempted by {PREEMPTION}")));
    let came = match select(&mut stopped, pin!(ready)).await {
        Either::Left((Ok(()), _)) => return preempted(),
        // Who only forgets the pod stops nothing.
        Either::Left((Err(_), ready)) => ready.await,
        Either::Right((came, _)) => came,
    };
    // Whoever would stop it from now on is told that nobody listens, and removes the pod.
    stopped.close();
    if stopped.try_recv().is_ok() { preempted() } else { came }
}

/// Does what plugins want done before the binding, one after the other.
async fn written_before(profile: &Profile, before: Vec<(&'static str, Writing)>) -> Result<(), Failed> {
    if before.is_empty() {
        return Ok(());
    }
    let asked = Instant::now();
    for (plugin, writing) in before {
        if let Err(status) = writing.await {
            metrics::asked(&profile.name, Point::PreBind, "Error", asked.elapsed());
            return Err(Failed::Before(format!("running PreBind plugin {plugin:?}: {}", status.message)));
        }
    }
    metrics::asked(&profile.name, Point::PreBind, "Success", asked.elapsed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pod_that_was_stopped_is_not_bound_and_who_comes_too_late_is_told() {
        let (stop, stopped) = oneshot::channel();
        let ready = async move {
            stop.send(()).expect("somebody listens");
            Ok(())
        };
        assert!(matches!(unless_stopped(ready, stopped).await, Err(Failed::Before(why)) if why == "preempted by DefaultPreemption"));
        let (late, stopped) = oneshot::channel();
        assert!(unless_stopped(async { Ok(()) }, stopped).await.is_ok() && late.send(()).is_err());
        let (forgotten, stopped) = oneshot::channel();
        drop(forgotten);
        assert!(unless_stopped(async { Ok(()) }, stopped).await.is_ok(), "nobody stops it");
    }
}
