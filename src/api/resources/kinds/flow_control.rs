//! Flow schemas and priority levels.

use serde_json::{Value, json};

use super::{created_at_cells, empty_status, keep_status};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, or_none, string},
        resource::{ALL_METADATA, age_of, keep_all_but_status},
        tree::{at, child, descend, fill, fill_zero, text},
        validation::flow_control,
    },
    status::FieldError,
};

/// The rules of flow schemas.
#[derive(Default)]
pub struct FlowSchema;

impl Strategy for FlowSchema {
    fn default_object(&self, object: &mut Object) {
        fill_zero(object.map_mut(&["spec"]), "matchingPrecedence", 1000);
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        empty_status(object);
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        update(new, old, context);
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        flow_control::schema(object)
    }

    fn validate_update(&self, new: &Object, _old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { flow_control::status(new) } else { flow_control::schema(new) }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("PriorityLevel", "The priority level that matching requests get."),
            string("MatchingPrecedence", "Which schema wins where several match; the lowest does."),
            string("DistinguisherMethod", "How requests are divided into flows."),
            age(),
            string("MissingPL", "references a broken or non-existent PriorityLevelConfiguration"),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let dangling = object.list(&["status", "conditions"]).iter().find(|condition| text(condition, &["type"]) == "Dangling");
        vec![
            object.name().into(),
            object.str(&["spec", "priorityLevelConfiguration", "name"]).into(),
            object.int(&["spec", "matchingPrecedence"]).unwrap_or(0).into(),
            or_none(object.str(&["spec", "distinguisherMethod", "type"])).into(),
            age_of(object, clock).into(),
            dangling.map_or("?", |condition| text(condition, &["status"])).into(),
        ]
    }
}

/// Status updates of these kinds touch nothing in metadata.
fn update(new: &mut Object, old: &Object, context: &WriteContext<'_>) {
    match context.subresource {
        "status" => keep_all_but_status(new, old),
        _ => keep_status(new, old),
    }
}

/// The rules of priority level configurations.
#[derive(Default)]
pub struct PriorityLevel;

impl Strategy for PriorityLevel {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        if let Some(limited) = child(spec, "limited") {
            fill(limited, "nominalConcurrencyShares", 30);
            fill(limited, "lendablePercent", 0);
            if let Some(queuing) = descend(limited, &["limitResponse", "queuing"]) {
                fill_zero(queuing, "handSize", 8);
                fill_zero(queuing, "queues", 64);
                fill_zero(queuing, "queueLengthLimit", 50);
            }
        }
        if spec.get("type").is_some_and(|kind| kind == "Exempt") {
            fill(spec, "exempt", json!({}));
        }
        if let Some(exempt) = child(spec, "exempt") {
            fill(exempt, "nominalConcurrencyShares", 0);
            fill(exempt, "lendablePercent", 0);
        }
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        empty_status(object);
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        update(new, old, context);
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        flow_control::level(object)
    }

    fn validate_update(&self, new: &Object, _old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { flow_control::status(new) } else { flow_control::level(new) }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Type", "Whether requests of this level are limited."),
            string("NominalConcurrencyShares", "The level's share of the server's capacity."),
            string("Queues", "The number of queues."),
            string("HandSize", "How many queues a flow is dealt."),
            string("QueueLengthLimit", "How many requests wait in a queue at most."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let number = |path: &[&str]| at(spec, path).as_i64().map_or("<none>".into(), Value::from);
        let mut cells = created_at_cells(object);
        cells[1] = text(spec, &["type"]).into();
        let shares = if text(spec, &["type"]) == "Limited" { "limited" } else { "exempt" };
        cells.push(number(&[shares, "nominalConcurrencyShares"]));
        for field in ["queues", "handSize", "queueLengthLimit"] {
            cells.push(number(&["limited", "limitResponse", "queuing", field]));
        }
        cells.push(age_of(object, clock).into());
        cells
    }
}
