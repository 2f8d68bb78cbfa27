//! The rules of custom resources in one version: upstream's (`apiextensions-apiserver/pkg/registry/customresource/strategy.go`).

use std::sync::Arc;

use serde_json::Value;

use super::cells::{self, Printed};
use crate::{
    meta::{Clock, Object, floats, names},
    resources::{
        Column, Strategy, WriteContext,
        custom::{CustomSchema, Path, Versions},
        resource::{ALL_METADATA, keep_all_but_status},
        scale::ScalePaths,
    },
    status::{FieldError, quoted},
    stored::StoredObject,
};

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// The rules of one version.
pub(super) struct CustomResource {
    pub schema: Arc<CustomSchema>,
    pub with_status: bool,
    pub scale: Option<ScalePaths>,
    pub columns: Vec<Printed>,
    pub versions: Arc<Versions>,
    /// What every version can be selected by, and where it stands.
    pub selectable: Arc<[(Arc<str>, Path)]>,
}

impl CustomResource {
    /// What is wrong with an update by everything but expressions.
    fn faults_of_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        let (rules, value, before) = (self.schema.rules(), new.clone().into_value(), old.clone().into_value());
        let mut errors = if subresource == "status" { rules.check_field(&value, &before, "status") } else { rules.check_update(&value, &before) };
        let mut counts = self.scale_faults(new, subresource);
        if !counts.is_empty() {
            let known = self.scale_faults(old, subresource);
            counts.retain(|error| !known.contains(error));
        }
        errors.extend(counts);
        errors
    }

    fn scale_faults(&self, object: &Object, subresource: &str) -> Vec<FieldError> {
        let Some(paths) = &self.scale else { return Vec::new() };
        let mut errors = Vec::new();
        let own: &[&Path] = if subresource == "status" { &[&paths.status_replicas] } else { &[&paths.spec_replicas, &paths.status_replicas] };
        for path in own {
            let names = path.names().unwrap_or_default();
            let field = names.iter().map(|name| format!(".{name}")).collect::<String>();
            match object.get(&names) {
                Some(Value::Number(number)) if number.as_i64().is_some() => {
                    let count = number.as_i64().unwrap_or_default();
                    if count < 0 {
                        errors.push(FieldError::invalid(field, count, "should be a non-negative integer"));
                    } else if count > i64::from(i32::MAX) {
                        errors.push(FieldError::invalid(field, count, format!("should be less than or equal to {}", i32::MAX)));
                    }
                }
                None => {}
                Some(other) => {
                    let detail = format!("{field} accessor error: {}, expected int64", mistaken(other));
                    errors.push(FieldError::invalid(field, 0, detail));
                }
            }
        }
        errors
    }
}

/// A value as Go's accessors show it where they wanted another: `9.2e+18 is of the type float64`.
fn mistaken(value: &Value) -> String {
    let (shown, name) = match value {
        Value::Number(number) => (floats::shortest(number.as_f64().unwrap_or_default()), "float64"),
        Value::String(text) => (quoted(text).into_owned(), "string"),
        Value::Bool(flag) => (flag.to_string(), "bool"),
        Value::Null => ("<nil>".to_owned(), "<nil>"),
        Value::Array(_) => (quoted(&value.to_string()).into_owned(), "[]interface {}"),
        Value::Object(_) => (quoted(&value.to_string()).into_owned(), "map[string]interface {}"),
    };
    format!("{shown} is of the type {name}")
}

impl Strategy for CustomResource {
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        if self.with_status {
            object.remove(&["status"]);
            // Upstream puts the defaults of a status in when it reads what it wrote. No more of them than an object may hold go in.
            self.schema.schema().apply_defaults(object);
        }
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            return keep_all_but_status(new, old);
        }
        if self.with_status {
            match old.get(&["status"]) {
                Some(status) => new.set(&["status"], status.clone()),
                None => drop(new.remove(&["status"])),
            }
        }
    }

    fn spec_changed(&self, new: &Object, old: &Object) -> bool {
        let differ = |one: &Object, other: &Object| {
            let mut fields = one.root().iter().filter(|(name, _)| !matches!(name.as_str(), "metadata" | "kind" | "apiVersion"));
            fields.any(|(name, value)| other.root().get(name) != Some(value))
        };
        differ(new, old) || differ(old, new)
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = self.schema.rules().check(&object.clone().into_value());
        errors.extend(self.scale_faults(object, ""));
        // That the name is missing is told of with the rest of the metadata, and holds expressions back as upstream.
        let mut known = errors.clone();
        if object.name().is_empty() {
            known.push(FieldError::required("metadata.name", ""));
        }
        errors.extend(self.schema.validations().check(object.root(), None, &known).errors);
        errors
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        self.judge_update(new, old, subresource, &mut Vec::new())
    }

    fn judge_update(&self, new: &Object, old: &Object, subresource: &str, warnings: &mut Vec<String>) -> Vec<FieldError> {
        let mut errors = self.faults_of_update(new, old, subresource);
        let judgement = self.schema.validations().check(new.root(), Some(old.root()), &errors);
        errors.extend(judgement.errors);
        warnings.extend(judgement.tolerated.iter().map(ToString::to_string));
        errors
    }

    /// Rules know themselves what did not change.
    fn tolerated(&self, _old: &Object) -> Vec<FieldError> {
        Vec::new()
    }

    fn takes_any_finalizer(&self) -> bool {
        true
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        let finalizers = object.list(&["metadata", "finalizers"]).iter().filter_map(Value::as_str);
        finalizers.filter_map(finalizer_warning).collect()
    }

    fn versions(&self) -> Option<&Versions> {
        Some(&self.versions)
    }

    fn read(&self, object: &StoredObject) -> Option<Object> {
        let stored = object.to_object();
        let mut read = stored.clone();
        self.versions.form(&mut read);
        (read != stored).then_some(read)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        let (_, steps) = self.selectable.iter().find(|(known, _)| **known == *path)?;
        let found = object.get(&steps.names()?);
        Some(match found {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        })
    }

    fn scale_paths(&self) -> Option<&ScalePaths> {
        self.scale.as_ref()
    }

    fn columns(&self) -> Vec<Column> {
        cells::columns(&self.columns)
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        cells::cells(&self.columns, object, clock)
    }
}

fn finalizer_warning(finalizer: &str) -> Option<String> {
    if finalizer.contains('/') || STANDARD_FINALIZERS.contains(&finalizer) || !names::qualified(finalizer).is_empty() {
        return None;
    }
    let domain = if finalizer.contains('.') { "a domain-qualified finalizer name including a path (/)" } else { "a domain-qualified finalizer name" };
    Some(format!("metadata.finalizers: {finalizer:?}: prefer {domain} to avoid accidental conflicts with other finalizer writers"))
}
