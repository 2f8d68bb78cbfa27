//! Disruption: says how many pods each PodDisruptionBudget can spare.

mod plan;
mod scale;
mod stale;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::{Pod, ReplicationController},
    policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
};
use troupe_api::meta::{LabelSelector, ObjectKey};

use self::plan::{Expectation, Plan, needs_scale};
pub use self::stale::StaleDisruptionController;
use super::{by_selector, writes::write_status};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// A budget that could not be judged is tried again after this time.
const AGAIN: Duration = Duration::from_secs(30);

/// See the module. Keys are budgets.
pub struct DisruptionController {
    budgets: Cache<PodDisruptionBudget>,
    pods: Cache<Pod>,
    workloads: Workloads,
}

/// The controllers whose scale is known without asking.
struct Workloads {
    deployments: Cache<Deployment>,
    replica_sets: Cache<ReplicaSet>,
    stateful_sets: Cache<StatefulSet>,
    replication_controllers: Cache<ReplicationController>,
}

impl DisruptionController {
    pub fn new(caches: &Caches) -> Self {
        let workloads = Workloads {
            deployments: caches.cache(),
            replica_sets: caches.cache(),
            stateful_sets: caches.cache(),
            replication_controllers: caches.cache(),
        };
        let budgets = by_selector::index(caches.cache(), |budget| Some(selector_of(budget)));
        DisruptionController { budgets, pods: caches.cache(), workloads }
    }

    async fn expectation(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>], cx: &ReconcileContext) -> Result<Expectation, String> {
        if !needs_scale(budget) {
            return Ok(Expectation { count: i32::try_from(pods.len()).unwrap_or(i32::MAX), unmanaged: Vec::new() });
        }
        scale::expected(&self.workloads, pods, cx).await
    }

    async fn write(&self, budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let updated = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        Ok(write_status(&updated, &self.budgets, cx).await?)
    }
}

impl Controller for DisruptionController {
    const NAME: &'static str = "disruption";
    const EVENT_SOURCE: Option<&'static str> = Some("controllermanager");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<PodDisruptionBudget>();
        let budgets = self.budgets.clone();
        watches.map::<Pod>(move |change| by_selector::selecting(&budgets, &change.key.namespace, change.labels()));
        watches.reads::<Deployment>();
        watches.reads::<ReplicaSet>();
        watches.reads::<StatefulSet>();
        watches.reads::<ReplicationController>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(budget) = self.budgets.get(key) else { return Ok(Outcome::Done) };
        let budget = budget.object;
        let selector = selector_of(&budget);
        let pods = self.pods.select(&key.namespace, |meta| selector.matches_projection(&meta.labels));
        let about = ReconcileContext::reference(&*budget);
        if pods.is_empty() {
            cx.events().normal(&about, "NoPods", "No matching pods found");
        }
        let expectation = self.expectation(&budget, &pods, cx).await;
        if let Err(why) = &expectation {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            cx.events().warning(&about, "CalculateExpectedPodCountFailed", message);
        }
        let failed = expectation.is_err();
        let Plan { status, unmanaged, not_deleted, recheck } = plan::plan(&budget, &pods, expectation, cx.now());
        if unmanaged {
            cx.events().warning(&about, "UnmanagedPods", plan::unmanaged_message(&budget));
        }
        for pod in pods.iter().filter(|pod| pod.metadata.name.as_ref().is_some_and(|name| not_deleted.contains(name))) {
            let message = format!("Pod was expected by PDB {}/{} to be deleted but it wasn't", key.namespace, key.namespace);
            cx.events().warning(&ReconcileContext::reference(&**pod), "NotDeleted", message);
        }
        if let Some(status) = status {
            self.write(&budget, status, cx).await?;
        }
        Ok(match recheck {
            Some(delay) => Outcome::RequeueAfter(delay),
            None if failed => Outcome::RequeueAfter(AGAIN),
            None => Outcome::Done,
        })
    }
}

fn selector_of(budget: &PodDisruptionBudget) -> LabelSelector {
    LabelSelector::from(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
}
