//! Critical pods that take the place of less important ones: they start when those have left.

use std::time::{Duration, Instant};

use troupe_cri::names::PodIdentity;

use super::Pods;
use crate::{
    kubelet::{
        admission::fit,
        metrics,
        status::{Evicted, PREEMPTING, PodFailure},
        worker::{plan::spec_grace, shell::FailPod},
    },
    pod_phase::is_finished,
    runtime::host::UnitContext,
};

/// How often it is looked whether the others have left.
const LOOK: Duration = Duration::from_millis(100);
/// They are waited for a while longer than they have to end, as upstream does.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);
const MESSAGE: &str = "Preempted in order to admit critical pod";

/// The pods that have to end for another one.
pub(super) struct Victims {
    pub pods: Vec<PodIdentity>,
    /// The resource that they leave.
    pub resource: String,
}

/// A pod that waits for others to leave.
pub(super) struct MakingRoom {
    pub id: PodIdentity,
    victims: Vec<PodIdentity>,
    /// No longer than until then.
    until: Instant,
}

impl Pods {
    /// Lets a pod in for which others have to end, and has them end.
    pub(super) fn preempt(&mut self, id: PodIdentity, victims: Victims, cx: &mut UnitContext<'_, Self>) {
        if (self.source)(&id).is_some_and(|pod| self.context.lets_in(&pod).is_err()) {
            // Its worker refuses it: nobody has to end for that.
            return self.start(id, cx);
        }
        let Victims { pods: victims, resource } = victims;
        let mut patience = LEAST_PATIENCE;
        for victim in &victims {
            tracing::warn!(pod = %victim.name, namespace = %victim.namespace, critical = %id.name, "pod ends to make room for a critical one");
            metrics::preempted(&resource);
            let pod = (self.source)(victim);
            let grace = pod.and_then(|pod| pod.spec.as_ref().map(spec_grace)).unwrap_or_default();
            patience = patience.max(Duration::from_secs(grace.saturating_add(grace / 2)));
            if !self.workers.contains_key(&victim.uid) {
                // It ran before this process did, and nobody looks after it yet.
                self.start(victim.clone(), cx);
            }
            if let Some((_, worker)) = self.workers.get(&victim.uid) {
                let evicted = Some(Evicted { disruption: true, grace, stays: false });
                let failure = PodFailure { reason: PREEMPTING.to_owned(), message: MESSAGE.to_owned(), rejected: false, evicted };
                cx.reach(worker).wake(FailPod(failure), cx.cause().clone());
            }
        }
        let uid = id.uid.clone();
        let now = cx.system().instant();
        let until = now.checked_add(patience).unwrap_or(now);
        self.making_room.insert(uid.clone(), MakingRoom { id, victims, until });
        self.await_room(uid, cx);
    }

    /// Starts the pod once the others have left.
    fn await_room(&mut self, uid: String, cx: &mut UnitContext<'_, Self>) {
        let Some(waiting) = self.making_room.get(&uid) else { return };
        let is_wanted = (self.source)(&waiting.id).is_some_and(|pod| fit::needs_place(&pod));
        let has_left = |victim: &PodIdentity| !self.workers.contains_key(&victim.uid) || (self.source)(victim).is_none_or(|pod| is_finished(&pod));
        if is_wanted && waiting.until > cx.system().instant() && !waiting.victims.iter().all(has_left) {
            cx.after(LOOK, move |pods, cx| pods.await_room(uid, cx));
            return;
        }
        let id = waiting.id.clone();
        self.making_room.remove(&uid);
        if is_wanted && !self.workers.contains_key(&id.uid) {
            self.start(id, cx);
        } else {
            // Where it went before it began, nobody was told.
            self.wake(&id, false, cx);
        }
    }
}
