//! Roles and bindings, in a namespace or for the cluster.

use serde_json::Value;

use super::{created_at_cells, created_at_columns};
use crate::{
    meta::{
        Clock, Object,
        names::{self, NameRule},
    },
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, string, wide},
        resource::age_of,
        tree::{child, each, fill, text},
        validation::rbac,
    },
    status::FieldError,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The rules of roles and cluster roles.
#[derive(Default)]
pub struct Role;

impl Strategy for Role {
    fn default_object(&self, object: &mut Object) {
        object.root_mut().entry("rules").or_insert(Value::Null);
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn name_rule(&self) -> NameRule {
        names::path_segment
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        rbac::role(object)
    }

    fn columns(&self) -> Vec<Column> {
        created_at_columns()
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        created_at_cells(object)
    }
}

/// The rules of role bindings and cluster role bindings.
#[derive(Default)]
pub struct Binding;

impl Strategy for Binding {
    fn default_object(&self, object: &mut Object) {
        let root = object.root_mut();
        if let Some(role) = child(root, "roleRef") {
            fill(role, "apiGroup", GROUP);
        }
        each(root, "subjects", |subject| {
            if subject.get("kind").is_some_and(|kind| kind == "User" || kind == "Group") {
                fill(subject, "apiGroup", GROUP);
            }
        });
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn name_rule(&self) -> NameRule {
        names::path_segment
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        rbac::binding(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        let mut errors = rbac::binding(new);
        if new.get(&["roleRef"]) != old.get(&["roleRef"]) {
            errors.push(FieldError::invalid("roleRef", new.get(&["roleRef"]).cloned().unwrap_or_default(), "cannot change roleRef"));
        }
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Role", "The role that the binding grants."),
            age(),
            wide("Users", "Users in the binding"),
            wide("Groups", "Groups in the binding"),
            wide("ServiceAccounts", "ServiceAccounts in the binding"),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let subjects = |kind: &str| {
            let of_kind = object.list(&["subjects"]).iter().filter(|subject| text(subject, &["kind"]) == kind);
            let print = |subject: &Value| match (kind, text(subject, &["namespace"])) {
                ("ServiceAccount", namespace) => format!("{namespace}/{}", text(subject, &["name"])),
                _ => text(subject, &["name"]).to_owned(),
            };
            of_kind.map(print).collect::<Vec<_>>().join(", ")
        };
        vec![
            object.name().into(),
            format!("{}/{}", object.str(&["roleRef", "kind"]), object.str(&["roleRef", "name"])).into(),
            age_of(object, clock).into(),
            subjects("User").into(),
            subjects("Group").into(),
            subjects("ServiceAccount").into(),
        ]
    }
}
