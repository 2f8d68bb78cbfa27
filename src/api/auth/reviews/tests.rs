use std::sync::Arc;

use super::*;
use crate::auth::{Attributes, Credentials, Decision, TokenOwner, UserRules};

/// Allows `get`, and everything to `ann`.
struct Simple;

impl Authorizer for Simple {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        match attributes.verb {
            _ if user.name == "ann" => Decision::Allow,
            "get" => Decision::Allow,
            "delete" => Decision::Deny("never".into()),
            _ => Decision::NoOpinion("no rule".into()),
        }
    }

    fn rules_for(&self, _user: &UserInfo, namespace: &str) -> UserRules {
        let one = |value: &str| Some(vec![value.to_owned()]);
        let pods = PolicyRule { verbs: vec!["get".into()], api_groups: one(""), resources: one(namespace), ..PolicyRule::default() };
        let path = PolicyRule { verbs: vec!["get".into()], non_resource_urls: one("/x"), ..PolicyRule::default() };
        UserRules { rules: [pods, path].map(|rule| Arc::new(rule.into())).into(), incomplete: false, errors: vec!["a role is gone".into()] }
    }
}

impl Authenticator for Simple {
    fn authenticate(&self, _credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        Ok(None)
    }

    fn review_token(&self, token: &str, audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        match token {
            "good" => Ok(Some(TokenOwner { user: ann(), audiences: audiences.to_vec() })),
            "old" => Err("expired".into()),
            _ => Ok(None),
        }
    }
}

fn ann() -> UserInfo {
    UserInfo { name: "ann".into(), uid: "1".into(), groups: vec!["g".into()], extra: [("k".to_owned(), vec!["v".to_owned()])].into() }
}

fn ask(kind: &str, value: Value) -> Result<Value, Status> {
    let mut object = Object::from_value(value).expect("an object");
    object.set(&["kind"], kind);
    let bob = UserInfo { name: "bob".into(), ..UserInfo::default() };
    evaluate(kind, object, &bob, &Simple, &Simple).map(|object| object.into_value()["status"].clone())
}

fn about(verb: &str) -> Value {
    json!({"verb": verb, "resource": "pods", "namespace": "a"})
}

#[test]
fn own_access_is_answered_with_the_reason() {
    let own = |verb| ask("SelfSubjectAccessReview", json!({"spec": {"resourceAttributes": about(verb)}}));
    assert_eq!(own("get"), Ok(json!({"allowed": true})));
    assert_eq!(own("list"), Ok(json!({"allowed": false, "reason": "no rule"})));
    assert_eq!(own("delete"), Ok(json!({"allowed": false, "denied": true, "reason": "never"})));
    assert_eq!(
        ask("SelfSubjectAccessReview", json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/x"}}})),
        Ok(json!({"allowed": true}))
    );
}

#[test]
fn access_of_others_is_about_them() {
    let spec = json!({"user": "ann", "resourceAttributes": about("list")});
    assert_eq!(ask("SubjectAccessReview", json!({"spec": spec})), Ok(json!({"allowed": true})));
    let local = json!({"metadata": {"namespace": "a"}, "spec": spec});
    assert_eq!(ask("LocalSubjectAccessReview", local), Ok(json!({"allowed": true})));
    let elsewhere = json!({"metadata": {"namespace": "b"}, "spec": spec});
    let message = ask("LocalSubjectAccessReview", elsewhere).expect_err("another namespace").message;
    assert!(message.contains("spec.resourceAttributes.namespace: Invalid value: \"a\": must match metadata.namespace"), "{message}");
}

#[test]
fn badly_put_questions_are_invalid() {
    for (kind, question, want) in [
        ("SelfSubjectAccessReview", json!({"spec": {}}), "exactly one of nonResourceAttributes or resourceAttributes must be specified"),
        ("SubjectAccessReview", json!({"spec": {"resourceAttributes": about("get")}}), "at least one of user or group must be specified"),
        ("SelfSubjectAccessReview", json!({"metadata": {"name": "x"}, "spec": {"resourceAttributes": about("get")}}), "must be empty"),
    ] {
        let status = ask(kind, question).expect_err(want);
        assert_eq!(status.code, 422);
        assert!(status.message.contains(want), "{}", status.message);
        assert!(status.message.starts_with(".authorization.k8s.io \"\" is invalid: "), "{}", status.message);
    }
    assert_eq!(ask("SelfSubjectRulesReview", json!({"spec": {}})).expect_err("no namespace").code, 400);
    assert_eq!(ask("TokenReview", json!({"spec": {}})).expect_err("no token").code, 400);
}

#[test]
fn requirements_of_selectors_are_whole_but_may_have_unknown_operators() {
    let review = |selector: &str, requirement: Value| {
        let mut attributes = about("get");
        attributes[selector] = json!({"requirements": [requirement]});
        ask("SelfSubjectAccessReview", json!({"spec": {"resourceAttributes": attributes}})).err().map(|status| status.message).unwrap_or_default()
    };
    let at = |selector: &str| format!("spec.resourceAttributes.{selector}.requirements[0]");
    let missing = "values: Required value: must be specified when `operator` is 'In' or 'NotIn'";
    for selector in ["fieldSelector", "labelSelector"] {
        assert!(review(selector, json!({"key": "a", "operator": "Near"})).is_empty(), "{selector}");
        let said = review(selector, json!({"key": "a", "operator": "In"}));
        assert!(said.contains(&format!("{}.{missing}", at(selector))), "{said}");
    }
    let keyless = review("fieldSelector", json!({"operator": "Exists", "values": ["x"]}));
    assert!(keyless.contains(&format!("{}.key: Required value: must be specified", at("fieldSelector"))), "{keyless}");
    assert!(keyless.contains("values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"), "{keyless}");
    let label = review("labelSelector", json!({"key": "a b", "operator": "In", "values": ["c d"]}));
    assert!(label.contains(&format!("{}.key: Invalid value: \"a b\"", at("labelSelector"))), "{label}");
    assert!(label.contains(&format!("{}.values[0]: Invalid value: \"c d\"", at("labelSelector"))), "{label}");
}

#[test]
fn selectors_that_are_not_understood_are_told_of() {
    let told = |fields: Value, labels: Value| {
        let mut attributes = about("get");
        attributes["fieldSelector"] = fields;
        attributes["labelSelector"] = labels;
        ask("SelfSubjectAccessReview", json!({"spec": {"resourceAttributes": attributes}})).expect("answers")["evaluationError"].clone()
    };
    let one = |operator: &str| json!({"key": "a", "operator": operator, "values": ["b"]});
    let (good, bad) = (json!({"requirements": [one("In")]}), json!({"requirements": [one("Near")]}));
    assert_eq!(told(good.clone(), good.clone()), Value::Null);
    assert_eq!(told(bad.clone(), good.clone()), "spec.resourceAttributes.fieldSelector ignored due to parse error");
    assert_eq!(
        told(Value::Null, json!({"requirements": [one("In"), one("Near")]})),
        "spec.resourceAttributes.labelSelector partially ignored due to parse error"
    );
    assert_eq!(
        told(bad, json!({"rawSelector": "a in (b"})),
        "spec.resourceAttributes.fieldSelector ignored due to parse error; spec.resourceAttributes.labelSelector ignored due to parse error"
    );
}

#[test]
fn rules_are_split_by_what_they_are_about() {
    let status = ask("SelfSubjectRulesReview", json!({"spec": {"namespace": "pods"}})).expect("answers");
    assert_eq!(status["resourceRules"], json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
    assert_eq!(status["nonResourceRules"], json!([{"verbs": ["get"], "nonResourceURLs": ["/x"]}]));
    assert_eq!((&status["incomplete"], &status["evaluationError"]), (&json!(false), &json!("a role is gone")));
}

#[test]
fn token_and_self_reviews_name_the_user() {
    let whole = json!({"username": "ann", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}});
    let good = ask("TokenReview", json!({"spec": {"token": "good", "audiences": ["x"]}})).expect("answers");
    assert_eq!(good, json!({"authenticated": true, "user": whole, "audiences": ["x"]}));
    assert_eq!(ask("TokenReview", json!({"spec": {"token": "old"}})).expect("answers")["error"], "expired");
    assert!(ask("TokenReview", json!({"spec": {"token": "?"}})).expect("answers").get("authenticated").is_none());
    assert_eq!(ask("SelfSubjectReview", json!({})).expect("answers"), json!({"userInfo": {"username": "bob"}}));
}
