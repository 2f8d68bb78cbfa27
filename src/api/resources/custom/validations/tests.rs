use serde_json::{Value, json};

use super::*;

/// What rules say of an object.
fn told(schema: &Value, object: Value, old: Option<Value>) -> Vec<String> {
    let fields = |value: Value| match value {
        Value::Object(fields) => fields,
        other => panic!("no object: {other}"),
    };
    let old = old.map(fields);
    Validations::new(schema).check(&fields(object), old.as_ref(), &[]).errors.iter().map(ToString::to_string).collect()
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

/// What one rule at `spec` says of an object, and of the old one.
fn of_rule(rule: Value, properties: Value, spec: Value, old: Option<Value>) -> Vec<String> {
    let schema = of_spec(json!({"type": "object", "x-kubernetes-validations": [rule], "properties": properties}));
    told(&schema, json!({"spec": spec}), old.map(|old| json!({"spec": old})))
}

#[test]
fn errors_say_what_the_rule_says_of_itself() {
    let number = json!({"n": {"type": "integer"}});
    let of = |rule: Value| of_rule(rule, number.clone(), json!({"n": 1}), None);
    for (rule, wanted) in [
        (json!({"rule": "self.n > 1"}), "spec: Invalid value: failed rule: self.n > 1"),
        (json!({"rule": "self.n > 1", "message": " too small "}), "spec: Invalid value: too small"),
        (json!({"rule": "self.n > 1", "messageExpression": "'not ' + string(self.n)"}), "spec: Invalid value: not 1"),
        // A message that cannot be made gives way to the one that is written.
        (json!({"rule": "self.n > 1", "message": "m", "messageExpression": "string(1 / 0)"}), "spec: Invalid value: m"),
        (json!({"rule": "self.n > 1", "messageExpression": "'  '"}), "spec: Invalid value: failed rule: self.n > 1"),
        (json!({"rule": "self.n > 1", "messageExpression": "'a\\nb'"}), "spec: Invalid value: failed rule: self.n > 1"),
        (json!({"rule": "self.n > 1", "reason": "FieldValueForbidden", "fieldPath": ".n"}), "spec.n: Forbidden: failed rule: self.n > 1"),
        (json!({"rule": "self.n > 1", "reason": "FieldValueRequired", "message": "m"}), "spec: Required value: m"),
        (json!({"rule": "self.n > 1", "reason": "FieldValueDuplicate"}), "spec: Duplicate value"),
    ] {
        assert_eq!(of(rule), [wanted]);
    }
    let scalar = json!({"n": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 1"}]}});
    let told = told(&of_spec(json!({"type": "object", "properties": scalar})), json!({"spec": {"n": 1}}), None);
    assert_eq!(told, ["spec.n: Invalid value: 1: failed rule: self > 1"]);
}

#[test]
fn rules_hold_at_every_place() {
    let small = json!({"type": "integer", "x-kubernetes-validations": [{"rule": "self < 3"}]});
    let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name.startsWith('t')"}], "properties": {
        "l": {"type": "array", "items": small}, "m": {"type": "object", "additionalProperties": small},
        "a.b": {"type": "object", "properties": {"c d": small, "namespace": small}},
        "e": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-validations": [{"rule": "self.kind == 'Pod'"}]},
        "none": small,
    }});
    let object =
        json!({"metadata": {"name": "a"}, "l": [1, 5], "m": {"x": 5}, "a.b": {"c d": 5, "namespace": 6}, "e": {"kind": "Node"}, "none": null});
    let mut found = told(&schema, object, None);
    found.sort();
    assert_eq!(
        found,
        [
            "<nil>: Invalid value: failed rule: self.metadata.name.startsWith('t')",
            "a.b.c d: Invalid value: 5: failed rule: self < 3",
            "a.b.namespace: Invalid value: 6: failed rule: self < 3",
            "e: Invalid value: failed rule: self.kind == 'Pod'",
            "l[1]: Invalid value: 5: failed rule: self < 3",
            "m[x]: Invalid value: 5: failed rule: self < 3",
        ]
    );
}

#[test]
fn transitions_are_judged_where_there_is_an_old_value() {
    let grows = json!({"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]});
    let entry = json!({"type": "object", "properties": {"k": {"type": "string"}, "n": grows}});
    let schema = of_spec(json!({"type": "object", "properties": {
        "n": grows, "m": {"type": "object", "additionalProperties": grows},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": entry},
    }}));
    let spec = |n: i64, m: Value, l: Value| json!({"spec": {"n": n, "m": m, "l": l}});
    let old = spec(5, json!({"x": 5}), json!([{"k": "a", "n": 5}, {"k": "b", "n": 7}]));
    let new = spec(4, json!({"x": 4, "y": 1}), json!([{"k": "b", "n": 6}, {"k": "c", "n": 1}, {"k": "a", "n": 5}]));
    assert_eq!(told(&schema, new.clone(), None), Vec::<String>::new());
    assert_eq!(
        told(&schema, new, Some(old)),
        [
            "spec.l[0].n: Invalid value: 6: failed rule: self >= oldSelf",
            "spec.m[x]: Invalid value: 4: failed rule: self >= oldSelf",
            "spec.n: Invalid value: 4: failed rule: self >= oldSelf",
        ]
    );
}

#[test]
fn an_optional_old_value_may_be_absent() {
    let rule = json!({"rule": "oldSelf.hasValue() ? oldSelf.value().n <= self.n : self.n > 10", "optionalOldSelf": true});
    let of =
        |new: i64, old: Option<i64>| of_rule(rule.clone(), json!({"n": {"type": "integer"}}), json!({"n": new}), old.map(|n| json!({"n": n}))).len();
    assert_eq!([of(5, None), of(11, None), of(5, Some(5)), of(5, Some(6))], [1, 0, 0, 1]);
}

#[test]
fn what_did_not_change_may_stay_wrong() {
    let properties = json!({"n": {"type": "integer"}, "o": {"type": "object", "x-kubernetes-validations": [{"rule": "self.a > 5"}],
        "properties": {"a": {"type": "integer"}}}, "l": {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 5"}]}}});
    let of = |new: Value, old: Value| of_rule(json!({"rule": "self.n > 5"}), properties.clone(), new, Some(old));
    let wrong = json!({"n": 1, "o": {"a": 1}, "l": [1]});
    assert_eq!(of(wrong.clone(), wrong.clone()), Vec::<String>::new());
    // The object changed, and with it the rule of the whole, but not what is in it.
    assert_eq!(of(json!({"n": 2, "o": {"a": 1}, "l": [1]}), wrong.clone()), ["spec: Invalid value: failed rule: self.n > 5"]);
    let changed = of(json!({"n": 6, "o": {"a": 2}, "l": [1, 2]}), wrong);
    assert_eq!(changed.len(), 3, "the entries of a list that changed are all told of: {changed:?}");
}

#[test]
fn the_budget_of_an_object_ends() {
    let schema = of_spec(json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, y == x))"}]}}}}));
    let object = json!({"spec": {"l": vec![vec![1; 300]; 60]}});
    let begun = std::time::Instant::now();
    let told = told(&schema, object, None);
    let wanted = "Invalid value: \"array\": validation failed due to running out of cost budget, no further validation rules will be run";
    assert!(told.len() == 1 && told[0].ends_with(wanted), "{told:?}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(90), "{:?}", begun.elapsed());
}

#[test]
fn rules_within_all_of_hold_too() {
    let schema = of_spec(json!({"type": "object", "properties": {"n": {"type": "integer"}},
        "allOf": [{"properties": {"n": {"x-kubernetes-validations": [{"rule": "self > 5"}]}}}]}));
    assert_eq!(told(&schema, json!({"spec": {"n": 1}}), None), ["spec.n: Invalid value: 1: failed rule: self > 5"]);
}

#[test]
fn an_object_that_is_not_as_its_schema_says_is_not_looked_at() {
    let schema = of_spec(json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.n > 5"}], "properties": {"n": {"type": "integer"}}}));
    let Value::Object(object) = json!({"spec": {"n": "x"}}) else { unreachable!() };
    let known = [FieldError::required("spec.x", "")];
    let told: Vec<String> = Validations::new(&schema).check(&object, None, &known).errors.iter().map(ToString::to_string).collect();
    let why = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
    assert_eq!(told, [why]);
}

#[test]
fn only_what_may_be_slow_is_slow() {
    let of = |rule: &str, most: u64| {
        let list = json!({"type": "array", "maxItems": most, "items": {"type": "integer"}});
        let schema = of_spec(json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}], "properties": {"l": list}}));
        Validations::new(&schema).is_slow
    };
    assert!(!of("self.l.all(x, x > 0)", 100) && of("self.l.all(x, self.l.all(y, y == x))", 100) && of("self.l.all(x, x > 0)", 100_000));
}

#[test]
fn what_stays_wrong_is_a_warning() {
    let rule = json!([{"rule": "self.x > 5", "message": "too small"}]);
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"x": {"type": "integer"}}, "x-kubernetes-validations": rule}, "other": {"type": "integer"},
    }});
    let fields = |x: i64, other: i64| json!({"spec": {"x": x}, "other": other}).as_object().cloned().expect("an object");
    let judged = |new: (i64, i64)| {
        let judgement = Validations::new(&schema).check(&fields(new.0, new.1), Some(&fields(1, 1)), &[]);
        [judgement.errors, judgement.tolerated].map(|told| told.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let told = || vec!["spec: Invalid value: too small".to_owned()];
    assert_eq!(judged((1, 2)), [vec![], told()]);
    assert_eq!(judged((2, 1)), [told(), vec![]]);
    assert_eq!(judged((6, 1)), [Vec::new(), Vec::<String>::new()]);
}

/// Forty lists, each of which holds the one before twice: a trillion of entries that nobody may go through.
#[test]
fn what_is_shared_many_times_is_charged_as_it_is_gone_through() {
    let lists = "[[1]]".to_owned() + &".map(a, [a, a])".repeat(40);
    for rule in [format!("{lists}.indexOf([]) < 0"), format!("{lists} == {lists}")] {
        let schema = of_spec(json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}], "properties": {"n": {"type": "integer"}}}));
        let begun = std::time::Instant::now();
        let told = told(&schema, json!({"spec": {"n": 1}}), None);
        assert!(told.len() == 1 && told[0].contains("cost"), "{told:?}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
