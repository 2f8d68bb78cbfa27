//! What admission policies add to a write: one with three expressions, and 200 that do not concern it. A merge patch of a small
//! object is timed with and without them, in turns, so that what the machine does meanwhile counts for both alike.

use std::time::Instant;

use serde_json::{Value, json};
use troupe_actors::apiserver::testing::TestApi;
use troupe_api::service::{DeleteOptions, Operation, PatchType};

use crate::figures::{self, Budget};

const ROUNDS: usize = 9;
const WRITES: usize = 400;
const OTHERS: usize = 200;
const GROUP: &str = "admissionregistration.k8s.io";

pub async fn measure(api: &TestApi) {
    api.ensure(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "guarded", "namespace": "default"}, "data": {"a": "b"}})).await;
    let expressions = [
        "object.data.a.size() < 100",
        "object.metadata.name.startsWith('guard')",
        "!has(object.metadata.annotations) || object.metadata.annotations.size() < 50",
    ];
    let one = vec![("three".to_owned(), json!([""]), json!(["configmaps"]), &expressions[..])];
    let added = difference(api, &one, true).await;
    figures::report("an admission policy of three expressions adds to a write", added, " µs", Budget::AtMost(30.0));
    let other = |at: usize| (format!("other-{at}"), json!([format!("group-{at}.example.com")]), json!(["widgets"]), &expressions[..1]);
    let others: Vec<_> = (0..OTHERS).map(other).collect();
    let added = difference(api, &others, false).await;
    figures::report("200 admission policies that do not match add to a write", added, " µs", Budget::AtMost(20.0));
    delete(api, "configmaps", "default", "guarded").await;
}

type Policy<'a> = (String, Value, Value, &'a [&'a str]);

/// By how many microseconds a write takes longer with these policies, in the median of the rounds. What is longer than the expressions
/// allow is refused while there are policies that concern it.
async fn difference(api: &TestApi, policies: &[Policy<'_>], concerned: bool) -> f64 {
    let mut added = Vec::new();
    for _ in 0..ROUNDS {
        let without = writes(api).await;
        for policy in policies {
            put(api, policy).await;
        }
        // The first write compiles them.
        patch(api, 0).await;
        let too_long = json!({"data": {"a": "b".repeat(200)}});
        let refused = api.patch(api.target("configmaps", "default", "guarded"), PatchType::Merge, too_long).await.is_err();
        assert_eq!(refused, concerned, "policies hold");
        let with = writes(api).await;
        for (name, ..) in policies {
            take_away(api, name).await;
        }
        added.push(with - without);
    }
    added.sort_by(f64::total_cmp);
    added[ROUNDS / 2]
}

/// Microseconds of a write: of the faster half, as what disturbs only makes them slower.
async fn writes(api: &TestApi) -> f64 {
    let mut times = Vec::with_capacity(WRITES);
    for at in 0..WRITES {
        let begun = Instant::now();
        patch(api, at).await;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times[..WRITES / 2].iter().sum::<f64>() * 2.0 / WRITES as f64
}

async fn patch(api: &TestApi, at: usize) {
    let change = json!({"data": {"a": format!("b{at}")}});
    api.patch(api.target("configmaps", "default", "guarded"), PatchType::Merge, change).await.expect("patches");
}

async fn put(api: &TestApi, (name, groups, resources, expressions): &Policy<'_>) {
    let rule = json!({"operations": ["CREATE", "UPDATE"], "apiGroups": groups, "apiVersions": ["*"], "resources": resources});
    let validations: Vec<Value> = expressions.iter().map(|expression| json!({"expression": expression})).collect();
    let version = format!("{GROUP}/v1");
    api.create(json!({"apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
        "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}, "validations": validations}}))
        .await;
    api.create(json!({"apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]}}))
        .await;
}

async fn take_away(api: &TestApi, name: &str) {
    for plural in ["validatingadmissionpolicybindings", "validatingadmissionpolicies"] {
        delete(api, &format!("{plural}.{GROUP}"), "", name).await;
    }
}

async fn delete(api: &TestApi, resource: &str, namespace: &str, name: &str) {
    api.call(api.target(resource, namespace, name), Operation::Delete(DeleteOptions::default())).await.expect("is deleted");
}
