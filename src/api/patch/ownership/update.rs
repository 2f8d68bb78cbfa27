//! Ownership through creates, updates and patches: the writer takes over what it changed.

use jiff::Timestamp;
use serde_json::Map;

use super::{
    Manager,
    compare::compare,
    entries::{Entry, EntryKey, ManagedFields, Operation},
    set::FieldSet,
    versions::{OneVersion, Speaking, Unconverted, Versions},
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

/// The same as [`track_across`] where all managers speak one version.
pub fn track_update(old: Option<&Object>, new: &mut Object, manager: Manager<'_>, schema: &Schema, now: Timestamp) {
    // One version is always known.
    let _ = track_across(old, new, manager, schema, &OneVersion, now);
}

/// Brings `new`'s managedFields up to date for a create (`old` is `None`), an update or a patch by `manager`.
/// `new` is the object as it will be stored: defaulted and prepared. Malformed entries are forgotten; entries in a version that the object
/// cannot be shown in stay as they are.
///
/// # Errors
/// [`Unconverted::NotYet`] while conversions are missing; `new` is as it was then.
pub fn track_across(
    old: Option<&Object>,
    new: &mut Object,
    manager: Manager<'_>,
    schema: &Schema,
    versions: &dyn Versions,
    now: Timestamp,
) -> Result<(), Unconverted> {
    let managed = starting_point(old, new, manager.subresource);
    let sent = new.remove(&["metadata", "managedFields"]);
    if old.is_some() && managed.entries.is_empty() {
        // Objects that never had owners stay without; their first apply gives them one.
        return Ok(());
    }
    let live = old.unwrap_or_else(|| schema.empty_object());
    match advance(managed, live, new, manager, Speaking { schema, versions }, now) {
        Ok(managed) => managed.write(new),
        Err(why) => {
            if let Some(sent) = sent {
                new.set(&["metadata", "managedFields"], sent);
            }
            return Err(why);
        }
    }
    Ok(())
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
    speaking: Speaking<'_>,
    now: Timestamp,
) -> Result<ManagedFields, Unconverted> {
    let schema = speaking.schema;
    let difference = compare(live, new, schema);
    if difference.is_same() {
        return Ok(managed);
    }
    let differences = speaking.differences(&mut managed, difference, [live, new], true)?;
    let taken = differences.map(|difference| without_reset_fields(difference.changed().union(&difference.removed), manager, schema));
    managed.take(None, |api_version| taken.of(api_version));
    let changed = without_reset_fields(differences.own.changed(), manager, schema);
    let mine = strip(changed);
    if !mine.is_empty() {
        let api_version = schema.gvk.api_version();
        let key = EntryKey::new(manager.name, Operation::Update, &api_version, manager.subresource);
        let entry = managed.entries.entry(key).or_insert_with(|| Entry { api_version, time: None, fields: FieldSet::default() });
        entry.fields.extend(&mine);
        entry.time = Some(now);
    }
    managed.cap();
    Ok(managed)
}

/// Status belongs to its subresource, the rest to the object itself; neither is owned through the other.
pub(super) fn without_reset_fields(set: FieldSet, manager: Manager<'_>, schema: &Schema) -> FieldSet {
    match manager.subresource {
        "" if !schema.plain_status && schema.root_struct().field("status").is_some() => set.without(&["f:status"]),
        "status" => manager.status_resets.iter().fold(set.without(&["f:spec"]), |set, path| set.without(path)),
        _ => set,
    }
}

/// Without the fields that nobody owns.
pub(super) fn strip(fields: FieldSet) -> FieldSet {
    let fields = UNOWNED.iter().fold(fields, |fields, path| fields.without(path));
    fields.difference(&FieldSet::of(&["f:metadata"]))
}
