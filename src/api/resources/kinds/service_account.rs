//! Service accounts.

use serde_json::Value;

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name},
        resource::age_of,
        tree::each,
        validation::warnings,
    },
};

/// The rules of service accounts.
#[derive(Default)]
pub struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        keep_names_of_secrets(object);
    }

    fn prepare_update(&self, new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {
        keep_names_of_secrets(new);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::service_account(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), age_of(object, clock).into()]
    }
}

/// Secrets are of the account's own namespace: their names say all.
fn keep_names_of_secrets(object: &mut Object) {
    each(object.root_mut(), "secrets", |secret| secret.retain(|field, _| field == "name"));
}
