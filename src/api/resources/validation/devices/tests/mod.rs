mod claims;
mod device;
mod rules;
mod slices;
mod statuses;

use serde_json::{Value, json};

use crate::{meta::Object, status::FieldError};

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// Puts a value at a JSON pointer of `base`, null to take it away, and expects what is said of the object then.
fn refused(check: impl Fn(&Object) -> Vec<FieldError>, base: &Value, rows: Vec<(&str, Value, &[&str])>) {
    assert_eq!(texts(&check(&object(base.clone()))), Vec::<String>::new(), "the base is good");
    for (pointer, value, want) in rows {
        let mut changed = base.clone();
        set(&mut changed, pointer, value.clone());
        let got = texts(&check(&object(changed)));
        let as_wanted = got.len() == want.len() && got.iter().zip(want).all(|(got, want)| got.starts_with(want));
        assert!(as_wanted, "{pointer} = {value}\n  said {got:#?}\n  not  {want:#?}");
    }
}

fn set(base: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
    let parent = base.pointer_mut(parent).expect("a parent");
    match parent {
        Value::Array(items) => items[last.parse::<usize>().expect("an index")] = value,
        Value::Object(fields) if value.is_null() => drop(fields.remove(last)),
        other => other[last.replace("~1", "/")] = value,
    }
}

fn many(count: usize, entry: impl Fn(usize) -> Value) -> Value {
    (0..count).map(entry).collect()
}

#[test]
fn long_keys_show_their_ends() {
    assert_eq!(super::shortened("short", 16), "short");
    assert_eq!(super::shortened("0123456789abcdefgh", 16), "0123456...cdefgh");
    assert_eq!(super::shortened(&"ä".repeat(20), 16).chars().filter(|c| *c == '.').count(), 3);
}

#[test]
fn uids_are_written_as_everybody_writes_them() {
    let of = |text: &str| {
        let (value, mut errors) = (Value::from(text), Vec::new());
        super::identifiers::uid(&mut errors, &crate::resources::validation::Field::root("uid", &value));
        errors.into_iter().map(|error| error.detail).collect::<Vec<_>>().concat()
    };
    let plain = "01234567-89ab-cdef-0123-456789abcdef";
    let normal = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
    assert_eq!(of(plain), "");
    assert_eq!(of(&plain.to_uppercase()), normal);
    assert_eq!(of(&plain.replace('-', "")), normal);
    assert_eq!(of(&format!("urn:uuid:{plain}")), normal);
    assert_eq!(of(&format!("{{{plain}}}")), normal);
    assert_eq!(of(&plain.replace('f', "x")), "error validating uid: invalid UUID format");
    assert_eq!(of(&format!("uri:uuid:{plain}")), "error validating uid: invalid urn prefix: \"uri:uuid:\"");
    assert_eq!(of(&format!("[{plain}]")), "error validating uid: invalid bracketed UUID format");
    assert_eq!(of("../../etc/passwd"), "error validating uid: invalid UUID length: 16");
}

#[test]
fn a_class_selects_and_configures_within_bounds() {
    let cel = |text: &str| json!({"cel": {"expression": text}});
    let over = |name: &str, inner: &str| format!("device.attributes.all({name}, device.attributes[{name}].all({name}a, {inner}))");
    let complex = over("b", &over("c", &over("d", "ba + ca != da")));
    let opaque = |driver: &str, parameters: Value| json!({"opaque": {"driver": driver, "parameters": parameters}});
    let base = json!({"metadata": {"name": "gpu"}, "spec": {
        "selectors": [cel("true")], "config": [opaque("gpu.example.com", json!({"a": 1}))], "extendedResourceName": "example.com/gpu",
    }});
    let long = "x".repeat(10 * 1024 + 1);
    refused(
        super::class,
        &base,
        vec![
            ("/spec/selectors", many(33, |_| cel("true")), &["spec.selectors: Too many: 33: must have at most 32 items"]),
            ("/spec/selectors/0", json!({}), &["spec.selectors[0].cel: Required value"]),
            ("/spec/selectors/0", cel(&long), &["spec.selectors[0].cel.expression: Too long: may not be more than 10240 bytes"]),
            (
                "/spec/selectors/0",
                cel(""),
                &[
                    "spec.selectors[0].cel.expression: Invalid value: \"\": compilation failed: ERROR: <input>:1:1: Syntax error: mismatched input '<EOF>'",
                ],
            ),
            (
                "/spec/selectors/0",
                cel("1"),
                &["spec.selectors[0].cel.expression: Invalid value: \"1\": must evaluate to bool or the unknown type, not int"],
            ),
            ("/spec/selectors/0", cel(&complex), &["spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"]),
            ("/spec/config", many(33, |_| json!({})), &["spec.config: Too many: 33: must have at most 32 items"]),
            ("/spec/config/0", json!({}), &["spec.config[0].opaque: Required value"]),
            ("/spec/config/0", opaque("", json!({})), &["spec.config[0].opaque.driver: Required value"]),
            (
                "/spec/config/0",
                opaque("../x", json!({})),
                &["spec.config[0].opaque.driver: Invalid value: \"../x\": a lowercase RFC 1123 subdomain must consist of"],
            ),
            ("/spec/config/0", opaque(&"a".repeat(64), json!({})), &["spec.config[0].opaque.driver: Too long: may not be more than 63 bytes"]),
            ("/spec/config/0", opaque("a", Value::Null), &["spec.config[0].opaque.parameters: Required value"]),
            (
                "/spec/config/0",
                opaque("a", json!([1])),
                &["spec.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object"],
            ),
            ("/spec/config/0", opaque("a", json!({"a": long})), &["spec.config[0].opaque.parameters: Too long: may not be more than 10240 bytes"]),
            (
                "/spec/extendedResourceName",
                json!("cpu"),
                &["spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name"],
            ),
            (
                "/spec/extendedResourceName",
                json!("requests.a.b/c"),
                &["spec.extendedResourceName: Invalid value: \"requests.a.b/c\": must be a valid extended resource name"],
            ),
        ],
    );
}

#[test]
fn long_parameters_that_are_stored_may_stay() {
    let class = |text: &str| {
        let config = json!({"opaque": {"driver": "a", "parameters": {"a": text}}});
        object(json!({"metadata": {"name": "gpu"}, "spec": {"config": [config]}}))
    };
    let (long, longer) = (class(&"x".repeat(11_000)), class(&"x".repeat(12_000)));
    assert!(super::class_update(&long, &long).is_empty());
    assert_eq!(texts(&super::class_update(&longer, &long)), ["spec.config[0].opaque.parameters: Too long: may not be more than 10240 bytes"]);
}
