//! Storage version migrations.

use serde_json::Value;

use super::{empty_status, keep_status};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{name, string},
        resource::{ALL_METADATA, keep_all_but_status},
        tree::text,
        validation::storage_migration,
    },
    status::FieldError,
};

/// The rules of storage version migrations.
#[derive(Default)]
pub struct StorageVersionMigration;

impl Strategy for StorageVersionMigration {
    fn has_generation(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        empty_status(object);
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        match context.subresource {
            "status" => keep_all_but_status(new, old),
            _ => keep_status(new, old),
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        storage_migration::migration(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { storage_migration::status(new, old) } else { storage_migration::update(new, old) }
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("Resource", "GroupResource to migrate"), string("Status", "Status of the migration")]
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        let (group, plural) = (object.str(&["spec", "resource", "group"]), object.str(&["spec", "resource", "resource"]));
        let resource = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        let holds =
            |condition: &&Value| text(condition, &["status"]) == "True" && ["Running", "Failed", "Succeeded"].contains(&text(condition, &["type"]));
        let last = object.list(&["status", "conditions"]).iter().rfind(holds);
        vec![object.name().into(), resource.into(), last.map_or("Unknown", |condition| text(condition, &["type"])).into()]
    }
}
