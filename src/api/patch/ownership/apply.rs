//! Server-side apply: the applied object is all that its manager wants; the rest is others' or goes.

use std::ops::ControlFlow;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Manager,
    compare::compare,
    entries::{Entry, EntryKey, ManagedFields, Operation},
    fieldset::field_set,
    merge::merge,
    prune::prune,
    set::FieldSet,
    update::{advance, strip, without_reset_fields},
    versions::{OneVersion, Speaking, Unconverted, Versions},
};
use crate::{
    meta::Object,
    schema::{Schema, strict},
    status::{Reason, Status, StatusCause},
};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// No more conflicts are told one by one, nor beyond so much text of their paths.
const MOST_CONFLICTS: usize = 1000;
const MOST_CONFLICT_TEXT: usize = 64 << 10;
/// Who owns the fields of an object that nobody tracked before its first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The same as [`apply_across`] where all managers speak one version.
///
/// # Errors
/// As there.
pub fn apply(current: Option<&Object>, patch: &Object, manager: Manager<'_>, force: bool, schema: &Schema, now: Timestamp) -> Result<Object, Status> {
    apply_across(current, patch, manager, force, (schema, &OneVersion), now).map_err(|why| match why {
        Unconverted::Failed(status) => status,
        // One version is always known.
        Unconverted::NotYet => Status::internal("an object is not there in its own version"),
    })
}

/// Applies `patch` (from [`crate::patch::decode_apply`]) to `current`, or creates the object if there is none.
/// The result is canonical and carries its managedFields, but no defaults. Without `force`, fields that others own with
/// another value give a 409 with one `FieldManagerConflict` cause each.
///
/// # Errors
/// The conflicts, what is wrong with the patch, and where the object is not known in another version.
pub fn apply_across(
    current: Option<&Object>,
    patch: &Object,
    manager: Manager<'_>,
    force: bool,
    (schema, versions): (&Schema, &dyn Versions),
    now: Timestamp,
) -> Result<Object, Unconverted> {
    let speaking = Speaking { schema, versions };
    check_patch(patch, schema)?;
    let live = current.unwrap_or_else(|| schema.empty_object());
    let mut managed = ManagedFields::read(live).ok_or_else(|| Status::internal("failed to decode managed fields"))?;
    if managed.entries.is_empty() && current.is_some() {
        let before = Manager { name: BEFORE_FIRST_APPLY, ..manager };
        managed = advance(managed, schema.empty_object(), live, before, speaking, now)?;
    }
    let applier = Applier { live, patch, manager, schema, speaking };
    let (object, mut managed, changed) = match applier.run(managed.clone(), force)? {
        Ok(done) => done,
        Err(conflicts) => {
            let conflicts = applier.unexpected(conflicts);
            if !conflicts.is_empty() {
                return Err(conflict_status(&conflicts).into());
            }
            applier.run(managed, true)?.map_err(|conflicts| conflict_status(&conflicts))?
        }
    };
    let key = applier.key();
    if let Some(entry) = managed.entries.get_mut(&key)
        && (changed || entry.time.is_none())
    {
        entry.time = Some(now);
    }
    let mut object = object;
    if manager.name == "kubectl" && object.annotation(LAST_APPLIED).is_some_and(|text| !text.is_empty()) {
        object.set(&["metadata", "annotations", LAST_APPLIED], last_applied(patch));
    }
    managed.write(&mut object);
    Ok(object)
}

fn check_patch(patch: &Object, schema: &Schema) -> Result<(), Status> {
    let expected = schema.gvk.api_version();
    if patch.api_version() != expected {
        let text = format!("Incorrect version specified in apply patch. Specified patch version: {}, expected: {expected}", patch.api_version());
        return Err(Status::bad_request(text));
    }
    if patch.get(&["metadata", "managedFields"]).is_some_and(|managed| !managed.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// An object's tree without its managedFields.
fn value_of(object: &Object) -> Value {
    let mut object = object.clone();
    object.remove(&["metadata", "managedFields"]);
    object.into_value()
}

/// The annotation that client-side apply reads.
fn last_applied(patch: &Object) -> String {
    let mut patch = patch.clone();
    patch.remove(&["metadata", "annotations", LAST_APPLIED]);
    format!("{}\n", patch.into_value())
}

/// Another manager's fields that an apply would change.
type Conflicts = Vec<(EntryKey, FieldSet)>;
/// The new object, its entries, and whether the object differs from the live one.
type Applied = (Object, ManagedFields, bool);

struct Applier<'a> {
    live: &'a Object,
    patch: &'a Object,
    manager: Manager<'a>,
    schema: &'a Schema,
    speaking: Speaking<'a>,
}

impl Applier<'_> {
    fn key(&self) -> EntryKey {
        EntryKey::new(self.manager.name, Operation::Apply, "", self.manager.subresource)
    }

    fn run(&self, mut managed: ManagedFields, force: bool) -> Result<Result<Applied, Conflicts>, Unconverted> {
        let node = &self.schema.root;
        let patch = value_of(self.patch);
        let merged = merge(value_of(self.live), &patch, node);
        let set = without_reset_fields(field_set(&patch, node), self.manager, self.schema);
        let entry = Entry { api_version: self.schema.gvk.api_version(), time: None, fields: set };
        let last = managed.entries.insert(self.key(), entry);
        if let Some(entry) = managed.entries.get_mut(&self.key()) {
            entry.time = last.as_ref().and_then(|last| last.time);
        }
        let pruned = match &last {
            Some(last) if !last.fields.is_empty() => prune(self.speaking, merged, &managed, last)?,
            _ => merged,
        };
        let object = self.canonical(pruned)?;
        let difference = compare(self.live, &object, self.schema);
        let own = |set: FieldSet| without_reset_fields(set, self.manager, self.schema);
        let differs = !difference.is_same() && !own(difference.changed().union(&difference.removed)).is_empty();
        let key = self.key();
        let mine = managed.entries.remove(&key);
        let differences = self.speaking.differences(&mut managed, difference, [self.live, &object], false)?;
        managed.entries.extend(mine.map(|mine| (key.clone(), mine)));
        let changed = differences.map(|difference| own(difference.changed()));
        let conflicts: Conflicts = managed
            .entries
            .iter()
            .filter(|(other, _)| **other != key)
            .filter_map(|(other, entry)| Some((other.clone(), entry.fields.intersection(changed.of(&entry.api_version)?))))
            .filter(|(_, fields)| !fields.is_empty())
            .collect();
        if !force && !conflicts.is_empty() {
            return Ok(Err(conflicts));
        }
        let taken = differences.map(|difference| own(difference.changed().union(&difference.removed)));
        managed.take(Some(&key), |api_version| taken.of(api_version));
        if let Some(entry) = managed.entries.get_mut(&key) {
            entry.fields = strip(std::mem::take(&mut entry.fields));
        }
        managed.entries.retain(|_, entry| !entry.fields.is_empty());
        Ok(Ok((object, managed, differs)))
    }

    fn canonical(&self, value: Value) -> Result<Object, Status> {
        let object = Object::from_value(value).ok_or_else(|| Status::internal("an applied object is no object"))?;
        match self.schema.normalise(object) {
            Ok(decoded) => Ok(decoded.object),
            Err(error) => Err(strict::cannot_be_handled(&self.schema.gvk.kind, &self.schema.gvk.version, error)),
        }
    }

    /// The conflicts that are not explained by client-side apply: kubectl may take what its annotation says it set.
    fn unexpected(&self, conflicts: Conflicts) -> Conflicts {
        let annotation = self.live.annotation(LAST_APPLIED).unwrap_or_default();
        let Some(before) = serde_json::from_str::<Value>(annotation).ok().filter(|_| self.manager.name == "kubectl") else { return conflicts };
        if before["apiVersion"] != *self.schema.gvk.api_version() {
            return conflicts;
        }
        let Ok(before) = self.canonical(before) else { return conflicts };
        let since = compare(&before, self.live, self.schema);
        let set = field_set(&value_of(&before), &self.schema.root);
        let allowed = set.difference(&since.modified).difference(&since.added).difference(&since.removed);
        let left = conflicts.into_iter().map(|(key, fields)| (key, fields.difference(&allowed)));
        left.filter(|(_, fields)| !fields.is_empty()).collect()
    }
}

/// A manager as upstream's messages name it.
fn manager_text(key: &EntryKey) -> String {
    let mut text = format!("{:?}", key.manager);
    if !key.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", key.subresource));
    }
    if key.operation == Operation::Update {
        text.push_str(&format!(" using {}", key.api_version));
    }
    text
}

/// The 409 names each field, but no more of them than anybody reads: an object may have as many as it has bytes.
fn conflict_status(conflicts: &Conflicts) -> Status {
    let count: usize = conflicts.iter().map(|(_, fields)| fields.count()).sum();
    let (mut causes, mut lines, mut room) = (Vec::new(), Vec::new(), MOST_CONFLICT_TEXT);
    for (key, fields) in conflicts {
        let manager = manager_text(key);
        lines.push(format!("conflicts with {manager}:"));
        // Beyond what is told there is nothing to do.
        let _ = fields.each_path(&mut |field| {
            if causes.len() == MOST_CONFLICTS || (room < field.len() && !causes.is_empty()) {
                return ControlFlow::Break(());
            }
            room = room.saturating_sub(field.len());
            lines.push(format!("- {field}"));
            causes.push(StatusCause { reason: "FieldManagerConflict".into(), message: format!("conflict with {manager}"), field });
            ControlFlow::Continue(())
        });
    }
    if count > causes.len() {
        lines.push(format!("- and {} more", count - causes.len()));
    }
    let message = match causes.as_slice() {
        [one] if count == 1 => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        _ => format!("Apply failed with {count} conflicts: {}", lines.join("\n")),
    };
    Status::new(409, Reason::Conflict, message).with_causes(causes)
}
