//! What the scheduler says about a pod that has no node, for people who ask.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;

use super::SchedulerUnit;
use crate::scheduler::{asked, explain::explain_in, object_lookup::ObjectLookup};

impl SchedulerUnit {
    /// What the plugins of its profile have against each node now, and what preemption would need; `None` for a pod that is not ours, or whose
    /// claims, gates or comparisons keep the plugins from being asked. The plugins are others than those that decide, so nothing that these keep
    /// between attempts is touched.
    pub(super) fn explained(&mut self, key: &ObjectKey) -> Option<Value> {
        if !self.synced || !self.pending.contains_key(key) {
            return None;
        }
        let pod = self.pods.get(key)?.object;
        let profile = self.explaining.of(&pod)?.clone();
        let is_let_in = profile.pre_enqueue(&pod).is_ok() && !asked::is_too_much(asked::comparisons(&pod, &self.snapshot), &self.snapshot);
        if !is_let_in {
            return None;
        }
        // A panic that comes of the pod is told by its attempts.
        let explanation = catch_unwind(AssertUnwindSafe(|| {
            let info = profile.info(pod, &self.around);
            self.snapshot.prepare(&info);
            explain_in(&profile, &info, &self.snapshot, &self.around.budgets())
        }));
        profile.abandon(key);
        explanation.ok().map(|explanation| json!(explanation))
    }
}

impl SchedulerUnit {
    /// How the node of a pod that has one compared with the others that would have done; `None` where that is forgotten, or another process chose.
    pub(super) fn ranking_of(&self, key: &ObjectKey) -> Option<Value> {
        let pod = self.pods.stored(key)?;
        self.rankings.of(key, &pod.meta().uid).map(|ranking| json!({"ranking": ranking}))
    }
}

/// The key that somebody asks about: `namespace/name`.
pub(super) fn key_of(about: &str) -> Option<ObjectKey> {
    about.split_once('/').map(|(namespace, name)| ObjectKey::new(namespace, name))
}
