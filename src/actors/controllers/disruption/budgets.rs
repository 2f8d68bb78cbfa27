//! Budgets by what they select.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use troupe_api::meta::LabelSelector;

use crate::{
    controllers::by_selector,
    runtime::cache::{Cache, Caches},
};

/// The budgets, ready for [`by_selector::selecting`].
pub fn index(caches: &Caches) -> Cache<PodDisruptionBudget> {
    by_selector::index(caches.cache(), |budget| Some(selector_of(budget)))
}

/// One that says nothing selects nothing.
pub fn selector_of(budget: &PodDisruptionBudget) -> LabelSelector {
    LabelSelector::from(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
}
