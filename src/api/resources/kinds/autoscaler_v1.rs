//! Autoscalers as `autoscaling/v1` has them. What it has no fields for travels in annotations, in upstream's forms.
//!
//! Annotations that cannot be read as what they stand for say nothing, as upstream.

use serde_json::{Map, Value, json};

use crate::{
    meta::{GroupVersionKind, Object},
    resources::tree::{at, items, text},
    schema::Schemas,
};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const SOURCES: [&str; 5] = ["object", "pods", "resource", "containerResource", "external"];

/// The metric that v1 has a field for.
pub(super) fn cpu_metric(utilization: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": utilization}}})
}

fn cpu_utilization<'a>(metric: &'a Value, part: &str) -> Option<&'a Value> {
    let is_cpu = text(metric, &["type"]) == "Resource" && text(metric, &["resource", "name"]) == "cpu";
    Some(at(metric, &["resource", part, "averageUtilization"])).filter(|percent| is_cpu && percent.is_number())
}

/// v1 → v2.
pub(super) fn upgrade(object: &mut Object) {
    let mut metrics = each(take(object, METRICS), |metric| widened(metric, "target"));
    if let Some(percent) = object.remove(&["spec", "targetCPUUtilizationPercentage"]).and_then(|value| value.as_i64()) {
        metrics.push(cpu_metric(percent));
    }
    put(object, &["spec", "metrics"], metrics.into());
    let behavior = take(object, BEHAVIOR).map(|behavior| cased(behavior, char::to_ascii_lowercase));
    put(object, &["spec", "behavior"], behavior.unwrap_or_default());
    if object.int(&["status", "currentReplicas"]) == Some(0) {
        object.remove(&["status", "currentReplicas"]);
    }
    let percent = object.remove(&["status", "currentCPUUtilizationPercentage"]);
    let mut current = each(take(object, CURRENT_METRICS), |metric| widened(metric, "current"));
    if let Some(percent) = percent.filter(|_| current.is_empty()) {
        current.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}}));
    }
    put(object, &["status", "currentMetrics"], current.into());
    let conditions = take(object, CONDITIONS).unwrap_or_default();
    put(object, &["status", "conditions"], conditions);
}

/// v2 → v1.
pub(super) fn downgrade(object: &mut Object) {
    for annotation in [METRICS, BEHAVIOR, CURRENT_METRICS, CONDITIONS] {
        drop(take(object, annotation));
    }
    let metrics = object.remove(&["spec", "metrics"]).unwrap_or_default();
    if let Some(percent) = items(&metrics, &[]).iter().find_map(|metric| cpu_utilization(metric, "target")) {
        object.set(&["spec", "targetCPUUtilizationPercentage"], percent.clone());
    }
    let others = items(&metrics, &[]).iter().filter(|metric| cpu_utilization(metric, "target").is_none());
    annotate(object, METRICS, others.map(|metric| narrowed(metric, "target")).collect());
    let behavior = object.remove(&["spec", "behavior"]).unwrap_or_default();
    annotate(object, BEHAVIOR, cased(behavior, char::to_ascii_uppercase));
    if object.get(&["status"]).is_some_and(Value::is_object) {
        // Which v2 leaves out.
        object.set_default(&["status", "currentReplicas"], 0);
    }
    let current = object.remove(&["status", "currentMetrics"]).unwrap_or_default();
    if let Some(percent) = items(&current, &[]).iter().find_map(|metric| cpu_utilization(metric, "current")) {
        object.set(&["status", "currentCPUUtilizationPercentage"], percent.clone());
    }
    annotate(object, CURRENT_METRICS, items(&current, &[]).iter().map(|metric| narrowed(metric, "current")).collect());
    let conditions = object.remove(&["status", "conditions"]).unwrap_or_default();
    annotate(object, CONDITIONS, conditions);
}

fn each(list: Option<Value>, form: impl Fn(&Value) -> Value) -> Vec<Value> {
    items(&list.unwrap_or_default(), &[]).iter().map(form).collect()
}

/// Takes an annotation that holds JSON.
fn take(object: &mut Object, key: &str) -> Option<Value> {
    let text = object.remove(&["metadata", "annotations", key])?;
    if object.get(&["metadata", "annotations"]).and_then(Value::as_object).is_some_and(Map::is_empty) {
        object.remove(&["metadata", "annotations"]);
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

fn annotate(object: &mut Object, key: &str, value: Value) {
    if !is_nothing(&value) {
        object.set(&["metadata", "annotations", key], value.to_string());
    }
}

/// Puts what came out of an annotation where v2 has it, if it is what stands there.
fn put(object: &mut Object, path: &[&str], value: Value) {
    if is_nothing(&value) {
        return;
    }
    let mut alone = Object::default();
    alone.set(path, value);
    let schema = Schemas::builtin().get(&GroupVersionKind::new("autoscaling", "v2", "HorizontalPodAutoscaler"));
    let decoded = schema.and_then(|schema| schema.normalise(alone).ok());
    if let Some(value) = decoded.and_then(|decoded| decoded.object.get(path).cloned()) {
        object.set(path, value);
    }
}

/// A tree with the first letter of each field in another case: behaviour is written as Go names its fields.
fn cased(value: Value, case: fn(&char) -> char) -> Value {
    let turned = |name: &str| name.char_indices().map(|(index, c)| if index == 0 { case(&c) } else { c }).collect::<String>();
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (turned(&name), cased(value, case))).collect(),
        Value::Array(entries) => entries.into_iter().map(|entry| cased(entry, case)).collect(),
        other => other,
    }
}

/// Where v1 has the three amounts of a target or of a current value: as such, for each pod, and in percent.
fn amounts(source: &str, part: &str) -> [(&'static str, String); 3] {
    let average = if source == "object" { "averageValue".to_owned() } else { format!("{part}AverageValue") };
    [("value", format!("{part}Value")), ("averageValue", average), ("averageUtilization", format!("{part}AverageUtilization"))]
}

fn selector(source: &str) -> &'static str {
    if source == "external" { "metricSelector" } else { "selector" }
}

/// A metric of v1 as v2 has it.
fn widened(metric: &Value, part: &str) -> Value {
    let mut wide = json!({"type": at(metric, &["type"])});
    for source in SOURCES.into_iter().filter(|source| at(metric, &[source]).is_object()) {
        let from = at(metric, &[source]);
        let mut amount = Map::new();
        for (name, old) in amounts(source, part) {
            set(&mut amount, name, at(from, &[&old]));
        }
        if part == "target" {
            let kind = target_type(source, &mut amount);
            amount.insert("type".to_owned(), kind.into());
        }
        let mut to = Map::from_iter([(part.to_owned(), Value::Object(amount))]);
        if source == "object" {
            set(&mut to, "describedObject", at(from, &["target"]));
        }
        for field in ["name", "container"] {
            set(&mut to, field, at(from, &[field]));
        }
        if !matches!(source, "resource" | "containerResource") {
            let mut identifier = Map::from_iter([("name".to_owned(), at(from, &["metricName"]).clone())]);
            set(&mut identifier, "selector", at(from, &[selector(source)]));
            to.insert("metric".to_owned(), Value::Object(identifier));
        }
        wide[source] = Value::Object(to);
    }
    wide
}

/// v1 says by what is there of which type a target is. An object's has always a value, if only zero.
fn target_type(source: &str, amount: &mut Map<String, Value>) -> &'static str {
    let has = |name: &str| amount.contains_key(name);
    if has("averageUtilization") {
        return "Utilization";
    }
    let by_value = if source == "object" { !has("averageValue") } else { has("value") };
    if by_value {
        return "Value";
    }
    if source == "object" && amount.get("value").is_some_and(|value| value == "0") {
        amount.remove("value");
    }
    "AverageValue"
}

/// A metric of v2 as v1 has it.
fn narrowed(metric: &Value, part: &str) -> Value {
    let mut narrow = json!({"type": at(metric, &["type"])});
    for source in SOURCES.into_iter().filter(|source| at(metric, &[source]).is_object()) {
        let from = at(metric, &[source]);
        let mut to = Map::new();
        for (name, new) in amounts(source, part) {
            set(&mut to, &new, at(from, &[part, name]));
        }
        set(&mut to, "target", at(from, &["describedObject"]));
        set(&mut to, "metricName", at(from, &["metric", "name"]));
        set(&mut to, selector(source), at(from, &["metric", "selector"]));
        for field in ["name", "container"] {
            set(&mut to, field, at(from, &[field]));
        }
        if source == "object" {
            to.entry(format!("{part}Value")).or_insert_with(|| "0".into());
        }
        narrow[source] = Value::Object(to);
    }
    narrow
}

fn set(fields: &mut Map<String, Value>, name: &str, value: &Value) {
    if !value.is_null() {
        fields.insert(name.to_owned(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn what_upstream_writes_into_annotations_is_read() {
        let metrics = json!([
            {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}},
            {"type": "Object", "object": {"target": {"kind": "Service", "name": "s"}, "metricName": "m", "targetValue": "0", "averageValue": "2"}},
            {"type": "External", "external": {"metricName": "q", "metricSelector": {"matchLabels": {"a": "b"}}, "targetValue": "3"}},
        ]);
        let behavior =
            json!({"ScaleUp": null, "ScaleDown": {"SelectPolicy": "Min", "Policies": [{"Type": "Pods", "Value": 1, "PeriodSeconds": 15}]}});
        let annotations = json!({METRICS: metrics.to_string(), BEHAVIOR: behavior.to_string(), "other": "stays"});
        let mut scaler = object(json!({"metadata": {"annotations": annotations}, "spec": {"targetCPUUtilizationPercentage": 50}}));
        upgrade(&mut scaler);
        let wide = json!([
            {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
            {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"},
                "target": {"type": "AverageValue", "averageValue": "2"}}},
            {"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "3"}}},
            cpu_metric(50),
        ]);
        assert_eq!(scaler.get(&["spec", "metrics"]), Some(&wide));
        let policy = json!({"type": "Pods", "value": 1, "periodSeconds": 15});
        assert_eq!(scaler.get(&["spec", "behavior", "scaleDown"]), Some(&json!({"selectPolicy": "Min", "policies": [policy]})));
        assert_eq!(scaler.get(&["metadata", "annotations"]), Some(&json!({"other": "stays"})));
        downgrade(&mut scaler);
        assert_eq!(scaler.int(&["spec", "targetCPUUtilizationPercentage"]), Some(50));
        let written: Value = serde_json::from_str(scaler.annotation(METRICS).expect("an annotation")).expect("JSON");
        assert_eq!(written, metrics);
        assert!(scaler.annotation(BEHAVIOR).is_some_and(|text| text.contains("\"PeriodSeconds\":15")));
    }

    #[test]
    fn annotations_that_are_something_else_say_nothing() {
        for (key, text) in
            [(METRICS, "[{\"type\": \"Pods\", \"pods\": {\"selector\": 5}}]"), (METRICS, "{"), (BEHAVIOR, "[]"), (CONDITIONS, "[{\"type\": 1}]")]
        {
            let mut scaler = object(json!({"metadata": {"annotations": {key: text}}, "spec": {}}));
            upgrade(&mut scaler);
            assert_eq!(scaler.into_value(), json!({"metadata": {}, "spec": {}}), "{text}");
        }
    }

    #[test]
    fn current_metrics_and_conditions_make_the_trip_and_back() {
        let current = json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageValue": "1", "averageUtilization": 7}}}]);
        let conditions = json!([{"type": "AbleToScale", "status": "True"}]);
        let stored = object(json!({"metadata": {}, "status": {"currentMetrics": current, "conditions": conditions}}));
        let mut scaler = stored.clone();
        downgrade(&mut scaler);
        assert_eq!(scaler.int(&["status", "currentCPUUtilizationPercentage"]), Some(7));
        assert_eq!(scaler.int(&["status", "currentReplicas"]), Some(0), "v1 tells it always");
        upgrade(&mut scaler);
        assert_eq!(scaler, stored);
    }
}
