//! Printer columns and the wording of their cells, shared by all kinds.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    column::{Column, ColumnType},
    tree::{self, items, text},
};
use crate::meta::{
    Clock,
    time::{human_duration, parse_time},
};

const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created.";

fn column(name: &str, kind: ColumnType, priority: i32, description: &str) -> Column {
    Column { name: name.into(), kind, format: "".into(), description: description.into(), priority }
}

/// The Name column.
pub fn name() -> Column {
    Column { format: "name".into(), ..column("Name", ColumnType::String, 0, "Name must be unique within a namespace.") }
}

/// The Age column.
pub fn age() -> Column {
    column("Age", ColumnType::String, 0, AGE)
}

/// A text column.
pub fn string(name: &str, description: &str) -> Column {
    column(name, ColumnType::String, 0, description)
}

/// A column of integers.
pub fn integer(name: &str, description: &str) -> Column {
    column(name, ColumnType::Integer, 0, description)
}

/// A column of booleans.
pub fn boolean(name: &str, description: &str) -> Column {
    column(name, ColumnType::Boolean, 0, description)
}

/// A text column that only `-o wide` shows.
pub fn wide(name: &str, description: &str) -> Column {
    column(name, ColumnType::String, 1, description)
}

/// The wide columns of workloads: containers and images.
pub fn container_columns() -> [Column; 2] {
    [wide("Containers", "Names of each container in the template."), wide("Images", "Images referenced by each container in the template.")]
}

/// `a,b` of the names and of the images of a pod spec's containers.
pub fn container_cells(pod_spec: &Value) -> [Value; 2] {
    let list = |field: &str| items(pod_spec, &["containers"]).iter().map(|container| text(container, &[field])).collect::<Vec<_>>().join(",");
    [list("name").into(), list("image").into()]
}

/// How long ago a time was; `<unknown>` where it is missing.
pub fn since(time: &str, clock: &dyn Clock) -> String {
    match parse_time(time) {
        Ok(time) => elapsed(time, clock.now()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// The time between two moments; never negative.
pub fn elapsed(from: Timestamp, to: Timestamp) -> String {
    human_duration(Duration::from_secs(to.duration_since(from).as_secs().max(0).unsigned_abs()))
}

/// `a=1,b=2` of a map, sorted by name; empty for an empty map.
pub fn label_pairs(labels: &Value) -> String {
    let mut pairs: Vec<String> = labels.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    pairs.sort();
    pairs.join(",")
}

/// [`label_pairs`], or `<none>`.
pub fn labels_or_none(labels: &Value) -> String {
    or_none(label_pairs(labels))
}

/// The query form of a `LabelSelector`, sorted by key; empty where it selects everything.
pub fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in tree::fields(selector, &["matchLabels"]).into_iter().flatten() {
        parts.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or(""))));
    }
    for expression in items(selector, &["matchExpressions"]) {
        let key = text(expression, &["key"]);
        let mut values: Vec<&str> = items(expression, &["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match text(expression, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".to_owned(),
        };
        parts.push((key.to_owned(), part));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(",")
}

/// [`selector_text`], or `<none>`.
pub fn selector_or_none(selector: &Value) -> String {
    or_none(selector_text(selector))
}

/// The text itself, or `<none>` where it is empty.
pub fn or_none(text: impl Into<String>) -> String {
    non_empty(text, "<none>")
}

/// The text itself, or `otherwise` where it is empty.
pub fn non_empty(text: impl Into<String>, otherwise: &str) -> String {
    let text = text.into();
    if text.is_empty() { otherwise.to_owned() } else { text }
}

/// The first three of a list; ` + n more...` tells how many were left out.
pub fn first_three(list: &[String]) -> String {
    let shown = list.iter().take(3).cloned().collect::<Vec<_>>().join(",");
    if list.len() > 3 { format!("{shown} + {} more...", list.len() - 3) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_longer_than_three_are_cut() {
        let list: Vec<String> = ["a", "b", "c", "d", "e"].iter().map(|s| (*s).to_owned()).collect();
        assert_eq!(first_three(&list), "a,b,c + 2 more...");
        assert_eq!(first_three(&list[..3]), "a,b,c");
    }

    #[test]
    fn selectors_read_as_queries() {
        let selector = json!({"matchLabels": {"b": "1"}, "matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]});
        assert_eq!(selector_or_none(&selector), "!a,b=1");
        assert_eq!(selector_or_none(&json!({})), "<none>");
    }
}
