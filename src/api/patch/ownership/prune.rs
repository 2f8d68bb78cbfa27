//! What an applier no longer applies goes, unless somebody else owns it. Each manager's fields are looked at in the version it speaks.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use serde_json::Value;

use super::{
    entries::{Entry, ManagedFields},
    fieldset::field_set,
    remove::remove,
    set::FieldSet,
    versions::{Speaking, Spoken, Unconverted},
};
use crate::{meta::Object, schema::Schema, status::Status};

/// Removes from `merged` what the manager applied `last`, does not apply now, and nobody else owns: what was applied is told in the version
/// that it was applied in.
///
/// # Errors
/// Where the object is not known in one of the versions.
pub(super) fn prune(speaking: Speaking<'_>, merged: Value, managed: &ManagedFields, last: &Entry) -> Result<Value, Unconverted> {
    let Some(whole) = at(speaking, &object(&merged)?, &last.api_version)? else { return Ok(merged) };
    let applied = whole.named(&last.fields);
    let mut kept = whole.with(remove(&whole.value, &applied, &whole.schema.root));
    let mut all = whole.clone();
    for (api_version, owned) in owned_by_version(speaking, managed, &last.api_version) {
        let (Some(there), Some(left)) = (at(speaking, &all.object()?, &api_version)?, at(speaking, &kept.object()?, &api_version)?) else {
            continue;
        };
        let keep = left.set().union(&there.named(&owned));
        kept = there.with(remove(&there.value, &there.set().difference(&keep), &there.schema.root));
        all = there;
    }
    let Some(kept) = at(speaking, &kept.object()?, &last.api_version)? else { return Ok(merged) };
    let gone = whole.set().difference(&kept.set());
    let pruned = whole.with(remove(&whole.value, &gone.intersection(&applied), &whole.schema.root));
    let own = at(speaking, &pruned.object()?, &speaking.schema.gvk.api_version())?;
    Ok(own.map_or(pruned.value, |own| own.value))
}

/// What all managers own, by the version they speak: first that in which something is removed, so that what other versions need to be made
/// of the object is there again.
fn owned_by_version(speaking: Speaking<'_>, managed: &ManagedFields, first: &str) -> Vec<(String, FieldSet)> {
    let mut owned: BTreeMap<String, FieldSet> = BTreeMap::new();
    for entry in managed.entries.values() {
        // Entries of versions that are gone own nothing.
        let Some(api_version) = speaking.resolved(&entry.api_version) else { continue };
        owned.entry(api_version).or_default().extend(&entry.fields);
    }
    let first = speaking.resolved(first);
    let mut owned: Vec<_> = owned.into_iter().collect();
    owned.sort_by_key(|(api_version, _)| Some(api_version) != first.as_ref());
    owned
}

fn object(value: &Value) -> Result<Object, Unconverted> {
    Object::from_value(value.clone()).ok_or_else(|| Status::internal("an applied object is no object").into())
}

/// An object in another version; nothing where that is gone.
fn at<'a>(speaking: Speaking<'a>, object: &Object, api_version: &str) -> Result<Option<Versioned<'a>>, Unconverted> {
    let schema = match speaking.spoken(api_version) {
        Spoken::Gone => return Ok(None),
        Spoken::Same => SchemaRef::Own(speaking.schema),
        Spoken::Other(schema) => SchemaRef::Other(schema),
    };
    let value = speaking.shown(object, &schema.gvk.api_version())?.into_value();
    Ok(Some(Versioned { value, schema }))
}

#[derive(Clone)]
enum SchemaRef<'a> {
    Own(&'a Schema),
    Other(Arc<Schema>),
}

impl Deref for SchemaRef<'_> {
    type Target = Schema;

    fn deref(&self) -> &Schema {
        match self {
            SchemaRef::Own(schema) => schema,
            SchemaRef::Other(schema) => schema,
        }
    }
}

/// A tree and the schema of its version.
#[derive(Clone)]
struct Versioned<'a> {
    value: Value,
    schema: SchemaRef<'a>,
}

impl Versioned<'_> {
    /// Another tree of the same version.
    fn with(&self, value: Value) -> Self {
        Versioned { value, schema: self.schema.clone() }
    }

    fn object(&self) -> Result<Object, Unconverted> {
        object(&self.value)
    }

    fn named(&self, set: &FieldSet) -> FieldSet {
        set.with_named_fields(Some(&self.schema.root))
    }

    /// All that the tree sets.
    fn set(&self) -> FieldSet {
        self.named(&field_set(&self.value, &self.schema.root))
    }
}
