//! Counting what exists.

use std::borrow::Borrow;

use super::{Evaluator, scopes};
use crate::meta::{Object, amounts::Amounts};

/// The limits that a quota enforces now.
pub fn hard(quota: &Object) -> Amounts {
    Amounts::read(quota.get(&["status", "hard"]))
}

/// What a quota says is used.
pub fn used(quota: &Object) -> Amounts {
    Amounts::read(quota.get(&["status", "used"]))
}

/// Whether `evaluator` measures something that the quota's spec limits.
pub fn is_tracked(quota: &Object, evaluator: &Evaluator) -> bool {
    let limits = quota.get(&["spec", "hard"]).and_then(serde_json::Value::as_object);
    limits.is_some_and(|limits| limits.keys().any(|name| evaluator.tracks(name)))
}

/// What `objects` of one resource cost a quota: an amount for each name that it limits and the evaluator measures. They are taken
/// one by one, so that they need not all be decoded at once.
pub fn usage<O: Borrow<Object>>(quota: &Object, evaluator: &Evaluator, objects: impl IntoIterator<Item = O>, now: jiff::Timestamp) -> Amounts {
    let limits = Amounts::read(quota.get(&["spec", "hard"])).only(|name| evaluator.tracks(name));
    let mut total = Amounts::default();
    for name in limits.names() {
        total.count(name, 0);
    }
    let scopes = scopes::of(quota);
    for object in objects {
        let object = object.borrow();
        if scopes.iter().all(|scope| evaluator.in_scope(scope, object)) {
            total.add(&evaluator.cost(object, now).masked(&limits));
        }
    }
    total
}
