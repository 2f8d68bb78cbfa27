use serde_json::json;
use troupe_api::{
    service::{DeleteOptions, Operation, PatchType, WriteOptions},
    status::Reason,
};

use super::{super::metrics::counted_of, POLICIES, binding, map, policy, told, validating};
use crate::apiserver::testing::boot;

#[actix::test]
async fn a_policy_refuses_in_upstreams_words_as_soon_as_it_is_bound_and_no_longer_than_that() {
    let api = boot().await;
    api.create(policy("Validating", "p", &json!({"validations": [{"expression": "object.data.a == 'b'"}]}))).await;
    api.create(map("unbound", json!({"a": "c"}))).await;
    api.create(binding("Validating", "p", &json!({}))).await;
    api.create(map("right", json!({"a": "b"}))).await;
    let refused = api.try_create(map("wrong", json!({"a": "c"}))).await.expect_err("is refused");
    let why = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: failed expression: object.data.a == 'b'";
    assert_eq!((refused.code, refused.reason, &*refused.message), (422, Reason::Invalid, &*format!("configmaps \"wrong\" is forbidden: {why}")));
    let mut versioned = map("wrong", json!({"a": "c"}));
    versioned["metadata"]["resourceVersion"] = "5".into();
    let refused_too = api.try_create(versioned.clone()).await.expect_err("is refused");
    assert_eq!(refused_too.message, refused.message, "policies have their say before the store has");
    versioned["data"]["a"] = "b".into();
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    assert!(told(&api, versioned.clone(), dry).await.reply.is_ok(), "a dry run does not come to the store");
    let unwritten = api.try_create(versioned).await.expect_err("is refused");
    assert_eq!((unwritten.code, &*unwritten.message), (500, "resourceVersion should not be set on objects to be created"));
    let details = refused.details.expect("details");
    assert_eq!((details.causes.len(), &*details.causes[0].message, &*details.causes[0].reason), (1, why, ""));
    let mut stored = api.get(POLICIES, "", "p").await.expect("is there");
    stored.set(&["spec", "validations"], json!([{"expression": "object.data.a == 'c'"}]));
    api.try_update(stored.into_value()).await.expect("is written");
    api.create(map("wrong", json!({"a": "c"}))).await;
    api.delete(&POLICIES.replace("policies", "policybindings"), "", "p", DeleteOptions::default()).await.expect("goes");
    api.create(map("any", json!({"a": "d"}))).await;
}

#[actix::test]
async fn messages_and_reasons_are_the_policys_own() {
    for (validation, code, said) in [
        (json!({"expression": "false", "message": " no "}), 422, "no"),
        (json!({"expression": "false", "message": "no", "reason": "Forbidden"}), 403, "no"),
        (json!({"expression": "false", "message": "no", "reason": "RequestEntityTooLarge"}), 413, "no"),
        (json!({"expression": "false", "messageExpression": "'not ' + object.data.a"}), 422, "not b"),
        (json!({"expression": "false", "messageExpression": "string(object.data.gone)", "message": "no"}), 422, "no"),
        (json!({"expression": "false", "messageExpression": "'a\\nb'"}), 422, "failed expression: false"),
        (json!({"expression": "object.data.gone == 'x'"}), 422, "expression 'object.data.gone == 'x'' resulted in error: no such key: gone"),
        (json!({"expression": "has(object.data.a) && variables.name != 'm'"}), 422, "failed expression: has(object.data.a) && variables.name != 'm'"),
        (
            json!({"expression": "variables.bad == 'x'"}),
            422,
            "expression 'variables.bad == 'x'' resulted in error: composited variable \"bad\" fails to evaluate: no such key: gone",
        ),
        (json!({"expression": "namespaceObject.metadata.name != 'default'"}), 422, "failed expression: namespaceObject.metadata.name != 'default'"),
        (
            json!({"expression": "request.operation != 'CREATE' && oldObject == null"}),
            422,
            "failed expression: request.operation != 'CREATE' && oldObject == null",
        ),
    ] {
        let api = boot().await;
        let variables = json!([
            {"name": "name", "expression": "object.metadata.name"},
            {"name": "bad", "expression": "object.data.gone"},
            {"name": "again", "expression": "variables.name"},
        ]);
        validating(&api, "p", json!({"validations": [{"expression": "variables.again == 'm'"}, validation], "variables": variables}), json!({}))
            .await;
        let refused = api.try_create(map("m", json!({"a": "b"}))).await.expect_err("is refused");
        let why = format!("configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: {said}");
        assert_eq!((refused.code, refused.message), (code, why), "{validation}");
    }
}

#[actix::test]
async fn a_binding_says_what_follows() {
    let api = boot().await;
    let validations = json!([{"expression": "true"}, {"expression": "object.data.a != 'b'", "message": "a < b"}]);
    let annotations =
        json!([{"key": "a", "valueExpression": "object.data.a"}, {"key": "none", "valueExpression": "has(object.data.x) ? 'x' : null"}]);
    let annotations = annotations.as_array().expect("a list").iter().map(|one| {
        let mut one = one.clone();
        if one["key"] == "a" {
            one["valueExpression"] = json!("'is ' + object.data.a");
        } else {
            one["valueExpression"] = json!("''");
        }
        one
    });
    let annotations: Vec<_> = annotations.collect();
    let actions = json!({"validationActions": ["Warn", "Audit"]});
    validating(&api, "p.example.com", json!({"validations": validations, "auditAnnotations": annotations}), actions).await;
    let told = told(&api, map("m", json!({"a": "b"})), WriteOptions::default()).await;
    assert!(told.reply.is_ok());
    let warning = "Validation failed for ValidatingAdmissionPolicy 'p.example.com' with binding 'p.example.com': a < b";
    assert_eq!(told.notices.warnings(), [warning]);
    let said = told.notices.annotations();
    let failure =
        r#"[{"message":"a \u003c b","policy":"p.example.com","binding":"p.example.com","expressionIndex":1,"validationActions":["Warn","Audit"]}]"#;
    assert_eq!(said.get("validation.policy.admission.k8s.io/validation_failure").map(String::as_str), Some(failure));
    assert_eq!(said.get("p.example.com/a").map(String::as_str), Some("is b"));
    assert!(!said.contains_key("p.example.com/none"));
}

#[actix::test]
async fn what_fails_counts_as_the_policy_says() {
    for (failure, refused) in [("Fail", true), ("Ignore", false)] {
        let api = boot().await;
        for (name, spec) in [
            ("expression", json!({"validations": [{"expression": "object.data.gone == 'x'"}]})),
            (
                "condition",
                json!({"validations": [{"expression": "true"}], "matchConditions": [{"name": "c", "expression": "object.data.gone == 'x'"}]}),
            ),
            ("params", json!({"validations": [{"expression": "true"}], "paramKind": {"apiVersion": "example.com/v1", "kind": "Gone"}})),
        ] {
            let mut spec = spec;
            spec["failurePolicy"] = failure.into();
            validating(&api, name, spec, json!({"paramRef": {"name": "x", "parameterNotFoundAction": "Deny"}})).await;
            let made = api.try_create(map(name, json!({"a": "b"}))).await;
            assert_eq!(made.is_err(), refused, "{name} {failure}: {made:?}");
            if let (Err(status), "params") = (&made, name) {
                let why = "ValidatingAdmissionPolicy 'params' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Gone'";
                assert_eq!(status.message, format!("configmaps \"params\" is forbidden: {why}"));
            }
            api.delete(&POLICIES.replace("policies", "policybindings"), "", name, DeleteOptions::default()).await.expect("goes");
        }
    }
}

#[actix::test]
async fn updates_show_the_version_that_they_replace() {
    let api = boot().await;
    let same = "has(object.metadata.resourceVersion) && object.metadata.resourceVersion == oldObject.metadata.resourceVersion";
    validating(&api, "p", json!({"validations": [{"expression": format!("request.operation != 'UPDATE' || {same}")}]}), json!({})).await;
    let made = api.create(map("m", json!({"a": "0"}))).await;
    api.try_update(map("m", json!({"a": "1"}))).await.expect("is written without a version");
    api.try_update(made.into_value()).await.expect_err("is written over");
    let current = api.get("configmaps", "default", "m").await.expect("is there");
    api.try_update(current.into_value()).await.expect("is written with its version");
    let target = api.target("configmaps", "default", "m");
    api.patch(target.clone(), PatchType::Merge, json!({"data": {"a": "2"}})).await.expect("is patched");
    let options = WriteOptions { field_manager: "m".into(), force: true, ..WriteOptions::default() };
    let body = map("m", json!({"a": "3"})).to_string().into();
    let applied = api.call(target, Operation::Patch { patch_type: PatchType::Apply, body, options }).await.expect("is applied");
    assert_eq!(applied.into_tree().expect("an object").str(&["data", "a"]), "3");
}

#[actix::test]
async fn conditions_decide_who_is_asked() {
    let api = boot().await;
    let conditions =
        json!([{"name": "a", "expression": "object.metadata.name == 'asked'"}, {"name": "v", "expression": "request.userInfo.username == 'admin'"}]);
    validating(&api, "conditions.counted", json!({"validations": [{"expression": "false"}], "matchConditions": conditions}), json!({})).await;
    api.create(map("other", json!({}))).await;
    assert_eq!(counted_of("conditions.counted", "policy", "validate"), [None, None, Some(1.0)]);
    api.try_create(map("asked", json!({}))).await.expect_err("is asked");
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    assert!(told(&api, map("asked", json!({})), dry).await.reply.is_err(), "also where nothing is written");
}

#[actix::test]
async fn deletions_show_what_goes() {
    let api = boot().await;
    validating(
        &api,
        "p",
        json!({"validations": [{"expression": "request.operation != 'DELETE' || object == null && oldObject.data.a != 'kept'"}]}),
        json!({}),
    )
    .await;
    api.create(map("kept", json!({"a": "kept"}))).await;
    api.create(map("gone", json!({"a": "b"}))).await;
    api.delete("configmaps", "default", "gone", DeleteOptions::default()).await.expect("goes");
    let refused = api.delete("configmaps", "default", "kept", DeleteOptions::default()).await.expect_err("stays");
    assert_eq!(refused.code, 422);
}

#[actix::test]
async fn what_takes_long_is_done_and_what_never_ends_is_ended() {
    let api = boot().await;
    let long = json!({"validations": [{"expression": "object.data.text.split(',').all(x, object.data.text.split(',').exists(y, x == y))"}]});
    validating(&api, "p", long, json!({})).await;
    let text = |count: usize| map(&format!("m{count}"), json!({"text": (0..count).map(|at| at.to_string()).collect::<Vec<_>>().join(",")}));
    api.create(text(100)).await;
    let refused = api.try_create(text(3000)).await.expect_err("costs too much");
    assert!(refused.message.ends_with("resulted in error: operation cancelled: actual cost limit exceeded"), "{refused}");
    let many: Vec<_> =
        (0..14).map(|_| json!({"expression": "object.data.text.split(',').all(x, object.data.text.split(',').exists(y, x == y))"})).collect();
    let mut stored = api.get(POLICIES, "", "p").await.expect("is there");
    stored.set(&["spec", "validations"], many);
    api.try_update(stored.into_value()).await.expect("is written");
    let refused = api.try_create(text(560)).await.expect_err("costs too much together");
    let why = "validation failed due to running out of cost budget, no further validation rules will be run";
    assert!(refused.message.ends_with(why) || refused.message.ends_with("actual cost limit exceeded"), "{refused}");
}

#[actix::test]
async fn policies_are_asked_about_no_policy_and_no_review() {
    let api = boot().await;
    let everything = json!({"resourceRules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]});
    validating(&api, "p", json!({"validations": [{"expression": "false"}], "matchConstraints": everything}), json!({})).await;
    api.try_create(map("m", json!({}))).await.expect_err("everything is refused");
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let status = api.try_create(review).await.err().map_or_else(String::new, |status| status.message);
    assert!(!status.contains("ValidatingAdmissionPolicy"), "{status}");
    let mut stored = api.get(POLICIES, "", "p").await.expect("is there");
    stored.set(&["metadata", "labels", "a"], "b");
    api.try_update(stored.into_value()).await.expect("is written");
    api.delete(POLICIES, "", "p", DeleteOptions::default()).await.expect("goes");
    api.create(map("m", json!({}))).await;
}
