//! Leases.

use serde_json::Value;

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, string},
        resource::age_of,
        validation::coordination,
    },
    status::FieldError,
};

/// The rules of leases.
#[derive(Default)]
pub struct Lease;

impl Strategy for Lease {
    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

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
        coordination::lease(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("Holder", "The identity of the holder of a current lease."), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), object.str(&["spec", "holderIdentity"]).into(), age_of(object, clock).into()]
    }
}
