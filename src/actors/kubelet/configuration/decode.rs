//! From a document to what it says of each field: strictly, as upstream decodes.

use std::collections::BTreeMap;

use serde_json::Value;
use troupe_api::{expressions::go_duration, schema::from_yaml};

use super::{
    ConfigurationError, GROUP_VERSION, KIND, amounts,
    fields::{FIELDS, Row},
};
use crate::document_shape::{Shape, check, strict_error};

/// What a document says, by path; null for what it takes back.
///
/// # Errors
/// When it is another document, or has fields that there are not, or values of another type.
pub(super) fn document(text: &str) -> Result<BTreeMap<String, Value>, ConfigurationError> {
    let malformed = ConfigurationError::Malformed;
    let value: Value = from_yaml(text).map_err(|error| malformed(format!("failed to decode: {error}")))?;
    let head = |name: &str| value[name].as_str().unwrap_or_default();
    let (version, kind) = (head("apiVersion"), head("kind"));
    if version.is_empty() || kind.is_empty() {
        return Err(malformed("no apiVersion/kind".into()));
    }
    if (version, kind) != (GROUP_VERSION, KIND) {
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        return Err(malformed(format!("unknown apiVersion/kind: {group}/{version}, Kind={kind}")));
    }
    let (mut said, mut unknown) = (BTreeMap::new(), Vec::new());
    walk(&value, "", &mut said, &mut unknown).map_err(|why| malformed(format!("failed to decode: {why}")))?;
    if !unknown.is_empty() {
        return Err(malformed(format!("failed to decode: {}", strict_error(&unknown))));
    }
    Ok(said)
}

fn walk(value: &Value, path: &str, said: &mut BTreeMap<String, Value>, unknown: &mut Vec<String>) -> Result<(), String> {
    if let Some(row) = row(path) {
        check(value, &row.shape, path, unknown)?;
        said.insert(path.to_owned(), normal(row, value));
        return Ok(());
    }
    match value {
        Value::Null => drop(said.insert(path.to_owned(), Value::Null)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if row(&path).is_some() || has_below(&path) {
                    walk(value, &path, said, unknown)?;
                } else {
                    unknown.push(path);
                }
            }
        }
        other => return Err(format!("{path}: expected an object, found {other}")),
    }
    Ok(())
}

fn row(path: &str) -> Option<&'static Row> {
    FIELDS.iter().find(|row| row.path == path)
}

fn has_below(path: &str) -> bool {
    FIELDS.iter().any(|row| row.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The value as upstream writes it.
fn normal(row: &Row, value: &Value) -> Value {
    match (&row.shape, value) {
        (Shape::Duration, Value::String(text)) => go_duration(text).map_or(Value::Null, |nanoseconds| amounts::shown_duration(nanoseconds).into()),
        // Any number below stands for none.
        (_, value) if row.path == "podPidsLimit" && value.as_i64().is_some_and(|limit| limit < 0) => (-1).into(),
        (_, value) => value.clone(),
    }
}

/// Whether a value of a field is one: of most fields what is nothing in Go stands for nothing said.
pub(super) fn says_something(path: &str, value: &Value) -> bool {
    let has_zero = row(path).is_some_and(|row| row.has_zero);
    match value {
        Value::Null => false,
        _ if has_zero => true,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text != "0s",
        // Of a map that is empty everything is said.
        Value::Array(_) | Value::Object(_) => true,
    }
}
