use serde_json::{Value, json};

use super::{apply, patch, policy};
use crate::apiserver::testing::boot;

async fn refused(kind: &str, spec: Value) -> String {
    let api = boot().await;
    api.try_create(policy(kind, "p.example.com", &spec)).await.err().map_or_else(String::new, |status| status.message)
}

#[actix::test]
async fn what_does_not_compile_is_not_stored() {
    let one = |change: Value| super::with(json!({"validations": [{"expression": "true"}]}), &change);
    for (spec, path, why) in [
        (
            one(json!({"validations": [{"expression": "object.a =="}]})),
            "validations[0].expression",
            "compilation failed: ERROR: <input>:1:12: Syntax error",
        ),
        (one(json!({"validations": [{"expression": "1 + 1"}]})), "validations[0].expression", "must evaluate to bool but got int"),
        (one(json!({"validations": [{"expression": "params.x == 1"}]})), "validations[0].expression", "undeclared reference to 'params'"),
        (
            one(json!({"validations": [{"expression": "true", "messageExpression": "1"}]})),
            "validations[0].messageExpression",
            "must evaluate to string but got int",
        ),
        (
            one(json!({"matchConditions": [{"name": "c", "expression": "variables.x"}]})),
            "matchConditions[0].expression",
            "undeclared reference to 'variables'",
        ),
        (one(json!({"variables": [{"name": "x", "expression": "object.("}]})), "variables[0].expression", "compilation failed: "),
        (
            one(json!({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]})),
            "auditAnnotations[0].valueExpression",
            "must evaluate to one of [string null_type] but got int",
        ),
    ] {
        let told = refused("Validating", spec).await;
        assert!(told.contains(&format!("spec.{path}: Invalid value: ")) && told.contains(why), "{path}: {told}");
    }
    for (mutation, path, why) in [
        (apply("{'spec': 1}"), "applyConfiguration", "must evaluate to Object but got map(string, int)"),
        (patch("Object{}"), "jsonPatch", "must evaluate to list(JSONPatch) but got Object"),
    ] {
        let told = refused("Mutating", json!({"mutations": [mutation], "reinvocationPolicy": "Never"})).await;
        assert!(told.contains(&format!("spec.mutations[0].{path}.expression: Invalid value: ")) && told.contains(why), "{path}: {told}");
    }
}

#[actix::test]
async fn policies_and_bindings_are_stored_without_a_warning() {
    let api = boot().await;
    for object in [
        policy(
            "Validating",
            "p",
            &json!({"validations": [{"expression": "params == null", "messageExpression": "string(params.x)"}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}),
        ),
        super::binding("Validating", "p", &json!({})),
        policy("Mutating", "p", &json!({"mutations": [patch("[JSONPatch{op: 'remove', path: '/a'}]")], "reinvocationPolicy": "Never"})),
        super::binding("Mutating", "p", &json!({})),
    ] {
        let mut object = object;
        if object["kind"] == "MutatingAdmissionPolicy" {
            object["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = json!(["CREATE"]);
        }
        let kind = object["kind"].as_str().expect("a kind").to_lowercase();
        let plural = if kind.ends_with("policy") { kind.replace("policy", "policies") } else { format!("{kind}s") };
        let target = api.target(&format!("{plural}.admissionregistration.k8s.io"), "", "");
        let body = troupe_api::service::Body::Json(object.to_string().into());
        let reply = api.call(target, troupe_api::service::Operation::Create { body, options: Default::default() }).await.expect("is stored");
        assert_eq!(reply.warnings, Vec::<String>::new());
    }
}
