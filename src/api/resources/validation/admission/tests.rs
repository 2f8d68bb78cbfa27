use serde_json::{Value, json};

use super::*;
use crate::meta::Object;
use crate::resources::validation::tests::{object, texts};

fn with(mut base: Value, change: &Value) -> Value {
    for (field, value) in change.as_object().into_iter().flatten() {
        base[field] = value.clone();
    }
    base
}

fn rule() -> Value {
    json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "*"})
}

fn webhook(change: &Value) -> Value {
    let base = json!({
        "name": "a.example.com", "clientConfig": {"url": "https://example.com"}, "rules": [rule()], "failurePolicy": "Fail",
        "matchPolicy": "Equivalent", "sideEffects": "None", "timeoutSeconds": 10, "admissionReviewVersions": ["v1"],
        "namespaceSelector": {}, "objectSelector": {},
    });
    with(base, change)
}

fn configuration(hooks: Value) -> Object {
    object(json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": "c"}, "webhooks": hooks}))
}

fn said(change: &Value) -> Vec<String> {
    texts(webhooks(&configuration(json!([webhook(change)]))))
}

fn rule_said(change: &Value) -> Vec<String> {
    said(&json!({"rules": [with(rule(), change)]}))
}

#[test]
fn a_webhook_is_held_to_its_rules() {
    assert!(said(&json!({})).is_empty());
    let selector = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x y"]}]});
    assert!(
        said(&json!({"objectSelector": selector}))[0].starts_with("webhooks[0].objectSelector.matchExpressions[0].values[0]: Invalid value: \"x y\"")
    );
    let cases = [
        (json!({"name": "a.com"}), "name: Invalid value: \"a.com\": should be a domain with at least three segments separated by dots"),
        (json!({"failurePolicy": "Hope"}), "failurePolicy: Unsupported value: \"Hope\": supported values: \"Fail\", \"Ignore\""),
        (json!({"matchPolicy": "Like"}), "matchPolicy: Unsupported value: \"Like\": supported values: \"Equivalent\", \"Exact\""),
        (json!({"sideEffects": null}), "sideEffects: Required value: must specify one of None, NoneOnDryRun"),
        (json!({"sideEffects": "Some"}), "sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\""),
        (json!({"timeoutSeconds": 31}), "timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"),
        (json!({"reinvocationPolicy": "Always"}), "reinvocationPolicy: Unsupported value: \"Always\": supported values: \"IfNeeded\", \"Never\""),
        (json!({"clientConfig": {}}), "clientConfig: Required value: exactly one of url or service is required"),
        (json!({"admissionReviewVersions": []}), "admissionReviewVersions: Required value: must specify one of v1, v1beta1"),
        (json!({"admissionReviewVersions": ["v1", "v1"]}), "admissionReviewVersions[1]: Invalid value: \"v1\": duplicate version"),
        (json!({"admissionReviewVersions": ["v2"]}), "admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1"),
        (json!({"matchConditions": [{"name": "a", "expression": " "}]}), "matchConditions[0].expression: Required value"),
        (json!({"matchConditions": [{"expression": "true"}]}), "matchConditions[0].name: Required value"),
    ];
    for (change, want) in cases {
        assert_eq!(said(&change), [format!("webhooks[0].{want}")]);
    }
    let twice = webhooks(&configuration(json!([webhook(&json!({})), webhook(&json!({}))])));
    assert_eq!(texts(&twice), ["webhooks[1].name: Duplicate value: \"a.example.com\""]);
}

#[test]
fn conditions_are_few_and_each_has_a_name() {
    let conditions: Vec<Value> = (0..65).map(|index| json!({"name": format!("c{}", index % 64), "expression": "true"})).collect();
    assert_eq!(
        said(&json!({"matchConditions": conditions})),
        ["webhooks[0].matchConditions: Too many: 65: must have at most 64 items", "webhooks[0].matchConditions[64].name: Duplicate value: \"c0\""]
    );
}

#[test]
fn rules_name_operations_groups_versions_and_resources_without_saying_them_twice() {
    let operations = "supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"";
    let cases = [
        (json!({"operations": []}), "operations: Required value".to_owned()),
        (json!({"operations": ["EAT"]}), format!("operations[0]: Unsupported value: \"EAT\": {operations}")),
        (
            json!({"operations": ["*", "CREATE"]}),
            "operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations".to_owned(),
        ),
        (
            json!({"apiGroups": ["*", "a"]}),
            "apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other API groups".to_owned(),
        ),
        (json!({"apiVersions": [""]}), "apiVersions[0]: Required value".to_owned()),
        (json!({"resources": []}), "resources: Required value".to_owned()),
        (json!({"resources": [""]}), "resources[0]: Required value".to_owned()),
        (json!({"resources": ["a/*", "a/x"]}), "resources[1]: Invalid value: \"a/x\": if 'a/*' is present, must not specify a/x".to_owned()),
        (json!({"resources": ["*/x", "a/x"]}), "resources[1]: Invalid value: \"a/x\": if '*/x' is present, must not specify a/x".to_owned()),
        (
            json!({"resources": ["*/*", "a"]}),
            "resources: Invalid value: [\"*/*\",\"a\"]: if '*/*' is present, must not specify other resources".to_owned(),
        ),
        (
            json!({"resources": ["*", "a"]}),
            "resources: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other resources without subresources".to_owned(),
        ),
        (json!({"scope": "World"}), "scope: Unsupported value: \"World\": supported values: \"*\", \"Cluster\", \"Namespaced\"".to_owned()),
    ];
    for (change, want) in cases {
        assert_eq!(rule_said(&change), [format!("webhooks[0].rules[0].{want}")]);
    }
}

#[test]
fn an_update_keeps_what_was_stored_before_the_rules_came() {
    let odd = json!({"sideEffects": "Some", "admissionReviewVersions": ["v2"], "matchConditions": [{"expression": "true"}],
        "objectSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["x y"]}]}});
    let old = configuration(json!([webhook(&odd), webhook(&odd)]));
    assert_eq!(texts(webhooks_update(&old, &old)), Vec::<String>::new());
    let fresh = configuration(json!([webhook(&json!({}))]));
    assert_eq!(webhooks_update(&configuration(json!([webhook(&odd)])), &fresh).len(), 4);
}

fn policy(kind: &str, change: &Value) -> Object {
    let matches = json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [rule()]});
    let own = match kind {
        "ValidatingAdmissionPolicy" => json!({"validations": [{"expression": "true"}]}),
        _ => {
            json!({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/a'}]"}}], "reinvocationPolicy": "Never"})
        }
    };
    let spec = with(with(json!({"failurePolicy": "Fail", "matchConstraints": matches}), &own), change);
    object(json!({"kind": kind, "metadata": {"name": "p.example.com"}, "spec": spec}))
}

fn validating_said(change: &Value) -> Vec<String> {
    texts(validating_policy(&policy("ValidatingAdmissionPolicy", change), None))
}

fn mutating_said(change: &Value) -> Vec<String> {
    texts(mutating_policy(&policy("MutatingAdmissionPolicy", change), None))
}

#[test]
fn a_validating_policy_says_what_it_is_asked_about_and_something_of_it() {
    assert!(validating_said(&json!({})).is_empty());
    let one = "validations or auditAnnotations must contain at least one item";
    assert_eq!(
        validating_said(&json!({"validations": []})),
        [format!("spec.validations: Required value: {one}"), format!("spec.auditAnnotations: Required value: {one}")]
    );
    assert_eq!(validating_said(&json!({"matchConstraints": null})), ["spec.matchConstraints: Required value"]);
    assert_eq!(
        validating_said(&json!({"matchConstraints": {}, "failurePolicy": null})),
        [
            "spec.failurePolicy: Required value",
            "spec.matchConstraints.matchPolicy: Required value",
            "spec.matchConstraints.namespaceSelector: Required value",
            "spec.matchConstraints.objectSelector: Required value",
            "spec.matchConstraints.resourceRules: Required value",
        ]
    );
    let validation = |validation: Value| validating_said(&json!({"validations": [validation]}));
    assert_eq!(
        validation(json!({"expression": " ", "message": " ", "messageExpression": " ", "reason": "Because"})),
        [
            "spec.validations[0].expression: Required value: expression is not specified",
            "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
            "spec.validations[0].message: Invalid value: \" \": must be non-empty if specified",
            "spec.validations[0].reason: Unsupported value: \"Because\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
        ]
    );
    assert_eq!(
        validation(json!({"expression": "true", "message": "a\nb"})),
        ["spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks"]
    );
}

#[test]
fn parameters_variables_and_annotations_have_names() {
    let kind = |version: &str, kind: &str| validating_said(&json!({"paramKind": {"apiVersion": version, "kind": kind}}));
    assert!(kind("apps/v1", "Deployment").is_empty() && kind("v1", "ConfigMap").is_empty());
    assert_eq!(kind("", ""), ["spec.paramKind.apiVersion: Required value", "spec.paramKind.kind: Required value"]);
    assert_eq!(kind("a/b/c", "A"), ["spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"]);
    assert_eq!(kind("a/", "A"), ["spec.paramKind.apiVersion: Invalid value: \"a/\": version must be specified"]);
    let odd = kind("v1", "A_B");
    assert!(
        odd[0].starts_with("spec.paramKind.kind: Invalid value: \"A_B\": may have mixed case, but should otherwise match: a DNS-1035"),
        "{odd:?}"
    );
    assert_eq!(
        validating_said(
            &json!({"variables": [{"name": "", "expression": "1"}, {"name": "for", "expression": ""}, {"name": "_x1", "expression": "1"}]})
        ),
        [
            "spec.variables[0].name: Required value: name is not specified",
            "spec.variables[1].name: Invalid value: \"for\": must be a valid CEL identifier",
            "spec.variables[1].expression: Required value: expression is not specified",
        ]
    );
    let annotations = json!([{"key": "k", "valueExpression": "''"}, {"key": "k", "valueExpression": "x".repeat(5121)}]);
    assert_eq!(
        validating_said(&json!({"auditAnnotations": annotations})),
        [
            "spec.auditAnnotations[1].valueExpression: Required value: must not exceed 5120 bytes in length",
            "spec.auditAnnotations[1].key: Duplicate value: \"k\"",
        ]
    );
}

#[test]
fn a_mutating_policy_has_patches_of_the_type_that_it_says() {
    assert!(mutating_said(&json!({})).is_empty());
    let mutation = |mutation: Value| mutating_said(&json!({"mutations": [mutation]}));
    assert_eq!(mutating_said(&json!({"mutations": []})), ["spec.mutations: Required value: mutations must contain at least one item"]);
    assert_eq!(mutating_said(&json!({"reinvocationPolicy": ""})), ["spec.reinvocationPolicy: Required value"]);
    assert_eq!(mutation(json!({})), ["spec.mutations[0].patchType: Required value"]);
    assert_eq!(
        mutation(json!({"patchType": "Merge"})),
        ["spec.mutations[0].patchType: Unsupported value: \"Merge\": supported values: \"ApplyConfiguration\", \"JSONPatch\""]
    );
    assert_eq!(
        mutation(json!({"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}})),
        [
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
            "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
        ]
    );
    let deleting = with(rule(), &json!({"operations": ["DELETE"]}));
    let matches = json!({"matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [deleting]});
    let operations = "supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"";
    assert_eq!(
        mutating_said(&json!({"matchConstraints": matches})),
        [format!("spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": {operations}")]
    );
}

#[test]
fn conditions_that_did_not_change_are_not_judged_again() {
    let odd = json!({"matchConditions": [{"expression": "true"}]});
    let old = policy("ValidatingAdmissionPolicy", &odd);
    assert!(validating_policy(&old, Some(&old)).is_empty());
    assert_eq!(
        validating_policy(&policy("ValidatingAdmissionPolicy", &with(odd, &json!({"paramKind": {"apiVersion": "v1", "kind": "A"}}))), Some(&old))
            .len(),
        1
    );
}

#[test]
fn named_rules_name_each_object_once() {
    let named = with(rule(), &json!({"resourceNames": ["a/b", "c", "c"]}));
    let matches =
        json!({"matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [rule()], "excludeResourceRules": [named]});
    assert_eq!(
        validating_said(&json!({"matchConstraints": matches})),
        [
            "spec.matchConstraints.excludeResourceRules[0].resourceNames[0]: Invalid value: \"a/b\": may not contain '/'",
            "spec.matchConstraints.excludeResourceRules[0].resourceNames[2]: Duplicate value: \"c\"",
        ]
    );
}

#[test]
fn a_binding_names_a_policy_its_parameters_and_what_follows() {
    let binding = |change: Value| {
        let spec = with(json!({"policyName": "p", "validationActions": ["Deny"]}), &change);
        texts(validating_binding(&object(json!({"kind": "ValidatingAdmissionPolicyBinding", "spec": spec}))))
    };
    assert!(binding(json!({})).is_empty());
    assert_eq!(binding(json!({"policyName": ""})), ["spec.policyName: Required value"]);
    assert_eq!(binding(json!({"validationActions": []})), ["spec.validationActions: Required value: at least one validation action is required"]);
    assert_eq!(
        binding(json!({"validationActions": ["Deny", "Warn", "Warn", "Cry"]})),
        [
            "spec.validationActions[2]: Duplicate value: \"Warn\"",
            "spec.validationActions[3]: Unsupported value: \"Cry\": supported values: \"Audit\", \"Deny\", \"Warn\"",
            "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Warn\",\"Cry\"]: must not contain both Deny and Warn (repeating the same \
             validation failure information in the API response and headers serves no purpose)",
        ]
    );
    assert_eq!(
        binding(json!({"paramRef": {}})),
        ["spec.paramRef: Required value: one of name or selector must be specified", "spec.paramRef.parameterNotFoundAction: Required value",]
    );
    let exclusive = "name and selector are mutually exclusive";
    assert_eq!(
        binding(json!({"paramRef": {"name": "a%", "selector": {}, "parameterNotFoundAction": "Shrug"}})),
        [
            "spec.paramRef.name: Invalid value: \"a%\": may not contain '%'".to_owned(),
            format!("spec.paramRef.name: Forbidden: {exclusive}"),
            format!("spec.paramRef.selector: Forbidden: {exclusive}"),
            "spec.paramRef.parameterNotFoundAction: Unsupported value: \"Shrug\": supported values: \"Deny\", \"Allow\"".to_owned(),
        ]
    );
}

#[test]
fn a_status_tells_warnings_and_whole_conditions() {
    let status = json!({"typeChecking": {"expressionWarnings": [{"fieldRef": " "}]}, "conditions": [{"type": "a b"}]});
    let said = texts(policy_status(&object(json!({"status": status}))));
    assert_eq!(said[0], "status.typeChecking.expressionWarnings[0].warning: Required value");
    assert_eq!(said[1], "status.typeChecking.expressionWarnings[0].fieldRef: Required value");
    assert!(said[2].starts_with("status.conditions[0].type: Invalid value: \"a b\": name part must consist of"), "{said:?}");
    assert_eq!(said.len(), 6, "{said:?}");
}
