use serde_json::json;

use super::*;
use crate::resources::validation::tests::texts;

fn with(mut spec: Value, change: &Value) -> Value {
    for (field, value) in change.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

fn rules() -> Value {
    let subject = json!({"kind": "User", "user": {"name": "*"}});
    let resources = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]});
    json!({"subjects": [subject], "resourceRules": [resources]})
}

fn flow_schema(change: Value) -> Vec<String> {
    let spec = json!({"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "high"}, "rules": [rules()]});
    let object = json!({"kind": "FlowSchema", "metadata": {"name": "f"}, "spec": with(spec, &change)});
    texts(schema(&Object::from_value(object).expect("an object")))
}

fn rule(change: Value) -> Vec<String> {
    flow_schema(json!({"rules": [with(rules(), &change)]}))
}

fn priority_level(name: &str, change: Value) -> Vec<String> {
    let spec = json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}}});
    let object = json!({"kind": "PriorityLevelConfiguration", "metadata": {"name": name}, "spec": with(spec, &change)});
    texts(level(&Object::from_value(object).expect("an object")))
}

#[test]
fn a_flow_schema_has_a_place_and_a_level() {
    assert!(flow_schema(json!({})).is_empty());
    let cases = [
        (json!({"matchingPrecedence": 0}), "matchingPrecedence: Invalid value: 0: must be a positive value"),
        (json!({"matchingPrecedence": 1}), "matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1"),
        (json!({"matchingPrecedence": 10_001}), "matchingPrecedence: Invalid value: 10001: must not be greater than 10000"),
        (
            json!({"distinguisherMethod": {"type": "ByPod"}}),
            "distinguisherMethod.type: Unsupported value: {\"Type\":\"ByPod\"}: supported values: \"ByNamespace\", \"ByUser\"",
        ),
        (json!({"priorityLevelConfiguration": {}}), "priorityLevelConfiguration.name: Required value: must reference a priority level"),
    ];
    for (change, want) in cases {
        assert_eq!(flow_schema(change), [format!("spec.{want}")]);
    }
}

#[test]
fn a_subject_is_of_one_kind() {
    let subject = |subject: Value| rule(json!({"subjects": [subject]}));
    let at = "spec.rules[0].subjects[0]";
    assert_eq!(rule(json!({"subjects": []})), ["spec.rules[0].subjects: Required value: subjects must contain at least one value"]);
    assert_eq!(
        subject(json!({"kind": "Robot"})),
        [format!("{at}.kind: Unsupported value: \"Robot\": supported values: \"Group\", \"ServiceAccount\", \"User\"")]
    );
    assert_eq!(
        subject(json!({"kind": "User", "group": {"name": "g"}})),
        [
            format!("{at}.user: Required value: user is required when subject kind is 'User'"),
            format!("{at}.group: Forbidden: group is forbidden when subject kind is not 'Group'"),
        ]
    );
    assert_eq!(
        subject(json!({"kind": "ServiceAccount", "serviceAccount": {"name": ""}})),
        [
            format!("{at}.serviceAccount.name: Required value"),
            format!("{at}.serviceAccount.namespace: Required value: must specify namespace for service account"),
        ]
    );
    assert!(subject(json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "n"}})).is_empty());
}

#[test]
fn rules_name_verbs_resources_and_paths() {
    let at = "spec.rules[0]";
    assert_eq!(
        rule(json!({"resourceRules": []})),
        [format!("{at}: Required value: at least one of resourceRules and nonResourceRules has to be non-empty")]
    );
    let verbs: Vec<String> =
        ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"].map(|v| format!("{v:?}")).into();
    assert_eq!(
        rule(json!({"resourceRules": [{"verbs": ["eat"], "apiGroups": ["*", "a"], "namespaces": []}]})),
        [
            format!("{at}.resourceRules[0].verbs: Unsupported value: [\"eat\"]: supported values: {}", verbs.join(", ")),
            format!("{at}.resourceRules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other api groups"),
            format!("{at}.resourceRules[0].resources: Required value: resource rules must supply at least one resource"),
            format!(
                "{at}.resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace"
            ),
        ]
    );
    let path = |path: &str| rule(json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": [path]}]}));
    let cases = [
        ("", "must not be empty"),
        ("x", "must start with slash"),
        ("/a b", "must not contain white-space"),
        ("//", "must not contain double slash"),
        ("/a*", "wildcard can only do suffix matching"),
        ("/*/*", "wildcard can only do suffix matching"),
    ];
    for (text, why) in cases {
        assert_eq!(path(text), [format!("{at}.nonResourceRules[0].nonResourceURLs[0]: Invalid value: {text:?}: {why}")]);
    }
    assert!(["/", "/a/*", "*"].into_iter().all(|text| path(text).is_empty()));
}

#[test]
fn a_priority_level_is_limited_unless_it_is_the_exempt_one() {
    assert!(priority_level("high", json!({})).is_empty());
    let exempt = "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'";
    assert_eq!(priority_level("high", json!({"type": "Exempt", "limited": null})), [exempt]);
    assert_eq!(priority_level("high", json!({"limited": null})), ["spec.limited: Required value: must not be empty when type is Limited"]);
    assert_eq!(priority_level("high", json!({"exempt": {}})), ["spec.exempt: Forbidden: must be nil if the type is Limited"]);
    let limited = |change: Value| priority_level("high", json!({"limited": with(json!({"limitResponse": {"type": "Reject"}}), &change)}));
    let cases = [
        (json!({"nominalConcurrencyShares": -1}), "nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer"),
        (json!({"lendablePercent": 101}), "lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"),
        (json!({"borrowingLimitPercent": -1}), "borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer"),
        (json!({"limitResponse": {"type": "Wait"}}), "limitResponse.type: Unsupported value: \"Wait\": supported values: \"Queue\", \"Reject\""),
        (
            json!({"limitResponse": {"type": "Queue"}}),
            "limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited",
        ),
    ];
    for (change, want) in cases {
        assert_eq!(limited(change), [format!("spec.limited.{want}")]);
    }
}

#[test]
fn queues_can_be_dealt() {
    let queuing = |queues: i64, hand: i64| {
        let response = json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}});
        priority_level("high", json!({"limited": {"limitResponse": response}}))
    };
    let at = "spec.limited.limitResponse.queuing";
    assert!(queuing(128, 6).is_empty());
    assert_eq!(queuing(10_000_001, 1), [format!("{at}.queues: Invalid value: 10000001: must not be greater than 10000000")]);
    assert_eq!(queuing(4, 5), [format!("{at}.handSize: Invalid value: 5: should not be greater than queues (4)")]);
    let bits = format!("{at}.handSize: Invalid value: 10: required entropy bits of deckSize 128 and handSize 10 should not be greater than 60");
    assert_eq!(queuing(128, 10), [bits]);
}

#[test]
fn the_servers_own_objects_stay_as_they_are() {
    for object in crate::resources::flow_bootstrap::objects() {
        let errors = if object.kind() == "FlowSchema" { schema(&object) } else { level(&object) };
        assert_eq!(texts(&errors), Vec::<String>::new(), "{}", object.name());
        let mut changed = object.clone();
        let path = if object.kind() == "FlowSchema" { "matchingPrecedence" } else { "limited" };
        changed.set(
            &["spec", path],
            if path == "limited" { json!({"nominalConcurrencyShares": 9, "limitResponse": {"type": "Reject"}}) } else { json!(77) },
        );
        let errors = if object.kind() == "FlowSchema" { schema(&changed) } else { level(&changed) };
        let refused = texts(&errors).iter().any(|error| error.ends_with("must equal the fixed value"));
        assert_eq!(refused, MANDATORY.contains(&object.name()), "{}", object.name());
    }
}

#[test]
fn administrators_may_change_the_share_of_the_exempt_level() {
    let spec = json!({"type": "Exempt", "limited": null, "exempt": {"nominalConcurrencyShares": 7, "lendablePercent": 50}});
    assert_eq!(priority_level(EXEMPT, spec), Vec::<String>::new());
}

#[test]
fn a_condition_has_a_type_of_its_own() {
    let object = json!({"status": {"conditions": [{"type": "Dangling"}, {"type": "Dangling"}, {}]}});
    assert_eq!(
        texts(status(&Object::from_value(object).expect("an object"))),
        ["status.conditions[1].type: Duplicate value: \"Dangling\"", "status.conditions[2].type: Required value"]
    );
}
