//! Controller revisions and runtime classes.

use serde_json::Value;

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy,
        printing::{age, name, string},
        resource::age_of,
        tree::{flag, text},
        validation::{controller_revision, runtime_class, warnings::node_labels},
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
        controller_revision::revision(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        controller_revision::revision_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("Controller", "Controller of the object"), string("Revision", "The revision that this state has."), age()]
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
        runtime_class::class(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        runtime_class::class_update(new, old)
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        let selector = object.get(&["scheduling", "nodeSelector"]).unwrap_or(&Value::Null);
        node_labels::warn_of_map(selector, "scheduling.nodeSelector")
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("Handler", "The configuration of the container runtime that pods of this class use."), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), object.str(&["handler"]).into(), age_of(object, clock).into()]
    }
}
