//! What is shown and selected of objects, and where their scale stands: paths into them.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use crate::{
    resources::{
        custom::paths,
        tree::{items, text},
        validation::Field,
    },
    status::FieldError,
};

const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MOST_SELECTABLE: usize = 8;

/// Columns of tables.
pub(super) fn printed(errors: &mut Vec<FieldError>, columns: &Field<'_>) {
    for column in columns.each() {
        column.child("name").check_required(errors);
        let (kind, format) = (column.child("type"), column.child("format"));
        let types = format!("must be one of {}", TYPES.join(","));
        if kind.text().is_empty() {
            errors.push(kind.required(types));
        } else if !TYPES.contains(&kind.text()) {
            errors.push(kind.invalid(types));
        }
        if !format.text().is_empty() && !FORMATS.contains(&format.text()) {
            errors.push(format.invalid(format!("must be one of {}", FORMATS.join(","))));
        }
        let path = column.child("jsonPath").value;
        let shown = column.child("JSONPath");
        let shown = shown.with(path);
        if shown.text().is_empty() {
            errors.push(shown.required(""));
        } else {
            simple_path(errors, &shown);
        }
    }
}

/// Whether a path begins as all do.
fn simple_path(errors: &mut Vec<FieldError>, path: &Field<'_>) -> bool {
    let is_simple = path.text().starts_with('.');
    if !is_simple {
        errors.push(path.invalid("must be a simple json path starting with ."));
    }
    is_simple
}

/// Where replicas and selector of a scale stand.
pub(super) fn subresources(errors: &mut Vec<FieldError>, subresources: &Field<'_>) {
    let scale = subresources.child("scale");
    if !scale.is_set() {
        return;
    }
    for (name, below, words) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."][..], "should be a json path under .status"),
        ("labelSelectorPath", &[".spec.", ".status."][..], "should be a json path under either .spec or .status"),
    ] {
        let path = scale.child(name);
        if path.text().is_empty() {
            if name != "labelSelectorPath" {
                errors.push(path.required(""));
            }
        } else if simple_path(errors, &path) && !below.iter().any(|prefix| path.text().starts_with(prefix)) {
            errors.push(path.invalid(words));
        }
    }
}

/// Fields that can be selected by: scalars of the object's own, each once.
pub(super) fn selectable(errors: &mut Vec<FieldError>, fields: &Field<'_>, schema: &Value, may_be_many: bool) {
    const SCALAR: &str = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
    let mut seen = BTreeSet::new();
    for field in fields.each() {
        let path = field.child("jsonPath");
        if path.text().is_empty() {
            errors.push(path.required(""));
            continue;
        }
        let found = match paths::resolve(path.text(), schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(path.invalid(format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.names.first().is_some_and(|root| root == "metadata") {
            errors.push(path.invalid("must not point to fields in metadata"));
        }
        if !["string", "boolean", "integer"].contains(&text(found.schema, &["type"])) {
            errors.push(path.invalid(SCALAR));
        }
        if !seen.insert(found.names) {
            errors.push(path.duplicate());
        }
    }
    if seen.len() > MOST_SELECTABLE && !may_be_many {
        errors.push(FieldError::too_many(*fields, seen.len(), MOST_SELECTABLE));
    }
}

/// The versions that had too many selectable fields and have the same now; "" where all share them.
pub(super) fn unchanged_beyond_limit(spec: &Value, before: &Value) -> HashSet<String> {
    let unchanged = |new: &Value, old: &Value| {
        let (new, old) = (items(new, &["selectableFields"]), items(old, &["selectableFields"]));
        old.len() > MOST_SELECTABLE && new == old
    };
    let mut kept: HashSet<String> = unchanged(spec, before).then(String::new).into_iter().collect();
    let old_versions: HashMap<&str, &Value> = items(before, &["versions"]).iter().map(|version| (text(version, &["name"]), version)).collect();
    for version in items(spec, &["versions"]) {
        let name = text(version, &["name"]);
        if old_versions.get(name).is_some_and(|old| unchanged(version, old)) {
            kept.insert(name.to_owned());
        }
    }
    kept
}
