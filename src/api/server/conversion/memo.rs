//! What objects are in other versions, kept with them within a budget.

use std::sync::{Arc, LazyLock};

use troupe_api::{
    memo::Memos,
    stored::{Converted, StoredObject},
};

/// What all of them may take, in bytes.
const BUDGET: usize = 48 << 20;
/// What an object takes beside its JSON.
const BESIDE: usize = 600;

static CONVERTED: LazyLock<Memos<StoredObject, Converted>> = LazyLock::new(|| Memos::new(BUDGET, |object| &object.converted));

/// The object in the version `wanted`, where that is known.
pub(super) fn find(object: &StoredObject, wanted: &str) -> Option<Arc<StoredObject>> {
    object.converted.peek(|others| others.iter().find(|other| other.api_version() == wanted).cloned())
}

/// Keeps an object in another version, beside those that are known.
pub(super) fn keep(object: &Arc<StoredObject>, converted: Arc<StoredObject>) {
    let known = object.converted.peek(|others| Some(others.clone())).unwrap_or_default();
    let others = known.iter().filter(|other| other.api_version() != converted.api_version()).cloned();
    let all: Converted = others.chain([converted.clone()]).collect();
    let cost = all.iter().map(|object| object.encoded_length() + BESIDE).sum();
    CONVERTED.keep(object, all, cost);
}
