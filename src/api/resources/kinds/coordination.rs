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

const OF_CANDIDATES: [&str; 2] = ["strategy", "preferredHolder"];

/// The rules of leases.
#[derive(Default)]
pub struct Lease;

impl Strategy for Lease {
    /// Nobody coordinates candidates: what would choose among them is not kept.
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        for field in OF_CANDIDATES {
            object.remove(&["spec", field]);
        }
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, _context: &WriteContext<'_>) {
        for field in OF_CANDIDATES {
            if old.get(&["spec", field]).is_none_or(Value::is_null) {
                new.remove(&["spec", field]);
            }
        }
    }

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
