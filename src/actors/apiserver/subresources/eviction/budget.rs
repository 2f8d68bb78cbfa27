//! Judges whether a pod may be evicted. Pure.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use troupe_api::{
    meta::{GroupResource, Object},
    resources::budget::{SYNC_FAILED, allowed, condition, health, update_condition},
    status::{Status, StatusCause},
};

/// Evictions that the controller has not seen through yet; more are suspicious.
const MAX_DISRUPTED: usize = 2000;
const VIOLATION: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Whether a pod serves, and so is what budgets guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Healthy(pub bool);

impl Healthy {
    pub fn of(pod: &Object) -> Self {
        let ready = |condition: &serde_json::Value| condition["type"] == "Ready" && condition["status"] == "True";
        Healthy(pod.list(&["status", "conditions"]).iter().any(ready))
    }
}

/// Pods that do no work, not yet or no more, go without asking.
pub fn may_ignore_budget(pod: &Object) -> bool {
    matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed" | "Pending") || pod.is_terminating()
}

/// Whether such a pod may still begin to work.
pub fn must_stay_as_seen(pod: &Object) -> bool {
    !matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed") && !pod.is_terminating()
}

/// Whether the budget lets go of a pod that is not healthy without being charged.
pub fn unhealthy_may_go(budget: &PodDisruptionBudget, healthy: Healthy) -> bool {
    if healthy.0 {
        return false;
    }
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let status = budget.status.clone().unwrap_or_default();
    let (current, desired) = health(&status);
    policy == Some("AlwaysAllow") || current >= desired && desired > 0
}

/// Why the budget does not allow a disruption now.
pub fn violation(budget: &PodDisruptionBudget) -> Option<Status> {
    let name = budget.metadata.name.as_deref().unwrap_or_default();
    let status = budget.status.clone().unwrap_or_default();
    let forbidden = |why: &str| Some(Status::forbidden(&GroupResource::new("policy", "poddisruptionbudget"), name, why));
    if status.observed_generation.unwrap_or(0) < budget.metadata.generation.unwrap_or(0) {
        return Some(still_processed(name));
    }
    if allowed(&status) < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    (allowed(&status) == 0).then(|| too_many(0, why_none(name, &status)))
}

/// The controller has not looked at the budget since it changed.
pub fn still_processed(name: &str) -> Status {
    too_many(10, format!("The disruption budget {name} is still being processed by the server."))
}

fn too_many(retry_after: u32, message: String) -> Status {
    let cause = StatusCause { reason: "DisruptionBudget".into(), message, field: String::new() };
    Status::too_many_requests(VIOLATION, retry_after).with_causes(vec![cause])
}

fn why_none(name: &str, status: &PodDisruptionBudgetStatus) -> String {
    let told = condition(status).filter(|condition| condition.status == "False" && !condition.message.is_empty());
    let (current, desired) = health(status);
    match told {
        Some(condition) if condition.reason == SYNC_FAILED => {
            format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {}", condition.message)
        }
        _ if current <= desired => format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently"),
        Some(condition) => {
            format!("The disruption budget {name} does not allow evicting pods currently ({}): {}", condition.reason, condition.message)
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// The budget's status after one more disruption: `pod` counts as gone until the controller sees it go.
pub fn spend(budget: &PodDisruptionBudget, pod: &str, now: jiff::Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(allowed(&status) - 1);
    if allowed(&status) == 0 {
        update_condition(&mut status, now);
    }
    status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), Time(now));
    status
}
