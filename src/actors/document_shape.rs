//! Which fields a configuration has, and of what type: strict decoding as upstream's.

use serde_json::Value;

/// What stands at a place.
#[derive(Debug)]
pub enum Shape {
    Text,
    Bool,
    Int32,
    Int64,
    Number,
    /// Such as `1m30s`.
    Duration,
    /// Read apart.
    Any,
    /// Texts by text.
    Map,
    /// Lists of texts by text.
    Lists,
    List(&'static Shape),
    Object(&'static [(&'static str, &'static Shape)]),
}

pub const TEXTS: Shape = Shape::List(&Shape::Text);

/// Notes the paths of fields that there are not.
///
/// # Errors
/// What is of another type.
pub fn check(value: &Value, shape: &Shape, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    match (shape, value) {
        (_, Value::Null) | (Shape::Any, _) => Ok(()),
        (Shape::Object(fields), Value::Object(given)) => given.iter().try_for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match fields.iter().find(|(known, _)| known == name) {
                Some((_, shape)) => check(value, shape, &path, unknown),
                None => {
                    unknown.push(path);
                    Ok(())
                }
            }
        }),
        (Shape::List(shape), Value::Array(items)) => {
            items.iter().enumerate().try_for_each(|(at, item)| check(item, shape, &format!("{path}[{at}]"), unknown))
        }
        (Shape::Map, Value::Object(given)) => {
            given.iter().try_for_each(|(key, value)| check(value, &Shape::Text, &format!("{path}[{key}]"), unknown))
        }
        (Shape::Lists, Value::Object(given)) => given.iter().try_for_each(|(key, value)| check(value, &TEXTS, &format!("{path}[{key}]"), unknown)),
        (Shape::Duration, Value::String(text)) => troupe_api::expressions::go_duration(text).map(drop).map_err(|why| format!("{path}: {why}")),
        (shape, value) if fits(shape, value) => Ok(()),
        (shape, value) => Err(format!("{path}: expected {}, found {value}", name_of(shape))),
    }
}

fn fits(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Text => value.is_string(),
        Shape::Bool => value.is_boolean(),
        Shape::Int32 => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Shape::Int64 => value.as_i64().is_some(),
        Shape::Number => value.is_number(),
        _ => false,
    }
}

fn name_of(shape: &Shape) -> &'static str {
    match shape {
        Shape::Text => "a string",
        Shape::Bool => "true or false",
        Shape::Int32 => "a whole number of 32 bits",
        Shape::Int64 => "a whole number",
        Shape::Number => "a number",
        Shape::Duration => "a duration",
        Shape::List(_) => "a list",
        Shape::Map | Shape::Lists | Shape::Object(_) | Shape::Any => "an object",
    }
}

/// Upstream's words about fields that there are not.
pub fn strict_error(unknown: &[String]) -> String {
    let fields: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    format!("strict decoding error: {}", fields.join(", "))
}
