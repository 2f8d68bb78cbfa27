//! Controller revisions, runtime classes and the kinds that extend the API.

use serde_json::Value;

use super::{created_at_cells, created_at_columns, split_update};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, integer, name, string},
        resource::age_of,
        tree::{flag, text},
        validation::{NameRule, names},
    },
    status::FieldError,
};

/// The rules of controller revisions.
#[derive(Default)]
pub struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = Vec::new();
        match object.get(&["data"]) {
            Some(Value::Object(_)) => {}
            None | Some(Value::Null) => errors.push(FieldError::required("data", "data is mandatory")),
            Some(_) => errors.push(FieldError::required("data", "data must be a valid JSON object")),
        }
        let revision = object.int(&["revision"]).unwrap_or(0);
        if revision < 0 {
            errors.push(FieldError::invalid("revision", revision, "must be greater than or equal to 0"));
        }
        errors
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        if new.get(&["data"]) == old.get(&["data"]) {
            return Vec::new();
        }
        vec![FieldError::invalid("data", new.get(&["data"]).cloned().unwrap_or_default(), "field is immutable")]
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("Controller", "Controller of the object"), integer("Revision", "The revision that this state has."), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let owner = object.list(&["metadata", "ownerReferences"]).iter().find(|owner| flag(owner, &["controller"]));
        let controller = owner.map_or("<none>".to_owned(), |owner| {
            let group = text(owner, &["apiVersion"]).split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
            format!("{}{group}/{}", text(owner, &["kind"]).to_lowercase(), text(owner, &["name"]))
        });
        vec![object.name().into(), controller.into(), object.int(&["revision"]).unwrap_or(0).into(), age_of(object, clock).into()]
    }
}

/// The rules of runtime classes.
#[derive(Default)]
pub struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        let handler = object.str(&["handler"]);
        names::label(handler, false).into_iter().map(|message| FieldError::invalid("handler", handler, message)).collect()
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        if new.str(&["handler"]) == old.str(&["handler"]) {
            return Vec::new();
        }
        vec![FieldError::invalid("handler", new.str(&["handler"]), "field is immutable")]
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("Handler", "The configuration of the container runtime that pods of this class use."), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), object.str(&["handler"]).into(), age_of(object, clock).into()]
    }
}

/// The rules of custom resource definitions; their controllers own the status.
#[derive(Default)]
pub struct CustomResourceDefinition;

impl Strategy for CustomResourceDefinition {
    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
    }

    fn columns(&self) -> Vec<Column> {
        created_at_columns()
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        created_at_cells(object)
    }
}

/// The rules of API services.
#[derive(Default)]
pub struct ApiService;

impl Strategy for ApiService {
    fn default_object(&self, object: &mut Object) {
        if object.get(&["spec", "service"]).is_some_and(Value::is_object) {
            object.set_default(&["spec", "service", "port"], 443);
        }
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        super::empty_status(object);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
    }

    fn has_generation(&self) -> bool {
        false
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
