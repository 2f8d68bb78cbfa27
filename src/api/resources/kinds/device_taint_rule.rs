//! Rules that taint devices (KEP-5055), which are off where nothing is said.

use serde_json::Value;

use super::{empty_status, split_update_strictly};
use crate::{
    meta::{Clock, Object, time::format_time},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, since, string},
        resource::{ALL_METADATA, age_of},
        validation::devices,
    },
    status::FieldError,
};

const EFFECT: &[&str] = &["spec", "taint", "effect"];
const TIME: &[&str] = &["spec", "taint", "timeAdded"];

/// The rules of device taint rules.
#[derive(Default)]
pub struct DeviceTaintRule;

impl Strategy for DeviceTaintRule {
    fn prepare_create(&self, object: &mut Object, context: &WriteContext<'_>) {
        empty_status(object);
        note_time(object, context.clock);
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update_strictly(new, old, context);
        if context.subresource == "status" {
            return;
        }
        // The time is that of the effect: whoever changes that and not the time leaves it to us.
        if new.str(EFFECT) != old.str(EFFECT) && new.str(TIME) == old.str(TIME) {
            new.remove(TIME);
        }
        note_time(new, context.clock);
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        devices::taint_rule(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { devices::taint_rule_status(new) } else { devices::taint_rule_update(new, old) }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Key", "The key of the taint that devices get."),
            string("Value", "The value of the taint."),
            string("Effect", "What the taint does to claims that do not tolerate it, and to the pods that use them."),
            string("TimeAdded", "Since when the taint has this effect."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let of_taint = |field: &str| Value::from(object.str(&["spec", "taint", field]));
        let time = object.str(TIME);
        let since_when = if time.is_empty() { String::new() } else { since(time, clock) };
        vec![object.name().into(), of_taint("key"), of_taint("value"), of_taint("effect"), since_when.into(), age_of(object, clock).into()]
    }
}

/// Since now, if nobody says otherwise.
fn note_time(rule: &mut Object, clock: &dyn Clock) {
    if rule.str(TIME).is_empty() {
        rule.set(TIME, format_time(clock.now()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        meta::request::UserInfo,
        resources::kinds::tests::{FixedClock, object},
    };

    const NOW: &str = "2026-01-01T01:00:00Z";
    const BEFORE: &str = "2025-01-01T00:00:00Z";

    fn rule(effect: &str, time: Option<&str>) -> Object {
        let mut taint = json!({"key": "example.com/broken", "value": "yes", "effect": effect});
        if let Some(time) = time {
            taint["timeAdded"] = time.into();
        }
        object(json!({"metadata": {"name": "r"}, "spec": {"deviceSelector": {"driver": "gpu.example.com"}, "taint": taint}, "status": {"x": 1}}))
    }

    fn updated(new: &Object, old: &Object, subresource: &str) -> Object {
        let (mut new, user) = (new.clone(), UserInfo::default());
        DeviceTaintRule.prepare_update(&mut new, old, &WriteContext { user: &user, clock: &FixedClock, subresource });
        new
    }

    #[test]
    fn a_rule_knows_since_when_it_has_its_effect() {
        let (mut new, user) = (rule("None", None), UserInfo::default());
        DeviceTaintRule.prepare_create(&mut new, &WriteContext { user: &user, clock: &FixedClock, subresource: "" });
        assert_eq!((new.str(TIME), new.get(&["status"])), (NOW, Some(&json!({}))));
        let old = rule("None", Some(BEFORE));
        assert_eq!(updated(&rule("None", Some(BEFORE)), &old, "").str(TIME), BEFORE);
        assert_eq!(updated(&rule("NoExecute", Some(BEFORE)), &old, "").str(TIME), NOW, "the effect is another one");
        assert_eq!(updated(&rule("NoExecute", Some("2024-01-01T00:00:00Z")), &old, "").str(TIME), "2024-01-01T00:00:00Z", "it was said");
    }

    #[test]
    fn status_and_spec_are_written_apart() {
        let old = rule("None", Some(BEFORE));
        let mut told = rule("NoExecute", Some(BEFORE));
        told.set(&["status"], json!({"conditions": []}));
        let new = updated(&told, &old, "status");
        assert_eq!((new.str(EFFECT), new.get(&["status"])), ("None", Some(&json!({"conditions": []}))));
        assert_eq!(updated(&told, &old, "").get(&["status"]), Some(&json!({"x": 1})));
    }

    #[test]
    fn a_row_tells_of_the_taint() {
        let row = DeviceTaintRule.cells(&rule("NoSchedule", Some("2026-01-01T00:00:00Z")), &FixedClock);
        assert_eq!(row[..5], [json!("r"), json!("example.com/broken"), json!("yes"), json!("NoSchedule"), json!("60m")]);
    }
}
