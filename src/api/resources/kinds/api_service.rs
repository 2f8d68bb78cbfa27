//! API services: which server answers for a group and version.

use serde_json::{Value, json};

use super::{restore, split_update};
use crate::{
    meta::{
        Clock, Object,
        names::{self, NameRule},
        time::format_time,
    },
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, string},
        resource::{ALL_METADATA, age_of},
        tree::text,
        validation::api_service,
    },
    status::FieldError,
};

/// The rules of API services.
#[derive(Default)]
pub struct ApiService;

impl Strategy for ApiService {
    fn takes_any_finalizer(&self) -> bool {
        true
    }

    fn default_object(&self, object: &mut Object) {
        if object.get(&["spec", "service"]).is_some_and(Value::is_object) {
            object.set_default(&["spec", "service", "port"], 443);
        }
    }

    /// What this server answers for itself is there at once.
    fn prepare_create(&self, object: &mut Object, context: &WriteContext<'_>) {
        super::empty_status(object);
        if !object.get(&["spec", "service"]).is_some_and(Value::is_object) {
            let condition = json!({
                "type": "Available", "status": "True", "lastTransitionTime": format_time(context.clock.now()),
                "reason": "Local", "message": "Local APIServices are always available",
            });
            object.set(&["status", "conditions"], json!([condition]));
        }
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
        if context.subresource == "status" {
            for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
                restore(new, old, &["metadata", field]);
            }
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        api_service::check(object)
    }

    fn validate_update(&self, new: &Object, _old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { api_service::status(new) } else { api_service::check(new) }
    }

    fn name_rule(&self) -> NameRule {
        names::path_segment
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Service", "The service that serves the group and version."),
            string("Available", "Whether the service is available."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let service = match object.get(&["spec", "service"]) {
            Some(service @ Value::Object(_)) => format!("{}/{}", text(service, &["namespace"]), text(service, &["name"])),
            _ => "Local".to_owned(),
        };
        let condition = object.list(&["status", "conditions"]).iter().find(|condition| text(condition, &["type"]) == "Available");
        let available = match condition.map(|condition| (text(condition, &["status"]), text(condition, &["reason"]))) {
            Some(("True", _)) => "True".to_owned(),
            Some((status, reason)) => format!("{status} ({reason})"),
            None => "Unknown".to_owned(),
        };
        vec![object.name().into(), service.into(), available.into(), age_of(object, clock).into()]
    }
}
