//! Taking changes in: what they mean to the queue and the snapshot.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use troupe_api::meta::ObjectKey;

use super::{NAME, SchedulerUnit};
use crate::{
    runtime::{host::UnitContext, panics::panic_text, system::System, turn::Turn},
    scheduler::{
        framework::ClusterChange,
        intake::{News, place_of},
    },
};

impl SchedulerUnit {
    /// Takes changes in until the turn is over; `true` when none is left.
    pub(super) fn take_in(&mut self, cx: &UnitContext<'_, Self>) -> bool {
        let now = cx.system().instant();
        self.unread.extend(self.intake.take());
        let mut turn = Turn::default();
        while let Some(news) = self.unread.pop_front() {
            let subject = news.subject();
            // What one object is counted for may then be wrong; the others must be scheduled all the same.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take(news, now, cx.system()))) {
                tracing::error!(subject, panic = panic_text(panic.as_ref()), "taking a change in panicked");
            }
            if turn.count() {
                break;
            }
        }
        self.unread.is_empty()
    }

    fn take(&mut self, news: News, now: Instant, system: &System) {
        match news {
            // Such as the condition that this very unit wrote: it makes no other decision.
            News::Pending { key, only_status: true, .. } if self.pending.contains_key(&key) => {}
            News::Pending { key, priority, cause, .. } => {
                // The watch may still show a pod without the node that it was just given.
                if !self.assumed.contains_key(&key) {
                    let released = self.is_released(&key);
                    self.pending.insert(key.clone(), cause);
                    self.queue.upsert(key.clone(), priority, now);
                    if released {
                        self.queue.release(&key);
                        system.work().forget(NAME, &key);
                    }
                }
            }
            News::Assigned { key } => {
                self.forget(&key);
                // One that is gone or finished by now is news that comes.
                if let Some(pod) = self.pods.get(&key).map(|cached| cached.object)
                    && let Some(node) = place_of(&pod)
                {
                    self.snapshot.set_pod(node, &pod);
                }
            }
            News::Gone { key, freed } => {
                self.forget(&key);
                self.snapshot.remove_pod(&key);
                if freed {
                    self.queue.cluster_changed(ClusterChange::PodRemoved, &self.plugins, now);
                }
            }
            News::Node { node, change } => {
                self.snapshot.set_node(node);
                if let Some(change) = change {
                    self.queue.cluster_changed(change, &self.plugins, now);
                }
            }
            News::NodeGone { name } => self.snapshot.remove_node(&name),
        }
    }

    /// Whether a pod that was set aside has changed since.
    fn is_released(&mut self, key: &ObjectKey) -> bool {
        self.quarantine.holds(key) && self.pods.get(key).is_some_and(|cached| self.quarantine.is_released_by(key, &cached.object))
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.pending.remove(key);
        self.assumed.remove(key);
        self.queue.remove(key);
        self.quarantine.forget(key);
    }
}
