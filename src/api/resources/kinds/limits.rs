//! Limit ranges and resource quotas.

use serde_json::{Value, json};

use super::{created_at_cells, created_at_columns, split_update};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        int_or_string::display,
        printing::{age, name, string},
        resource::age_of,
        tree::{Fields, each},
        validation::{limit_range, quota, warnings},
    },
    status::FieldError,
};

/// The rules of limit ranges.
#[derive(Default)]
pub struct LimitRange;

impl Strategy for LimitRange {
    fn default_object(&self, object: &mut Object) {
        each(object.map_mut(&["spec"]), "limits", |item| {
            if item.get("type").is_some_and(|kind| kind == "Container") {
                inherit(item, "max", "default");
                inherit(item, "default", "defaultRequest");
                inherit(item, "min", "defaultRequest");
            }
        });
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        limit_range::limit_range(object)
    }

    fn columns(&self) -> Vec<Column> {
        created_at_columns()
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        created_at_cells(object)
    }
}

/// Amounts of `from` that `to` lacks.
fn inherit(item: &mut Fields, from: &str, to: &str) {
    let Some(Value::Object(amounts)) = item.get(from).cloned() else { return };
    let target = item.entry(to).or_insert_with(|| json!({}));
    for (name, amount) in amounts {
        if let Some(target) = target.as_object_mut() {
            target.entry(name).or_insert(amount);
        }
    }
}

/// The rules of resource quotas.
#[derive(Default)]
pub struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        super::empty_status(object);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        quota::quota(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { quota::quota_status(new) } else { quota::quota_update(new, old) }
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::quota(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Request", "Request represents a minimum amount of cpu/memory that a container may consume."),
            string("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let hard = object.get(&["status", "hard"]).and_then(Value::as_object).cloned().unwrap_or_default();
        let mut names: Vec<&String> = hard.keys().collect();
        names.sort();
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for name in names {
            let used = object.get(&["status", "used", name]).map_or("0".to_owned(), display);
            let line = format!("{name}: {used}/{}", display(&hard[name]));
            if name.starts_with("limits.") { limits.push(line) } else { requests.push(line) }
        }
        vec![object.name().into(), requests.join(", ").into(), limits.join(", ").into(), age_of(object, clock).into()]
    }
}
