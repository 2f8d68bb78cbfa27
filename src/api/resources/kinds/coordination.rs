//! Leases, and candidates for them.

use serde_json::Value;

use crate::{
    meta::{
        Clock, Object,
        names::{self, NameRule},
    },
    resources::{
        Column, Gated, Strategy,
        printing::{age, name, string},
        resource::age_of,
        tree::{Fields, at, child},
        validation::coordination,
    },
    status::FieldError,
};

/// What is chosen among candidates by (KEP-4355).
const COORDINATION: &str = "CoordinatedLeaderElection";
static OF_CANDIDATES: [Gated; 2] = [
    Gated { feature: COORDINATION, is_used: |lease| has(lease, "strategy"), drop: |lease| remove(lease, "strategy") },
    Gated { feature: COORDINATION, is_used: |lease| has(lease, "preferredHolder"), drop: |lease| remove(lease, "preferredHolder") },
];

fn has(lease: &Fields, field: &str) -> bool {
    lease.get("spec").is_some_and(|spec| !at(spec, &[field]).is_null())
}

fn remove(lease: &mut Fields, field: &str) {
    if let Some(spec) = child(lease, "spec") {
        spec.remove(field);
    }
}

/// The rules of leases.
#[derive(Default)]
pub struct Lease;

impl Strategy for Lease {
    fn gated(&self) -> &'static [Gated] {
        &OF_CANDIDATES
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

/// The rules of candidates for leases.
#[derive(Default)]
pub struct LeaseCandidate;

impl Strategy for LeaseCandidate {
    fn has_generation(&self) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        |name, _| names::config_key(name)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        coordination::candidate(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        coordination::candidate_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("LeaseName", "The lease that the candidate is for."),
            string("BinaryVersion", "The version of the candidate's program."),
            string("EmulationVersion", "The version as which it behaves."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let of = |field: &str| Value::from(object.str(&["spec", field]));
        vec![object.name().into(), of("leaseName"), of("binaryVersion"), of("emulationVersion"), age_of(object, clock).into()]
    }
}
