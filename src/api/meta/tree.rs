//! Small steps on JSON trees that defaulting, printing and validation share.

use serde_json::{Map, Value};

/// A JSON object's fields.
pub type Fields = Map<String, Value>;

/// Whether a field counts as unset where the API type has no pointer: missing, null or "".
pub fn is_unset(fields: &Fields, name: &str) -> bool {
    match fields.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

/// Sets an unset field.
pub fn fill(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    if is_unset(fields, name) {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Sets a field that is unset or zero.
pub fn fill_zero(fields: &mut Fields, name: &str, value: i64) {
    if is_unset(fields, name) || fields.get(name).and_then(Value::as_i64) == Some(0) {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Sets fields that are missing to null, as Go writes lists and times of which nothing is said and that `omitempty` does not leave out.
pub fn fill_null(fields: &mut Fields, names: &[&str]) {
    for name in names {
        fields.entry(*name).or_insert(Value::Null);
    }
}

/// The object in a field, where there is one.
pub fn child<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fields.get_mut(name)?.as_object_mut()
}

/// The object at a path below `fields`, where there is one.
pub fn descend<'a>(fields: &'a mut Fields, path: &[&str]) -> Option<&'a mut Fields> {
    path.iter().try_fold(fields, |fields, name| child(fields, name))
}

/// Runs `edit` on each object in a list field.
pub fn each(fields: &mut Fields, name: &str, mut edit: impl FnMut(&mut Fields)) {
    for item in fields.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(item) = item.as_object_mut() {
            edit(item);
        }
    }
}

/// The value at a path, or null.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, name| value.get(*name).unwrap_or(&Value::Null))
}

/// The string at a path, or "".
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or("")
}

/// The integer at a path, or 0.
pub fn int(value: &Value, path: &[&str]) -> i64 {
    at(value, path).as_i64().unwrap_or(0)
}

/// The boolean at a path, or false.
pub fn flag(value: &Value, path: &[&str]) -> bool {
    at(value, path).as_bool().unwrap_or(false)
}

/// The items of the list at a path, or none.
pub fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The fields of the object at a path, where there is one.
pub fn fields<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Fields> {
    at(value, path).as_object()
}

/// Whether a list or map at a path is missing, null or empty.
pub fn is_empty(value: &Value, path: &[&str]) -> bool {
    match at(value, path) {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}
