//! Priority levels: how many requests at once, and what becomes of those beyond.

use serde_json::{Value, json};

use super::{EXEMPT, equal, fixed_spec};
use crate::{
    meta::Object,
    resources::validation::{Field, between},
    status::FieldError,
};

/// What another version keeps for itself, and what must not come back in this one.
const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
const TYPES: [&str; 2] = ["Exempt", "Limited"];
const RESPONSES: [&str; 2] = ["Queue", "Reject"];
const MOST_QUEUES: i64 = 10_000_000;
/// The bits of a hash of which hands are dealt.
const HASH_BITS: f64 = 60.0;

/// Checks a priority level, new or changed.
pub fn check(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object.annotation(PRESERVE_ZERO).is_some() {
        errors.push(FieldError::forbidden("metadata.annotations", format!("annotation '{PRESERVE_ZERO}' is forbidden")));
    }
    let spec = Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null));
    let kind = spec.child("type");
    if (object.name() == EXEMPT) != (kind.text() == "Exempt") {
        errors.push(kind.invalid_as(kind.text(), "must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    by_type(&mut errors, &spec, &kind);
    mandatory(&mut errors, object, &spec);
    errors.extend(super::status(object));
    errors
}

fn by_type(errors: &mut Vec<FieldError>, spec: &Field<'_>, kind: &Field<'_>) {
    let (limited, exempt) = (spec.child("limited"), spec.child("exempt"));
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                errors.push(limited.forbidden("must be nil if the type is not Limited"));
            }
            if exempt.is_set() {
                shares(errors, &exempt);
            }
        }
        "Limited" => {
            if exempt.is_set() {
                errors.push(exempt.forbidden("must be nil if the type is Limited"));
            }
            match limited.is_set() {
                true => limits(errors, &limited),
                false => errors.push(limited.required("must not be empty when type is Limited")),
            }
        }
        other => errors.push(FieldError::not_supported(*kind, other, &TYPES)),
    }
}

/// The share of the exempt level is the administrator's to choose, all else is fixed.
fn mandatory(errors: &mut Vec<FieldError>, object: &Object, spec: &Field<'_>) {
    let Some(mut fixed) = fixed_spec(object) else { return };
    let mut wording = "";
    if object.name() == EXEMPT {
        fixed["exempt"] = spec.child("exempt").value.clone();
        wording = " except the 'spec.exempt' field";
    }
    if !equal(spec.value, &fixed) {
        errors.push(spec.invalid(format!("spec of '{}'{wording} must equal the fixed value", object.name())));
    }
}

fn nominal(errors: &mut Vec<FieldError>, part: &Field<'_>) {
    let nominal = part.child("nominalConcurrencyShares");
    if nominal.int() < 0 {
        errors.push(nominal.invalid("must be a non-negative integer"));
    }
}

fn lendable(errors: &mut Vec<FieldError>, part: &Field<'_>) {
    let lendable = part.child("lendablePercent");
    if !(0..=100).contains(&lendable.int()) {
        errors.push(lendable.invalid(between(0, 100)));
    }
}

fn shares(errors: &mut Vec<FieldError>, exempt: &Field<'_>) {
    nominal(errors, exempt);
    lendable(errors, exempt);
}

fn limits(errors: &mut Vec<FieldError>, limited: &Field<'_>) {
    nominal(errors, limited);
    response(errors, &limited.child("limitResponse"));
    lendable(errors, limited);
    let borrowing = limited.child("borrowingLimitPercent");
    if borrowing.int() < 0 {
        errors.push(borrowing.invalid("if specified, must be a non-negative integer"));
    }
}

fn response(errors: &mut Vec<FieldError>, response: &Field<'_>) {
    let (kind, queuing) = (response.child("type"), response.child("queuing"));
    match (kind.text(), queuing.is_set()) {
        ("Reject", true) => errors.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited")),
        ("Reject", false) => {}
        ("Queue", false) => errors.push(queuing.required("must not be empty if limited.limitResponse.type is Limited")),
        ("Queue", true) => queues(errors, &queuing),
        (other, _) => errors.push(FieldError::not_supported(kind, other, &RESPONSES)),
    }
}

fn queues(errors: &mut Vec<FieldError>, queuing: &Field<'_>) {
    const POSITIVE: &str = "must be positive";
    let [length, queues, hand] = ["queueLengthLimit", "queues", "handSize"].map(|name| queuing.child(name));
    if length.int() <= 0 {
        errors.push(length.invalid_as(length.int(), POSITIVE));
    }
    match queues.int() {
        ..=0 => errors.push(queues.invalid_as(queues.int(), POSITIVE)),
        count if count > MOST_QUEUES => errors.push(queues.invalid(format!("must not be greater than {MOST_QUEUES}"))),
        _ => {}
    }
    match (hand.int(), queues.int()) {
        (..=0, _) => errors.push(hand.invalid_as(json!(hand.int()), POSITIVE)),
        (size, deck) if size > deck => errors.push(hand.invalid(format!("should not be greater than queues ({deck})"))),
        (size, deck) if entropy(deck, size) > HASH_BITS => {
            let detail = format!("required entropy bits of deckSize {deck} and handSize {size} should not be greater than {HASH_BITS}");
            errors.push(hand.invalid(detail));
        }
        _ => {}
    }
}

/// How many bits dealing a hand takes.
#[allow(clippy::cast_precision_loss, reason = "both are 32 bits wide")]
fn entropy(deck: i64, hand: i64) -> f64 {
    ((deck as f64).log2() * hand as f64).ceil()
}
