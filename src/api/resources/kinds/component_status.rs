//! How the parts of the control plane are. Never stored.

use serde_json::Value;

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy,
        printing::{name, string},
        tree::text,
    },
};

/// The rules of component statuses.
#[derive(Default)]
pub struct ComponentStatus;

impl Strategy for ComponentStatus {
    fn has_generation(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Status", "Status of the component conditions"),
            string("Message", "Message of the component conditions"),
            string("Error", "Error of the component conditions"),
        ]
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        let healthy = object.list(&["conditions"]).iter().find(|condition| text(condition, &["type"]) == "Healthy");
        let of = |field: &str| healthy.map(|condition| text(condition, &[field])).unwrap_or_default();
        let status = match healthy {
            None => "Unknown",
            Some(_) if of("status") == "True" => "Healthy",
            Some(_) => "Unhealthy",
        };
        vec![object.name().into(), status.into(), of("message").into(), of("error").into()]
    }
}
