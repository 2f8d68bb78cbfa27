use serde_json::{Value, json};

use super::*;

/// What rules say of an object.
fn told(schema: &Value, object: Value, old: Option<Value>) -> Vec<String> {
    let fields = |value: Value| match value {
        Value::Object(fields) => fields,
        other => panic!("no object: {other}"),
    };
    let old = old.map(fields);
    Validations::new(schema).check(&fields(object), old.as_ref(), &[]).iter().map(ToString::to_string).collect()
}

fn of_spec(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

#[test]
fn a_rule_that_does_not_hold_is_told_of() {
    let schema = of_spec(json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.x + self.y > 0"}],
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}));
    assert_eq!(told(&schema, json!({"spec": {"x": 1, "y": 0}}), None), Vec::<String>::new());
    assert_eq!(told(&schema, json!({"spec": {"x": 0, "y": 0}}), None), ["spec: Invalid value: failed rule: self.x + self.y > 0"]);
    let missing = ["spec: Invalid value: \"object\": no such key: y evaluating rule: self.x + self.y > 0"];
    assert_eq!(told(&schema, json!({"spec": {"x": 1}}), None), missing);
}
