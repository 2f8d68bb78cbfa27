//! Questions about pools of devices (KEP-5677), which are off where nothing is said.

use serde_json::Value;

use super::split_update_strictly;
use crate::{
    meta::{
        Clock, Object,
        tree::{at, items, text},
    },
    resources::{
        Column, Strategy, WriteContext,
        printing::{integer, name, since, string},
        resource::ALL_METADATA,
        validation::devices,
    },
    status::FieldError,
};

/// The rules of requests for the status of pools.
#[derive(Default)]
pub struct ResourcePoolStatusRequest;

impl Strategy for ResourcePoolStatusRequest {
    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update_strictly(new, old, context);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        devices::pool_status_request(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { devices::pool_status(new, old) } else { devices::pool_status_request_update(new, old) }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Driver", "The driver to query pools for."),
            string("Total", "Total number of devices across all pools."),
            string("Available", "Number of available devices across all pools."),
            string("Allocated", "Number of allocated devices across all pools."),
            string("Unavailable", "Number of unavailable devices across all pools."),
            string("Errors", "Number of pools with validation errors."),
            integer("Pools", "Total number of matching pools."),
            string("Status", "Processing status."),
            string("Completed", "Time since the observation completed."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let status = object.get(&["status"]).unwrap_or(&Value::Null);
        let (pools, count) = (items(status, &["pools"]), at(status, &["poolCount"]).as_i64().unwrap_or(0));
        let ended = items(status, &["conditions"])
            .iter()
            .find(|condition| matches!(text(condition, &["type"]), "Complete" | "Failed") && text(condition, &["status"]) == "True");
        let is_complete = ended.is_some_and(|condition| text(condition, &["type"]) == "Complete");
        let state = match ended {
            Some(_) if is_complete && usize::try_from(count).is_ok_and(|count| count > pools.len()) => {
                format!("Complete ({}/{count} pools)", pools.len())
            }
            Some(condition) => text(condition, &["type"]).to_owned(),
            None => "Pending".to_owned(),
        };
        let has_counts = !status.is_null() && (ended.is_none() || is_complete);
        let shown = |number: i64| if has_counts { number.to_string() } else { "-".to_owned() };
        let sum = |field: &str| shown(pools.iter().map(|pool| at(pool, &[field]).as_i64().unwrap_or(0)).sum());
        let errors = pools.iter().filter(|pool| !at(pool, &["validationError"]).is_null()).count();
        let completed = ended.filter(|_| is_complete).map(|condition| since(text(condition, &["lastTransitionTime"]), clock));
        vec![
            object.name().into(),
            object.str(&["spec", "driver"]).into(),
            sum("totalDevices").into(),
            sum("availableDevices").into(),
            sum("allocatedDevices").into(),
            sum("unavailableDevices").into(),
            shown(i64::try_from(errors).unwrap_or(i64::MAX)).into(),
            count.into(),
            state.into(),
            completed.unwrap_or_else(|| "<none>".to_owned()).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::kinds::tests::{FixedClock, object};

    #[test]
    fn a_row_sums_up_the_pools() {
        let cells = |status: Value| {
            let request = object(json!({"metadata": {"name": "r"}, "spec": {"driver": "gpu.example.com"}, "status": status}));
            let cells = ResourcePoolStatusRequest.cells(&request, &FixedClock);
            cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(cells(Value::Null), "r gpu.example.com - - - - - 0 Pending <none>");
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let pool = json!({"totalDevices": 4, "allocatedDevices": 1, "availableDevices": 3, "unavailableDevices": 0});
        let told = json!({"poolCount": 3, "pools": [pool, {"validationError": "incomplete"}], "conditions": [condition("Complete")]});
        assert_eq!(cells(told), "r gpu.example.com 4 3 1 0 1 3 Complete (2/3 pools) 60m");
        let failed = json!({"poolCount": 0, "conditions": [condition("Failed")]});
        assert_eq!(cells(failed), "r gpu.example.com - - - - - 0 Failed <none>");
    }
}
