//! Pod disruption budgets.

use serde_json::{Value, json};

use super::split_update;
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        int_or_string::display,
        printing::{age, integer, name, string},
        resource::age_of,
        validation::disruption,
    },
    status::FieldError,
};

/// The rules of pod disruption budgets.
#[derive(Default)]
pub struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.set(&["status"], json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}));
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        disruption::disruption_budget(object)
    }

    fn validate_update(&self, new: &Object, _old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { disruption::disruption_budget_status(new) } else { disruption::disruption_budget(new) }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Min Available", "The minimum number of pods that must be available."),
            string("Max Unavailable", "The maximum number of pods that may be unavailable."),
            integer("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let bound = |field: &str| object.get(&["spec", field]).filter(|value| !value.is_null()).map_or("N/A".to_owned(), display);
        vec![
            object.name().into(),
            bound("minAvailable").into(),
            bound("maxUnavailable").into(),
            object.int(&["status", "disruptionsAllowed"]).unwrap_or(0).into(),
            age_of(object, clock).into(),
        ]
    }
}
