//! Ownership through creates, updates and patches: the writer takes over what it changed.

use jiff::Timestamp;
use serde_json::Map;

use super::{
    Manager,
    compare::compare,
    entries::{Entry, EntryKey, ManagedFields, Operation},
    set::FieldSet,
};
use crate::{meta::Object, schema::Schema};

/// Fields that nobody owns.
const UNOWNED: [&[&str]; 11] = [
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:clusterName"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
];

/// Brings `new`'s managedFields up to date for a create (`old` is `None`), an update or a patch by `manager`.
/// `new` is the object as it will be stored: defaulted and prepared. Never fails: malformed entries are forgotten.
pub fn track_update(old: Option<&Object>, new: &mut Object, manager: Manager<'_>, schema: &Schema, now: Timestamp) {
    let managed = starting_point(old, new, manager.subresource);
    new.remove(&["metadata", "managedFields"]);
    if old.is_some() && managed.entries.is_empty() {
        // Objects that never had owners stay without; their first apply gives them one.
        return;
    }
    let live = old.unwrap_or_else(|| schema.empty_object());
    let managed = advance(managed, live, new, manager, schema, now);
    managed.write(new);
}

/// The entries that the update starts from: the request's, unless it has none or may not say.
fn starting_point(old: Option<&Object>, new: &Object, subresource: &str) -> ManagedFields {
    let live = || old.and_then(ManagedFields::read).unwrap_or_default();
    if !subresource.is_empty() {
        return live();
    }
    let sent = new.list(&["metadata", "managedFields"]);
    if sent.len() == 1 && sent[0].as_object().is_some_and(Map::is_empty) {
        return ManagedFields::default();
    }
    ManagedFields::read(new).filter(|managed| !managed.entries.is_empty()).unwrap_or_else(live)
}

/// Gives `manager` what differs between `live` and `new`, and takes it from the others.
pub(super) fn advance(
    mut managed: ManagedFields,
    live: &Object,
    new: &Object,
    manager: Manager<'_>,
    schema: &Schema,
    now: Timestamp,
) -> ManagedFields {
    let difference = compare(live, new, schema);
    if difference.is_same() {
        return managed;
    }
    let changed = without_reset_fields(difference.added.union(&difference.modified), manager.subresource, schema);
    let removed = without_reset_fields(difference.removed, manager.subresource, schema);
    managed.take(&removed.union(&changed), None);
    let mine = strip(changed);
    if !mine.is_empty() {
        let api_version = schema.gvk.api_version();
        let key = EntryKey::new(manager.name, Operation::Update, &api_version, manager.subresource);
        let entry = managed.entries.entry(key).or_insert_with(|| Entry { api_version, time: None, fields: FieldSet::default() });
        entry.fields.extend(&mine);
        entry.time = Some(now);
    }
    managed.cap();
    managed
}

/// Status belongs to its subresource, the rest to the object itself; neither is owned through the other.
pub(super) fn without_reset_fields(set: FieldSet, subresource: &str, schema: &Schema) -> FieldSet {
    match subresource {
        "" if schema.root_struct().field("status").is_some() => set.without(&["f:status"]),
        "status" => set.without(&["f:spec"]).without(&["f:metadata", "f:labels"]),
        _ => set,
    }
}

/// Without the fields that nobody owns.
pub(super) fn strip(fields: FieldSet) -> FieldSet {
    let fields = UNOWNED.iter().fold(fields, |fields, path| fields.without(path));
    fields.difference(&FieldSet::of(&["f:metadata"]))
}
