use serde_json::{Value, json};

use super::Rules;

fn told(schema: Value, value: Value) -> Vec<String> {
    let schema = json!({"type": "object", "properties": {"v": schema}});
    Rules::new(&schema).check(&json!({"apiVersion": "x", "v": value})).iter().map(ToString::to_string).collect()
}

#[test]
fn values_are_judged_in_upstreams_words() {
    for (schema, value, want) in [
        (json!({"type": "string"}), json!(1), "v: Invalid value: \"integer\": v in body must be of type string: \"integer\""),
        (json!({"type": "string"}), json!(null), "v: Invalid value: \"null\": v in body must be of type string: \"null\""),
        (json!({"type": "integer"}), json!(1e18), "v: Invalid value: \"number\": v in body must be of type integer: \"number\""),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000_i64),
            "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in v",
        ),
        (json!({"type": "string", "minLength": 3}), json!("ä"), "v: Invalid value: \"ä\": v in body should be at least 3 chars long"),
        (
            json!({"type": "string", "minLength": 3, "pattern": "^a"}),
            json!("b"),
            "v: Invalid value: \"b\": v in body should be at least 3 chars long",
        ),
        (json!({"type": "string", "maxLength": 1}), json!("äö"), "v: Too long: may not be more than 1 byte"),
        (json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}), json!(["a", "b"]), "v: Too many: 2: must have at most 1 item"),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
            json!([]),
            "v: Invalid value: 0: v in body should have at least 1 items",
        ),
        (json!({"type": "number", "multipleOf": 0.5}), json!(0.7), "v: Invalid value: 0.7: v in body should be a multiple of 0.5"),
        (json!({"type": "number", "maximum": 1, "exclusiveMaximum": true}), json!(1), "v: Invalid value: 1: v in body should be less than 1"),
        (json!({"type": "string", "format": "date"}), json!("x"), "v: Invalid value: \"x\": v in body must be of type date: \"x\""),
        (json!({"type": "string", "format": "date"}), json!(1), "v: Invalid value: \"int64\": v in body must be of type date: \"int64\""),
        (json!({"type": "integer", "format": "int32"}), json!(true), "v: Invalid value: \"\": v in body must be of type int32: \"\""),
        (json!({"type": "integer", "format": "int32"}), json!("x"), "v: Invalid value: \"string\": v in body must be of type integer: \"string\""),
        (json!({"type": "object", "minProperties": 1}), json!({}), "v: Invalid value: 0: v in body should have at least 1 properties"),
        (json!({"type": "object", "required": ["a"]}), json!({}), "v.a: Required value: "),
    ] {
        let told = told(schema, value);
        assert_eq!(told.iter().map(|error| error.trim_end_matches(": ")).collect::<Vec<_>>(), [want.trim_end_matches(": ")]);
    }
}

#[test]
fn integers_are_those_that_fit_an_int64() {
    let wrong = "v: Invalid value: \"number\": v in body must be of type integer: \"number\"";
    let outside = |format: &str| format!("<nil>: Invalid value: \"\": Checked value must be of type integer {format} in v");
    let of_another_format = "v: Invalid value: \"float64\": v in body must be of type int64: \"float64\"";
    for value in [json!(9_223_372_036_854_775_808_u64), json!(-1e19), json!(1e30), json!(1.5)] {
        assert_eq!(told(json!({"type": "integer"}), value.clone()), [wrong.to_owned(), outside("(default format)")], "{value}");
        let with_format = told(json!({"type": "integer", "format": "int64"}), value.clone());
        assert_eq!(with_format, [of_another_format.to_owned(), outside("with format int64")], "{value}");
    }
    for value in [json!(i64::MAX), json!(i64::MIN), json!(9_007_199_254_740_991.0)] {
        assert_eq!(told(json!({"type": "integer", "format": "int64"}), value.clone()), Vec::<String>::new(), "{value}");
    }
    let even = told(json!({"type": "integer", "multipleOf": 2}), json!(2.5));
    assert_eq!(even[2..], ["v: Invalid value: 2.5: v in body should be a multiple of 2"]);
}

#[test]
fn nullable_whole_and_mixed_values_pass() {
    for (schema, value) in [
        (json!({"type": "string", "nullable": true}), json!(null)),
        (json!({"type": "integer"}), json!(2.0)),
        (json!({"type": "number"}), json!(2)),
        (json!({"x-kubernetes-int-or-string": true}), json!("a")),
        (json!({"x-kubernetes-int-or-string": true}), json!(1)),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), json!([{"a": 1}])),
        (json!({"type": "string", "maxLength": 2}), json!("äö")),
        (json!({"enum": [1, "a"]}), json!(1.0)),
    ] {
        assert_eq!(told(schema.clone(), value), Vec::<String>::new(), "{schema}");
    }
}

#[test]
fn junctors_say_which_of_them_failed() {
    let one = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    let message = |found: &str| format!("<nil>: Invalid value: \"\": \"v\" must validate one and only one schema (oneOf). {found}");
    assert_eq!(told(one.clone(), json!({}))[0], message("Found none valid"));
    assert_eq!(told(one.clone(), json!({"a": "", "b": ""})), [message("Found 2 valid alternatives")]);
    assert!(told(one, json!({"a": ""})).is_empty());
    let any = json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]});
    assert!(told(any.clone(), json!(0)).is_empty() && told(any.clone(), json!(9)).is_empty());
    assert_eq!(told(any, json!(3))[0], "<nil>: Invalid value: \"\": \"v\" must validate at least one schema (anyOf)");
    let not = json!({"type": "string", "not": {"pattern": "^a"}});
    assert_eq!(told(not.clone(), json!("ab")), ["<nil>: Invalid value: \"\": \"v\" must not validate the schema (not)"]);
    assert!(told(not, json!("b")).is_empty());
    let all = json!({"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 9}]});
    assert_eq!(told(all, json!(3)).len(), 2);
}

#[test]
fn embedded_objects_say_what_they_are() {
    let embedded = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    assert_eq!(told(embedded.clone(), json!({"kind": "A b"})).len(), 2);
    assert!(told(embedded.clone(), json!({"kind": "Pod", "apiVersion": "v1", "spec": {}})).is_empty());
    let numbered = told(embedded.clone(), json!({"kind": "1a", "apiVersion": "v1"}));
    assert!(numbered[0].contains("otherwise match: a DNS-1035 label"), "{numbered:?}");
    let object = |metadata: Value| json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata});
    assert!(told(embedded.clone(), object(json!({"name": "A B", "labels": {"a": "b"}}))).is_empty());
    let labelled = told(embedded.clone(), object(json!({"labels": {"a b": "c"}, "namespace": "A"})));
    assert_eq!(labelled.len(), 2, "{labelled:?}");
    assert!(labelled.iter().all(|error| error.starts_with("v.metadata.")), "{labelled:?}");
    assert_eq!(told(embedded, object(json!([]))), ["v.metadata: Invalid value: []: must be an object"]);
}

#[test]
fn a_hostile_schema_costs_so_much_and_no_more() {
    let mut inner = json!({"minLength": 1});
    for _ in 0..7 {
        inner = json!({"anyOf": [{"not": inner.clone()}, {"allOf": [inner.clone(), inner]}]});
    }
    let many: Vec<Value> = (0..300).map(|_| json!({"minLength": 1})).collect();
    let entries: Vec<String> = (0..20_000).map(|at| at.to_string()).collect();
    for (all, want) in [(vec![inner], "more is wrong than can be told"), (many, "validation takes more than 5000000 steps")] {
        let schema = json!({"type": "array", "items": {"type": "string", "allOf": all}});
        let begun = std::time::Instant::now();
        let told = told(schema, json!(entries));
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
        assert_eq!(told[0], format!("<nil>: Invalid value: \"\": {want}"));
    }
}

#[test]
fn what_is_told_of_wrong_values_is_bounded() {
    let choices: Vec<String> = (0..10_000).map(|n| format!("{n:0>100}")).collect();
    let wrong: Vec<String> = (0..190).map(|n| format!("w{n}")).collect();
    let errors = told(json!({"type": "array", "items": {"type": "string", "enum": choices}}), json!(wrong));
    assert!(errors[0].starts_with("v[0]: Unsupported value: \"w0\": supported values: \"0000"), "{}", &errors[0][..80]);
    assert!(errors[0].ends_with(" more)") && errors[0].len() < 10_000, "{}", errors[0].len());
    let sum = |errors: &[String]| errors.iter().map(String::len).sum::<usize>();
    assert!(sum(&errors) < 4 << 20, "{}", sum(&errors));
    // Alternatives within alternatives, of large values: each is wrong with all of them.
    let mut nested = json!({"type": "string", "enum": ["y"]});
    for _ in 0..12 {
        nested = json!({"anyOf": [nested, nested]});
    }
    let errors = told(nested, json!("x".repeat(5_000)));
    assert_eq!(errors[0], "<nil>: Invalid value: \"\": more is wrong than can be told");
    assert!(sum(&errors) < 8 << 20, "{}", sum(&errors));
}

/// What is wrong with an update of `v`.
fn told_of_update(schema: Value, old: Value, new: Value) -> Vec<String> {
    let schema = json!({"type": "object", "properties": {"v": schema}});
    let [old, new] = [old, new].map(|value| json!({"apiVersion": "x", "v": value}));
    Rules::new(&schema).check_update(&new, &old).iter().map(ToString::to_string).collect()
}

#[test]
fn what_did_not_change_may_stay_wrong() {
    let part = json!({"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer", "maximum": 5}}, "required": ["name"]});
    let object = json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 5}, "b": {"type": "integer"}}, "maxProperties": 1});
    let keyed = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": part, "maxItems": 2});
    let plain = json!({"type": "array", "items": part});
    let any = json!({"anyOf": [{"properties": {"a": {"maximum": 5}}}], "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}});
    let entry = |name: &str, n: i64| json!({"name": name, "n": n});
    for (schema, old, new, want) in [
        (&object, json!({"a": 9}), json!({"a": 9}), vec![]),
        (&object, json!({"a": 9}), json!({"a": 8}), vec!["v.a"]),
        (&object, json!({"a": 9}), json!({"a": 9, "b": 1}), vec!["v"]),
        // Entries stand for each other by their keys, wherever they are.
        (&keyed, json!([entry("x", 9), entry("y", 1)]), json!([entry("y", 2), entry("x", 9)]), vec![]),
        (&keyed, json!([entry("x", 9), entry("y", 1)]), json!([entry("y", 9), entry("x", 9)]), vec!["v[0].n"]),
        (&keyed, json!([entry("x", 9)]), json!([entry("x", 9), entry("y", 1), entry("z", 1)]), vec!["v"]),
        (&plain, json!([entry("x", 9), entry("y", 1)]), json!([entry("x", 9), entry("y", 2)]), vec!["v[0].n"]),
        (&plain, json!([entry("x", 9), entry("y", 1)]), json!([entry("x", 9), entry("y", 1)]), vec![]),
        // Parts of alternatives are judged as if they were new.
        (&any, json!({"a": 9, "b": 1}), json!({"a": 9, "b": 2}), vec!["<nil>", "v.a"]),
        (&any, json!({"a": 9, "b": 1}), json!({"a": 9, "b": 1}), vec![]),
    ] {
        let told = told_of_update(schema.clone(), old.clone(), new.clone());
        let fields: Vec<&str> = told.iter().map(|error| error.split(": ").next().unwrap_or_default()).collect();
        assert_eq!(fields, want, "{old} {new}: {told:?}");
    }
}

#[test]
fn what_the_schema_does_not_know_is_never_unchanged() {
    let root = json!({"type": "object", "required": ["spec"], "minProperties": 9});
    let object = json!({"apiVersion": "x", "kind": "X", "metadata": {"name": "a"}});
    let told: Vec<String> = Rules::new(&root).check_update(&object, &object).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["<nil>: Invalid value: 3:  in body should have at least 9 properties", "spec: Required value"]);
    let open = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["b"], "x-kubernetes-preserve-unknown-fields": true});
    let map = json!({"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["b"]}});
    let keyed = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "minItems": 3,
        "items": {"type": "object", "properties": {"name": {"type": "string"}}}});
    for (schema, old, new, want) in [
        (&open, json!({"a": 1}), json!({"a": 1}), vec![]),
        (&open, json!({"a": 1, "c": 1}), json!({"a": 1, "c": 1}), vec!["v.b: Required value"]),
        (&map, json!({"x": {"a": 1}}), json!({"x": {"a": 1}, "y": {"a": 1}}), vec!["v.y.b: Required value"]),
        (&keyed, json!([{"name": "x"}, {"name": "y"}]), json!([{"name": "y"}, {"name": "x"}]), vec![]),
    ] {
        assert_eq!(told_of_update(schema.clone(), old.clone(), new.clone()), want, "{old} {new}");
    }
}

#[test]
fn lists_may_go_on_repeating_entries_once_they_do() {
    let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
    assert_eq!(told_of_update(set.clone(), json!(["a", "a"]), json!(["a", "a", "b", "b"])), Vec::<String>::new());
    assert_eq!(told_of_update(set, json!(["a"]), json!(["a", "a"])), ["v[1]: Duplicate value: \"a\""]);
}

#[test]
fn an_object_within_says_what_it_is_though_it_never_did() {
    let inner = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    let told = told_of_update(inner, json!({"kind": "A"}), json!({"kind": "A"}));
    assert_eq!(told, ["v.apiVersion: Required value"]);
}
