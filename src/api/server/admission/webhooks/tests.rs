use serde_json::{Value, json};
use troupe_api::{
    meta::Object,
    resources::{Registry, builtin},
    status::Reason,
};

use super::{
    configuration::hooks,
    response::{Unusable, Verdict, denied, read},
};
use crate::{
    admission::{
        Operation,
        matching::{Rule, Subject},
        resource_name::{ResourceName, equivalents},
    },
    webhook_client::ReviewVersion,
};

fn rule(change: Value) -> Rule {
    let mut rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
    for (field, value) in change.as_object().expect("fields") {
        rule[field] = value.clone();
    }
    Rule::read(&rule)
}

const POD: Subject<'_> = Subject {
    operation: Operation::Create,
    group: "",
    version: "v1",
    resource: "pods",
    subresource: "",
    namespace: "n",
    is_namespace: false,
    name: "p",
};

#[test]
fn a_rule_matches_by_all_that_it_names() {
    let update = Subject { operation: Operation::Update, ..POD };
    let deployment = Subject { group: "apps", resource: "deployments", ..POD };
    for (change, subject, matches) in [
        (json!({}), POD, true),
        (json!({"operations": ["CREATE", "DELETE"]}), POD, true),
        (json!({"operations": ["CREATE", "DELETE"]}), update, false),
        (json!({"apiGroups": ["apps"]}), POD, false),
        (json!({"apiGroups": ["", "apps"]}), deployment, true),
        (json!({"apiVersions": ["v1beta1"]}), POD, false),
        (json!({"resources": ["pods"]}), POD, true),
        (json!({"resources": ["pods"]}), deployment, false),
        (json!({"operations": []}), POD, false),
    ] {
        assert_eq!(rule(change.clone()).matches(&subject), matches, "{change} {subject:?}");
    }
}

#[test]
fn subresources_are_named_on_their_own() {
    let status = Subject { subresource: "status", ..POD };
    for (resources, whole, part) in [
        ("pods", true, false),
        ("pods/status", false, true),
        ("pods/*", true, true),
        ("pods/exec", false, false),
        ("*", true, false),
        ("*/*", true, true),
        ("*/status", false, true),
    ] {
        let rule = rule(json!({"resources": [resources]}));
        assert_eq!((rule.matches(&POD), rule.matches(&status)), (whole, part), "{resources}");
    }
}

#[test]
fn a_namespace_lies_in_none() {
    let node = Subject { resource: "nodes", namespace: "", ..POD };
    let namespace = Subject { resource: "namespaces", namespace: "n", is_namespace: true, ..POD };
    for (scope, of_pod, of_others) in [("*", true, true), ("Namespaced", true, false), ("Cluster", false, true), ("Other", false, false)] {
        let rule = rule(json!({"scope": scope}));
        assert_eq!([POD, node, namespace].map(|subject| rule.matches(&subject)), [of_pod, of_others, of_others], "{scope}");
    }
}

#[test]
fn what_shares_its_objects_is_equivalent() {
    let registry = Registry::new(builtin());
    let of = |group: &str, plural: &str| {
        let row = registry.by_resource(group, plural).expect("is served");
        let others = equivalents(&registry, &ResourceName { row, version: "v1".into() }, "");
        others.iter().map(|other| format!("{}/{}/{}", other.row.group, other.version, other.row.plural)).collect::<Vec<_>>()
    };
    assert_eq!(of("", "events"), ["events.k8s.io/v1/events"]);
    assert_eq!(of("events.k8s.io", "events"), ["/v1/events"]);
    assert_eq!(of("", "pods"), Vec::<String>::new());
}

#[test]
fn webhooks_of_one_name_are_told_apart_and_have_their_defaults() {
    let webhooks = json!([{"name": "a"}, {"name": "b", "failurePolicy": "Ignore", "matchPolicy": "Exact", "admissionReviewVersions": ["v7", "v1beta1", "v1"]}, {"name": "a"}]);
    let configuration = Object::from_value(json!({"metadata": {"name": "c"}, "webhooks": webhooks})).expect("an object");
    let hooks = hooks(&configuration);
    assert_eq!(hooks.iter().map(|hook| hook.id.as_str()).collect::<Vec<_>>(), ["c/a/0", "c/b/0", "c/a/1"]);
    assert_eq!(
        hooks.iter().map(|hook| (hook.ignores_failure, hook.resources.is_equivalent(), hook.timeout.as_secs())).collect::<Vec<_>>()[..2],
        [(false, true, 10), (true, false, 10)]
    );
    assert_eq!((hooks[0].version, hooks[1].version), (None, Some(ReviewVersion::V1Beta1)));
}

fn answer(response: Value) -> Vec<u8> {
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}).to_string().into_bytes()
}

#[test]
fn an_answer_is_held_to_its_form() {
    let invalid = |why: &str| Err(Unusable::Invalid(why.to_owned()));
    let fine = |patch: &[u8]| Ok(Verdict { allowed: true, patch: patch.to_vec(), ..Verdict::default() });
    for (response, mutating, want) in [
        (json!({"uid": "u", "allowed": true}), true, fine(b"")),
        (json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}), true, fine(b"[]")),
        (json!({"uid": "x", "allowed": true}), true, invalid("expected response.uid=\"u\", got \"x\"")),
        (json!(null), true, invalid("webhook response was absent")),
        (json!({"uid": "u", "patch": "W10="}), true, invalid("webhook returned response.patch but not response.patchType")),
        (json!({"uid": "u", "patchType": "JSONPatch"}), true, invalid("webhook returned response.patchType but not response.patch")),
        (json!({"uid": "u", "patch": "W10=", "patchType": ""}), true, invalid("webhook returned invalid response.patchType of \"\"")),
        (json!({"uid": "u", "patch": "W10=", "patchType": "Merge"}), true, invalid("unsupported patch type \"Merge\"")),
        (json!({"uid": "u", "patch": "W10="}), false, invalid("validating webhook may not return response.patch")),
        (json!({"uid": "u", "patchType": "JSONPatch"}), false, invalid("validating webhook may not return response.patchType")),
    ] {
        assert_eq!(read(&answer(response.clone()), ReviewVersion::V1, "u", mutating), want, "{response}");
    }
    let other = json!({"response": {"uid": "u"}}).to_string();
    let why = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=";
    assert_eq!(read(other.as_bytes(), ReviewVersion::V1, "u", true), invalid(why));
    for broken in ["", "[", "[]", "{\"response\": {\"allowed\": 5}}"] {
        assert!(matches!(read(broken.as_bytes(), ReviewVersion::V1, "u", true), Err(Unusable::Malformed(_))), "{broken}");
    }
    let deep = format!("{{\"response\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(matches!(read(deep.as_bytes(), ReviewVersion::V1, "u", true), Err(Unusable::Malformed(_))));
}

#[test]
fn the_older_form_is_held_to_less() {
    let older = json!({"response": {"allowed": true, "patch": "W10="}}).to_string();
    let want = Verdict { allowed: true, patch: b"[]".to_vec(), ..Verdict::default() };
    assert_eq!(read(older.as_bytes(), ReviewVersion::V1Beta1, "u", true), Ok(want));
    assert_eq!(read(older.as_bytes(), ReviewVersion::V1Beta1, "u", false), Ok(Verdict { allowed: true, ..Verdict::default() }));
}

#[test]
fn a_refusal_keeps_what_the_webhook_said_within_reason() {
    let said = json!({"code": 422, "reason": "Invalid", "message": "m", "details": {"name": "n", "causes": [{"field": "f", "message": "why"}]}});
    let status = denied("a.b.c", Some(&said));
    assert_eq!((status.code, status.reason), (422, Reason::Invalid));
    assert_eq!(status.details.expect("has details").causes[0].field, "f");
    for code in [json!(0), json!(200), json!(399), json!(70000), json!(-1), json!("403"), json!(700)] {
        assert_eq!(denied("a.b.c", Some(&json!({"code": code}))).code, 400, "{code}");
    }
}
