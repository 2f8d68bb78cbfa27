//! Validation rules of definitions: refused, enforced and told of through the front door.

use std::time::Duration;

use serde_json::{Value, json};

use super::door::Door;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CATS: &str = "/apis/example.com/v1/namespaces/default/cats";

fn definition(spec: Value) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    let names = json!({"plural": "cats", "singular": "cat", "kind": "Cat", "listKind": "CatList"});
    json!({"metadata": {"name": "cats.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced", "names": names,
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}})
}

/// A server that serves cats with such a spec.
async fn with_cats(spec: Value) -> Door {
    let mut door = Door::open().await;
    let made = door.post(DEFINITIONS, &definition(spec)).await;
    assert_eq!((made.status.as_u16(), made.warnings()), (201, Vec::new()), "{:?}", made.body);
    for _ in 0..500 {
        if door.get(CATS).await.status == 200 {
            return door;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("cats are not served");
}

fn cat(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Cat", "metadata": {"name": "tom"}, "spec": spec})
}

#[actix::test]
async fn an_object_that_breaks_a_rule_is_refused() {
    let mut door = with_cats(json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.x + self.y > 0"}],
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}))
    .await;
    let why = "Cat.example.com \"tom\" is invalid: spec: Invalid value: failed rule: self.x + self.y > 0";
    assert_eq!(door.post(CATS, &cat(json!({"x": 0, "y": 0}))).await.refusal(), (422, why.to_owned()));
    assert_eq!(door.post(CATS, &cat(json!({"x": 1, "y": 0}))).await.status, 201);
    door.close().await;
}

#[actix::test]
async fn a_rule_names_a_reserved_word_plainly_or_escaped() {
    for rule in ["!has(self.namespace) || self.namespace == 'a'", "!has(self.__namespace__) || self.__namespace__ == 'a'"] {
        let mut door = with_cats(json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}],
            "properties": {"namespace": {"type": "string", "maxLength": 63}}}))
        .await;
        let why = format!("Cat.example.com \"tom\" is invalid: spec: Invalid value: failed rule: {rule}");
        assert_eq!(door.post(CATS, &cat(json!({"namespace": "b"}))).await.refusal(), (422, why));
        for (name, spec) in [("a", json!({"namespace": "a"})), ("none", json!({}))] {
            let mut fits = cat(spec);
            fits["metadata"]["name"] = name.into();
            assert_eq!(door.post(CATS, &fits).await.status, 201, "{rule}");
        }
        door.close().await;
    }
}

#[actix::test]
async fn a_transition_rule_holds_for_updates_only() {
    let mut door = with_cats(json!({"type": "object", "properties": {"num": {"type": "integer",
        "x-kubernetes-validations": [{"rule": "self > oldSelf", "reason": "FieldValueForbidden", "messageExpression": "oldSelf > 5 ? 'was large' : 'was small'"}]}}}))
    .await;
    let made = door.post(CATS, &cat(json!({"num": 10}))).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let mut less = made.json();
    less["spec"]["num"] = 9.into();
    let why = "Cat.example.com \"tom\" is invalid: spec.num: Forbidden: was large";
    let refused = door.put(&format!("{CATS}/tom"), &less).await;
    assert_eq!(refused.json()["details"]["causes"][0]["reason"], "FieldValueForbidden");
    assert_eq!(refused.refusal(), (422, why.to_owned()));
    less["spec"]["num"] = 11.into();
    assert_eq!(door.put(&format!("{CATS}/tom"), &less).await.status, 200);
    door.close().await;
}

#[actix::test]
async fn an_object_that_costs_too_much_is_refused() {
    let mut door = with_cats(json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.l.all(x, self.l.all(y, y == x))"}],
        "properties": {"l": {"type": "array", "maxItems": 725, "items": {"type": "integer"}}}}))
    .await;
    let why = "Cat.example.com \"tom\" is invalid: spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further \
               validation rules will be run due to call cost exceeds limit for rule: self.l.all(x, self.l.all(y, y == x))";
    assert_eq!(door.post(CATS, &cat(json!({"l": vec![20; 725]}))).await.refusal(), (422, why.to_owned()));
    assert_eq!(door.post(CATS, &cat(json!({"l": [2, 2]}))).await.status, 201);
    door.close().await;
}

#[actix::test]
async fn definitions_with_rules_that_cannot_be_checked_are_refused() {
    let mut door = Door::open().await;
    for (rule, wanted) in [
        ("self.z == 100", "compilation failed: ERROR: <input>:1:5: undefined field 'z'"),
        ("self = 42", "Syntax error"),
        ("self.x.all(s, s.all(t, t == 'constant'))", "exceeds budget"),
        ("self.x.size()", "cel expression must evaluate to a bool"),
    ] {
        let spec = json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}],
            "properties": {"x": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}}}});
        let (code, why) = door.post(DEFINITIONS, &definition(spec)).await.refusal();
        assert!(code == 422 && why.contains(wanted), "{rule}: {code} {why}");
        assert!(why.contains(".x-kubernetes-validations[0].rule: "), "{why}");
    }
    door.close().await;
}
