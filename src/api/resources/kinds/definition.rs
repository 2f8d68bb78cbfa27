//! Custom resource definitions; their controllers own the status.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{created_at_cells, created_at_columns, split_update};
use crate::{
    formats,
    meta::{Clock, Object, time::format_time},
    resources::{
        Column, Strategy, WriteContext,
        tree::{at, child, descend, fill, flag, items, text},
        validation::definition,
    },
    status::FieldError,
};

/// What keeps a definition until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The rules of custom resource definitions.
#[derive(Default)]
pub struct CustomResourceDefinition;

impl Strategy for CustomResourceDefinition {
    fn takes_any_finalizer(&self) -> bool {
        true
    }

    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        if let Some(names) = child(spec, "names") {
            let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
            fill(names, "singular", kind.to_lowercase());
            if !kind.is_empty() {
                fill(names, "listKind", format!("{kind}List"));
            }
        }
        fill(spec, "conversion", json!({"strategy": "None"}));
        if let Some(service) = descend(spec, &["conversion", "webhook", "clientConfig", "service"]) {
            fill(service, "port", 443);
        }
        if object.list(&["status", "storedVersions"]).is_empty() {
            store_in_storage_version(object);
        }
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.set(&["status"], json!({}));
        store_in_storage_version(object);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
        if context.subresource.is_empty() {
            store_in_storage_version(new);
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        definition::create(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { definition::status(new) } else { definition::update(new, old) }
    }

    fn begin_deletion(&self, object: &mut Object, now: jiff::Timestamp) {
        let mut finalizers = object.list(&["metadata", "finalizers"]).to_vec();
        if !finalizers.iter().any(|finalizer| finalizer == CLEANUP_FINALIZER) {
            finalizers.push(CLEANUP_FINALIZER.into());
            object.set(&["metadata", "finalizers"], finalizers);
        }
        let mut conditions = object.list(&["status", "conditions"]).to_vec();
        conditions.retain(|condition| text(condition, &["type"]) != "Terminating");
        conditions.push(json!({
            "type": "Terminating", "status": "True", "lastTransitionTime": format_time(now), "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        }));
        object.set(&["status", "conditions"], conditions);
    }

    fn warnings_on_create(&self, object: &Object) -> Vec<String> {
        let mut formats = BTreeSet::new();
        for version in object.list(&["spec", "versions"]) {
            unknown_formats(at(version, &["schema", "openAPIV3Schema"]), &mut formats);
        }
        formats.iter().map(|format| format!("unrecognized format {format:?}")).collect()
    }

    fn columns(&self) -> Vec<Column> {
        created_at_columns()
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        created_at_cells(object)
    }
}

/// The formats in a schema that say nothing there, each once.
fn unknown_formats<'a>(schema: &'a Value, found: &mut BTreeSet<&'a str>) {
    if !schema.is_object() {
        return;
    }
    let format = text(schema, &["format"]);
    let is_known = match text(schema, &["type"]) {
        // Any text is a password.
        "" | "string" => format == "password" || formats::format(format).is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    };
    if !format.is_empty() && !is_known {
        found.insert(format);
    }
    for name in ["items", "not", "additionalProperties"] {
        unknown_formats(at(schema, &[name]), found);
    }
    for name in ["allOf", "oneOf", "anyOf"] {
        items(schema, &[name]).iter().for_each(|one| unknown_formats(one, found));
    }
    at(schema, &["properties"]).as_object().into_iter().flatten().for_each(|(_, one)| unknown_formats(one, found));
}

/// Notes that objects are stored in the version that is for that.
fn store_in_storage_version(object: &mut Object) {
    let versions = object.list(&["spec", "versions"]);
    let Some(version) = versions.iter().find(|version| flag(version, &["storage"])).map(|version| text(version, &["name"]).to_owned()) else {
        return;
    };
    let mut stored = object.list(&["status", "storedVersions"]).to_vec();
    if !stored.iter().any(|known| *known == version) {
        stored.push(version.into());
        object.set(&["status", "storedVersions"], stored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_say_nothing_are_told() {
        let properties = json!({
            "quantity": {"type": "string", "format": "quantity"}, "day": {"type": "string", "format": "date"}, "secret": {"format": "password"},
            "list": {"type": "array", "items": {"type": "integer", "format": "int16"}}, "map": {"additionalProperties": {"format": "quantity"}},
        });
        let version = json!({"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}});
        let object = Object::from_value(json!({"spec": {"versions": [version]}})).expect("an object");
        let warnings = CustomResourceDefinition.warnings_on_create(&object);
        assert_eq!(warnings, ["unrecognized format \"int16\"", "unrecognized format \"quantity\""]);
    }
}
