//! What disruption budgets allow.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use troupe_api::meta::LabelSelector;

use crate::scheduler::placed_pod::PlacedPod;

/// A disruption budget, as far as preemption looks at it.
#[derive(Clone, Debug)]
pub struct Budget {
    namespace: Arc<str>,
    selector: LabelSelector,
    allowed: i32,
    /// Names of pods whose disruption is counted already.
    disrupted: BTreeSet<String>,
}

impl Budget {
    pub fn of(budget: &PodDisruptionBudget) -> Self {
        let (spec, status) = (budget.spec.as_ref(), budget.status.as_ref());
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
        Budget {
            namespace: budget.metadata.namespace.as_deref().unwrap_or_default().into(),
            selector: LabelSelector::from(spec.and_then(|spec| spec.selector.as_ref())),
            allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
            disrupted: disrupted.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
        }
    }

    /// A selector without requirements matches nothing here, as upstream.
    fn covers(&self, pod: &PlacedPod) -> bool {
        *self.namespace == *pod.namespace()
            && !self.selector.is_everything()
            && self.selector.matches(&pod.labels)
            && !self.disrupted.contains(&*pod.key().name)
    }
}

/// Whether the removal of each of these pods would break a budget, if they were removed in this order.
pub fn violations<'a>(pods: impl Iterator<Item = &'a PlacedPod>, budgets: &[Budget]) -> Vec<bool> {
    let mut left: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    let breaks = pods.map(|pod| {
        let mut breaks = false;
        if !pod.labels.is_empty() {
            for (left, _) in left.iter_mut().zip(budgets).filter(|(_, budget)| budget.covers(pod)) {
                *left -= 1;
                breaks |= *left < 0;
            }
        }
        breaks
    });
    breaks.collect()
}
