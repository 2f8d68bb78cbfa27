//! Events: those of the core group as they always were, those of events.k8s.io by stricter rules.
//!
//! Both are stored in the form of the core group, by which errors name fields.

use serde_json::Value;

use super::{Field, IMMUTABLE};
use crate::{
    meta::{Object, names},
    status::FieldError,
};

const NONE: &Value = &Value::Null;
/// Fields with the most bytes they may have.
const LIMITS: [(&str, usize); 4] = [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)];
/// What an update by events.k8s.io may not change, with the name that errors give it.
const FIXED: [(&str, &str); 12] = [
    ("involvedObject", "involvedObject"),
    ("reason", "reason"),
    ("message", "message"),
    ("source", "source"),
    ("firstTimestamp", "firstTimestamp"),
    ("lastTimestamp", "lastTimestamp"),
    ("count", "count"),
    ("type", "type"),
    ("action", "action"),
    ("related", "related"),
    ("reportingComponent", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

fn field<'a>(event: &'a Object, name: &'static str) -> Field<'a> {
    Field::root(name, event.get(&[name]).unwrap_or(NONE))
}

fn has_time(event: &Object) -> bool {
    !event.str(&["eventTime"]).is_empty()
}

/// Whether a value is what its type is without one.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().all(is_zero),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        other => other.is_null(),
    }
}

/// Checks an event of the core group: it lives in the namespace of what it is about, cluster-scoped things in `default`.
pub fn event(object: &Object) -> Vec<FieldError> {
    legacy(object, "reportingComponent")
}

fn legacy(object: &Object, controller: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (about, namespace) = (object.str(&["involvedObject", "namespace"]), object.namespace());
    let fits = match (has_time(object), about) {
        (false, "") => matches!(namespace, "" | "default"),
        (false, about) => about == namespace,
        (true, "") => matches!(namespace, "default" | "kube-system"),
        (true, _) => true,
    };
    if !fits {
        errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
    if has_time(object) {
        reported(&mut errors, object, controller);
    }
    errors.extend(names::subdomain(namespace, false).into_iter().map(|message| FieldError::invalid("namespace", namespace, message)));
    errors
}

/// Who tells it, what was done and why.
fn reported(errors: &mut Vec<FieldError>, object: &Object, controller: &str) {
    Field::root(controller, object.get(&["reportingComponent"]).unwrap_or(NONE)).check_required(errors);
    Field::root(controller, &object.str(&["reportingComponent"]).into()).check_qualified(errors);
    for (name, most) in LIMITS {
        let field = field(object, name);
        if name != "message" {
            field.check_required(errors);
        }
        if field.text().len() > most {
            errors.push(field.invalid_as("", format!("can have at most {most} characters")));
        }
    }
}

/// Checks a new event of events.k8s.io.
pub fn strict_event(object: &Object) -> Vec<FieldError> {
    let mut errors = legacy(object, "reportingController");
    series(&mut errors, object);
    if !has_time(object) {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = object.str(&["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
    }
    for name in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        let field = field(object, name);
        if !is_zero(field.value) {
            errors.push(field.invalid_as("", "needs to be unset"));
        }
    }
    errors
}

fn series(errors: &mut Vec<FieldError>, object: &Object) {
    let series = field(object, "series");
    if !series.is_set() {
        return;
    }
    if series.child("count").int() < 2 {
        errors.push(series.child("count").invalid_as("", "should be at least 2"));
    }
    series.child("lastObservedTime").check_required(errors);
}

/// Checks an update by events.k8s.io: only the series goes on.
pub fn strict_event_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = legacy(new, "reportingController");
    if field(new, "series").value != field(old, "series").value {
        series(&mut errors, new);
    }
    for (name, shown) in FIXED {
        let (now, before) = (field(new, name).value, field(old, name).value);
        if now != before && !(is_zero(now) && is_zero(before)) {
            errors.push(FieldError::invalid(shown, now.clone(), IMMUTABLE));
        }
    }
    let micros =
        |event: &Object| event.str(&["eventTime"]).trim_end_matches('Z').chars().take("2006-01-02T15:04:05.000000".len()).collect::<String>();
    if micros(new) != micros(old) {
        errors.push(field(new, "eventTime").invalid(IMMUTABLE));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::texts;

    fn base() -> Value {
        json!({
            "metadata": {"name": "e", "namespace": "n"}, "involvedObject": {"namespace": "n", "kind": "Pod", "name": "p"}, "type": "Normal",
            "eventTime": "2030-01-01T00:00:00.000000Z", "reportingComponent": "example.com/c", "reportingInstance": "i", "action": "A", "reason": "R",
        })
    }

    fn with(changes: Value) -> Object {
        let mut event = base();
        for (name, value) in changes.as_object().expect("changes") {
            event[name] = value.clone();
        }
        Object::from_value(event).expect("an object")
    }

    #[test]
    fn an_event_lives_where_its_object_does() {
        let mismatch = ["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"];
        let of = |about: Value| texts(event(&with(json!({"eventTime": null, "involvedObject": about}))));
        assert_eq!(of(json!({"namespace": "m"})), mismatch);
        assert_eq!(of(json!({"namespace": "n"})), Vec::<String>::new());
        assert_eq!(of(json!({})), ["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"]);
    }

    #[test]
    fn an_event_with_a_time_says_who_and_what() {
        let told = json!({"reportingComponent": "a b", "reportingInstance": "", "action": "x".repeat(129), "message": "m".repeat(1025)});
        let errors = texts(event(&with(told)));
        assert!(errors[0].starts_with("reportingComponent: Invalid value: \"a b\": name part must consist of"), "{errors:#?}");
        assert_eq!(
            errors[1..],
            [
                "reportingInstance: Required value",
                "action: Invalid value: \"\": can have at most 128 characters",
                "message: Invalid value: \"\": can have at most 1024 characters",
            ]
        );
    }

    #[test]
    fn new_events_leave_old_fields_unset() {
        assert_eq!(texts(strict_event(&with(json!({"source": {}})))), Vec::<String>::new());
        let old = json!({"type": "Odd", "count": 1, "source": {"host": "h"}, "firstTimestamp": "2030-01-01T00:00:00Z", "series": {"count": 1}});
        assert_eq!(
            texts(strict_event(&with(old))),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
                "type: Invalid value: \"\": has invalid value: Odd",
                "firstTimestamp: Invalid value: \"\": needs to be unset",
                "count: Invalid value: \"\": needs to be unset",
                "source: Invalid value: \"\": needs to be unset",
            ]
        );
    }

    #[test]
    fn only_the_series_of_a_new_event_goes_on() {
        let series = json!({"count": 2, "lastObservedTime": "2030-01-01T00:00:00.000000Z"});
        assert_eq!(texts(strict_event_update(&with(json!({"series": series})), &with(json!({"source": {}})))), Vec::<String>::new());
        let changed = with(json!({"reason": "S", "reportingComponent": "d", "eventTime": "2031-01-01T00:00:00.000000Z"}));
        assert_eq!(
            texts(strict_event_update(&changed, &with(json!({})))),
            [
                "reason: Invalid value: \"S\": field is immutable",
                "reportingController: Invalid value: \"d\": field is immutable",
                "eventTime: Invalid value: \"2031-01-01T00:00:00.000000Z\": field is immutable",
            ]
        );
    }
}
