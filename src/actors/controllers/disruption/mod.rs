//! Disruption: says how many pods each PodDisruptionBudget can spare.

mod budgets;
mod plan;
mod scale;
mod several;
mod stale;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::{Pod, ReplicationController},
    policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
};
use troupe_api::meta::ObjectKey;

use self::{
    budgets::selector_of,
    plan::{Expectation, Plan, needs_scale},
};
pub use self::{several::SeveralBudgetsController, stale::StaleDisruptionController};
use super::{by_label, by_selector, pod_digest::PodDigest, writes::write_status};
use crate::runtime::{
    cache::{Cache, Caches, Digests},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// A budget that could not be judged is tried again after this time.
const AGAIN: Duration = Duration::from_secs(30);

/// See the module. Keys are budgets.
pub struct DisruptionController {
    budgets: Cache<PodDisruptionBudget>,
    pods: Cache<Pod>,
    digests: Digests<Pod, PodDigest>,
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
        let pods: Cache<Pod> = caches.cache();
        DisruptionController { budgets: budgets::index(caches), digests: pods.digests(), pods, workloads }
    }

    async fn expectation(&self, budget: &PodDisruptionBudget, pods: &[Arc<PodDigest>], cx: &ReconcileContext) -> Result<Expectation, String> {
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
        let pods = by_label::selected_of(self.pods.select_stored(&key.namespace, |_| true), &selector).await;
        let pods = self.digests.read(&pods).await;
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
        let overdue = pods.iter().filter(|pod| not_deleted.iter().any(|name| **name == *pod.meta.name));
        for pod in overdue.filter_map(|pod| self.pods.get(&ObjectKey::new(key.namespace.clone(), pod.meta.name.clone()))) {
            let message = format!("Pod was expected by PDB {}/{} to be deleted but it wasn't", key.namespace, key.namespace);
            cx.events().warning(&ReconcileContext::reference(&*pod.object), "NotDeleted", message);
        }
        if let Some(status) = status {
            self.write(&budget, status, cx).await?;
        }
        Ok(Outcome::of_look(pods.len(), recheck.or(failed.then_some(AGAIN))))
    }
}
