//! Metadata that the server owns: what it fills in, what clients cannot change, and what it checks.

use std::collections::HashSet;

use rand::Rng;
use serde_json::Value;
use troupe_api::{
    meta::{Clock, Object, time::format_time},
    resources::{Strategy, WriteContext},
};
use uuid::Builder;

/// Gives a new object its identity, its UID from `random`, whatever the client put there. A generation that the kind does not count stays.
pub fn fill_system_fields(object: &mut Object, strategy: &dyn Strategy, clock: &dyn Clock, random: &mut impl Rng) {
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        object.remove(&["metadata", field]);
    }
    object.set(&["metadata", "uid"], Builder::from_random_bytes(random.random()).into_uuid().to_string());
    object.set(&["metadata", "creationTimestamp"], format_time(clock.now()));
    if strategy.has_generation() {
        object.set(&["metadata", "generation"], 1);
    }
}

/// Brings over from `old` what an update cannot change, lets the strategy prepare, and bumps the generation when the spec changed.
pub fn prepare_update(new: &mut Object, old: &Object, strategy: &dyn Strategy, context: &WriteContext<'_>) {
    keep(new, old, "generation");
    strategy.prepare_update(new, old, context);
    if strategy.has_generation() && context.subresource != "status" && strategy.spec_changed(new, old) {
        let generation = new.int(&["metadata", "generation"]).unwrap_or(0);
        new.set(&["metadata", "generation"], generation + 1);
    }
    if new.uid().is_empty() {
        keep(new, old, "uid");
    }
    keep(new, old, "creationTimestamp");
    new.remove(&["metadata", "selfLink"]);
    if old.is_terminating() {
        keep(new, old, "deletionTimestamp");
        if new.get(&["metadata", "deletionGracePeriodSeconds"]).is_none() {
            keep(new, old, "deletionGracePeriodSeconds");
        }
    }
}

fn keep(new: &mut Object, old: &Object, field: &str) {
    match old.get(&["metadata", field]) {
        Some(value) => new.set(&["metadata", field], value.clone()),
        None => drop(new.remove(&["metadata", field])),
    }
}

/// Objects that carry a generation get the next one.
pub fn bump_generation(object: &mut Object) {
    if let Some(generation) = object.int(&["metadata", "generation"]) {
        object.set(&["metadata", "generation"], generation + 1);
    }
}

/// The finalizers of an object.
pub fn finalizers(object: &Object) -> Vec<String> {
    object.list(&["metadata", "finalizers"]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Sets the finalizers of an object; none removes the field.
pub fn set_finalizers(object: &mut Object, finalizers: Vec<String>) {
    if finalizers.is_empty() {
        object.remove(&["metadata", "finalizers"]);
    } else {
        object.set(&["metadata", "finalizers"], finalizers);
    }
}

/// Drops owner references to a UID that stands there already; returns the warning that earns.
pub fn dedup_owners(object: &mut Object) -> Option<String> {
    let owners = object.list(&["metadata", "ownerReferences"]);
    let (mut known, mut kept, mut dropped) = (HashSet::with_capacity(owners.len()), Vec::new(), Vec::new());
    for owner in owners {
        if known.insert(owner) {
            kept.push(owner.clone());
        } else {
            dropped.push(owner["uid"].as_str().unwrap_or_default().to_owned());
        }
    }
    if dropped.is_empty() {
        return None;
    }
    drop(known);
    object.set(&["metadata", "ownerReferences"], kept);
    Some(format!(
        ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        dropped.join(", ")
    ))
}
