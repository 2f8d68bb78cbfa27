//! Between a decision and its binding: what plugins say then, and pods that wait for what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::{Either, select};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use troupe_api::meta::ObjectKey;

/// Why a pod does not get the node that was chosen for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The plugin wants it elsewhere or later: it waits for a change that may help.
    Rejected(String),
    /// Something went wrong: it is tried again soon.
    Failed(String),
}

/// A plugin's name with why it refused a pod.
pub type PluginRefusal = (&'static str, Refusal);

/// What a plugin says at Permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    Allow,
    Reject(String),
    /// The pod keeps its place until the plugin allows or rejects it ([`WaitingPods`]), at most for so long.
    Wait(Duration),
}

/// Longest wait (upstream's `maxTimeout`).
const LONGEST: Duration = Duration::from_secs(15 * 60);

type Verdict = Result<(), PluginRefusal>;

struct Waiting {
    /// The plugins that have not allowed it yet.
    pending: BTreeSet<&'static str>,
    told: oneshot::Sender<Verdict>,
}

/// Pods that have a place and are not bound yet because plugins make them wait. The plugins of a scheduler and its unit share it.
#[derive(Default)]
pub struct WaitingPods {
    pods: Mutex<BTreeMap<ObjectKey, Waiting>>,
}

impl WaitingPods {
    /// Begins to wait; resolves when every plugin has allowed the pod, or the first rejects it or has let its time pass.
    pub fn wait(&self, key: ObjectKey, plugins: &[(&'static str, Duration)]) -> impl Future<Output = Verdict> + use<> {
        let (told, verdict) = oneshot::channel();
        let pending = plugins.iter().map(|(plugin, _)| *plugin).collect();
        self.pods.lock().insert(key, Waiting { pending, told });
        let first = plugins.iter().map(|(plugin, time)| (*plugin, (*time).min(LONGEST))).min_by_key(|(_, time)| *time);
        async move {
            let (plugin, time) = first.unwrap_or(("", LONGEST));
            match select(verdict, Box::pin(tokio::time::sleep(time))).await {
                Either::Left((Ok(verdict), _)) => verdict,
                // Another pod of this name took its place.
                Either::Left((Err(_), _)) => Err((plugin, Refusal::Failed("the pod is another one".into()))),
                Either::Right(_) => {
                    let why = format!("rejected due to timeout after waiting {}s at plugin {plugin}", time.as_secs_f64());
                    Err((plugin, Refusal::Rejected(why)))
                }
            }
        }
    }

    /// A plugin lets a pod go on.
    pub fn allow(&self, key: &ObjectKey, plugin: &str) {
        let mut pods = self.pods.lock();
        let Some(waiting) = pods.get_mut(key) else { return };
        waiting.pending.remove(plugin);
        if waiting.pending.is_empty()
            && let Some(waiting) = pods.remove(key)
        {
            // Whoever waited may have given up just now.
            let _ = waiting.told.send(Ok(()));
        }
    }

    /// A pod must not go on; `false` if it does not wait.
    pub fn reject(&self, key: &ObjectKey, plugin: &'static str, why: &str) -> bool {
        self.stop(key, plugin, Refusal::Rejected(why.to_owned()))
    }

    /// A pod makes room for a more important one, and is tried again soon; `false` if it does not wait.
    pub fn preempt(&self, key: &ObjectKey, plugin: &'static str) -> bool {
        self.stop(key, plugin, Refusal::Failed("preempted".into()))
    }

    fn stop(&self, key: &ObjectKey, plugin: &'static str, refusal: Refusal) -> bool {
        let Some(waiting) = self.pods.lock().remove(key) else { return false };
        // As above.
        let _ = waiting.told.send(Err((plugin, refusal)));
        true
    }

    /// The wait is over.
    pub fn forget(&self, key: &ObjectKey) {
        self.pods.lock().remove(key);
    }

    /// Who waits, for which plugins.
    pub fn list(&self) -> BTreeMap<String, Vec<&'static str>> {
        self.pods.lock().iter().map(|(key, waiting)| (key.to_string(), waiting.pending.iter().copied().collect())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ObjectKey {
        ObjectKey::new("n", "p")
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_goes_on_when_every_plugin_has_allowed_it() {
        let pods = WaitingPods::default();
        let verdict = pods.wait(key(), &[("A", Duration::from_secs(10)), ("B", Duration::from_secs(20))]);
        pods.allow(&key(), "A");
        assert_eq!(pods.list(), BTreeMap::from([("n/p".to_owned(), vec!["B"])]));
        pods.allow(&key(), "B");
        assert_eq!(verdict.await, Ok(()));
        assert!(!pods.reject(&key(), "A", "too late"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_is_rejected_by_one_plugin_or_by_time() {
        let pods = WaitingPods::default();
        let both = [("A", Duration::from_secs(10)), ("B", Duration::from_secs(5))];
        let verdict = pods.wait(key(), &both);
        assert!(pods.reject(&key(), "A", "no"));
        assert_eq!(verdict.await, Err(("A", Refusal::Rejected("no".into()))));
        let removed = pods.wait(key(), &both);
        assert!(pods.preempt(&key(), "P") && !pods.preempt(&key(), "P"), "it waits once");
        assert_eq!(removed.await, Err(("P", Refusal::Failed("preempted".into()))));
        let late = pods.wait(key(), &both).await;
        assert_eq!(late, Err(("B", Refusal::Rejected("rejected due to timeout after waiting 5s at plugin B".into()))));
    }
}
