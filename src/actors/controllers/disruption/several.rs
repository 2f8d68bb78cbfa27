//! Pods that several budgets select: nobody could evict them by the API, so an event tells of it.

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use troupe_api::{meta::ObjectKey, projection::Labels};

use super::budgets::{index, selector_of};
use crate::{
    controllers::by_selector::selecting,
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
        turn::Turn,
    },
};

/// See the module. Keys are pods.
pub struct SeveralBudgetsController {
    pods: Cache<Pod>,
    budgets: Cache<PodDisruptionBudget>,
}

impl SeveralBudgetsController {
    pub fn new(caches: &Caches) -> Self {
        SeveralBudgetsController { pods: caches.cache(), budgets: index(caches) }
    }

    /// The names of the first two budgets that select these labels, in order. Those that may are many and large where somebody wants that: others
    /// have their turns meanwhile, and each is decoded for this alone.
    async fn selecting(&self, namespace: &str, labels: &Labels) -> Vec<String> {
        let mut keys = selecting(&self.budgets, namespace, std::iter::once(labels));
        keys.sort_unstable();
        let (mut turn, mut names) = (Turn::default(), Vec::new());
        for key in keys {
            let Some(stored) = self.budgets.stored(&key) else { continue };
            let Some(budget) = Cache::<PodDisruptionBudget>::decode_once(&stored) else { continue };
            if selector_of(&budget).matches_projection(labels) {
                names.push(key.name.to_string());
            }
            if names.len() == 2 {
                break;
            }
            turn.step_bytes(stored.encoded_length()).await;
        }
        names
    }
}

/// What to tell of a pod that these budgets select, if it is anything.
fn message(pod: &ObjectKey, budgets: &[String]) -> Option<String> {
    let [first, _, ..] = budgets else { return None };
    Some(format!("Pod {:?}/{:?} matches multiple PodDisruptionBudgets.  Chose {first:?} arbitrarily.", &*pod.namespace, &*pod.name))
}

impl Controller for SeveralBudgetsController {
    const NAME: &'static str = "several-budgets";
    const EVENT_SOURCE: Option<&'static str> = Some("controllermanager");

    fn watches(&self, watches: &mut Watches<'_>) {
        let budgets = self.budgets.clone();
        // Each change of such a pod is told of, as upstream; the recorder counts repeats.
        watches.primary_when::<Pod>(move |change| {
            let labels = change.meta_after().map(|meta| &meta.labels);
            labels.is_some_and(|labels| selecting(&budgets, &change.key.namespace, std::iter::once(labels)).len() > 1)
        });
        watches.reads::<PodDisruptionBudget>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(stored) = self.pods.stored(key) else { return Ok(Outcome::Done) };
        let Some(message) = message(key, &self.selecting(&key.namespace, &stored.meta().labels).await) else { return Ok(Outcome::Done) };
        if let Some(pod) = Cache::<Pod>::decode_once(&stored) {
            cx.tell(&*pod, true, "MultiplePodDisruptionBudgets", message);
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_of_more_than_one_budget_is_told() {
        let pod = ObjectKey::new("n", "p");
        let of = |names: &[&str]| message(&pod, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!((of(&[]), of(&["a"])), (None, None));
        let want = "Pod \"n\"/\"p\" matches multiple PodDisruptionBudgets.  Chose \"a\" arbitrarily.";
        assert_eq!((of(&["a", "b"]).as_deref(), of(&["a", "b", "c"]).as_deref()), (Some(want), Some(want)));
    }
}
