//! The columns that a definition prints of its objects, and their cells.

use serde_json::Value;

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, ColumnType,
        custom::{Path, path::Budget},
        printing,
    },
};

/// A column and where its cells come from.
#[derive(Clone, Debug)]
pub(super) struct Printed {
    column: Column,
    path: Option<Path>,
}

/// The columns of `additionalPrinterColumns`; without any there is the age.
pub(super) fn printed(columns: &[Value]) -> Vec<Printed> {
    use crate::resources::tree::{int, text};
    if columns.is_empty() {
        let column = Column { kind: ColumnType::Date, ..printing::age() };
        return vec![Printed { column, path: Path::parse(".metadata.creationTimestamp") }];
    }
    let column = |column: &Value| {
        let path = text(column, &["jsonPath"]);
        let described = text(column, &["description"]);
        let description =
            if described.is_empty() { format!("Custom resource definition column (in JSONPath format): {path}") } else { described.into() };
        let kind = match text(column, &["type"]) {
            "integer" => ColumnType::Integer,
            "number" => ColumnType::Number,
            "boolean" => ColumnType::Boolean,
            "date" => ColumnType::Date,
            _ => ColumnType::String,
        };
        Printed {
            column: Column {
                name: text(column, &["name"]).into(),
                kind,
                format: text(column, &["format"]).into(),
                description: description.into(),
                priority: i32::try_from(int(column, &["priority"])).unwrap_or_default(),
            },
            path: Path::parse(path),
        }
    };
    columns.iter().map(column).collect()
}

/// All columns of a table.
pub(super) fn columns(printed: &[Printed]) -> Vec<Column> {
    std::iter::once(printing::name()).chain(printed.iter().map(|printed| printed.column.clone())).collect()
}

/// The cells of one row.
pub(super) fn cells(printed: &[Printed], object: &Object, clock: &dyn Clock) -> Vec<Value> {
    let root = object.clone().into_value();
    let mut budget = Budget::of_row();
    let cell = |printed: &Printed| {
        let found = printed.path.as_ref().and_then(|path| path.first_within(&root, &mut budget));
        found.map_or(Value::Null, |found| self::cell(printed.column.kind, found, clock))
    };
    std::iter::once(object.name().into()).chain(printed.iter().map(cell)).collect()
}

/// A value as a cell of its column; null where it is of another type.
fn cell(kind: ColumnType, value: &Value, clock: &dyn Clock) -> Value {
    match (kind, value) {
        // As Go prints a null that is there.
        (ColumnType::String, Value::Null) => "<no value>".into(),
        (_, Value::Null) => Value::Null,
        (ColumnType::String, Value::String(text)) => text.as_str().into(),
        (ColumnType::String, other) => other.to_string().into(),
        // As Go does: what is behind the point goes.
        (ColumnType::Integer, Value::Number(number)) => number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)).into(),
        (ColumnType::Number, Value::Number(_)) | (ColumnType::Boolean, Value::Bool(_)) => value.clone(),
        (ColumnType::Date, Value::String(time)) => match crate::meta::time::parse_time(time) {
            Ok(_) => printing::since(time, clock).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}
