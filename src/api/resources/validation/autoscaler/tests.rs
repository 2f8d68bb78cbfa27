use serde_json::json;

use super::*;
use crate::resources::validation::tests::texts;

fn autoscaler(change: Value) -> Object {
    let mut object = json!({"metadata": {"name": "a"}, "spec": {
        "minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "metrics": [metric("Resource", "resource", json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}))],
    }});
    for (field, value) in change.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    Object::from_value(object).expect("an object")
}

fn metric(kind: &str, field: &str, source: Value) -> Value {
    json!({"type": kind, field: source})
}

fn said(change: Value) -> Vec<String> {
    texts(check(&autoscaler(change), None))
}

#[test]
fn replicas_and_the_target_are_held_to_their_rules() {
    assert!(said(json!({})).is_empty());
    let target = |field: &str, value: &str| {
        let mut target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        target[field] = value.into();
        json!({"scaleTargetRef": target})
    };
    let cases = [
        (json!({"minReplicas": -1}), "spec.minReplicas: Invalid value: -1: must be greater than or equal to 0"),
        (json!({"minReplicas": 4}), "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"),
        (target("kind", ""), "spec.scaleTargetRef.kind: Required value"),
        (target("kind", ".."), "spec.scaleTargetRef.kind: Invalid value: \"..\": may not be '..'"),
        (target("name", "a/b"), "spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'"),
        (target("apiVersion", "v1"), "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group"),
        (target("apiVersion", "a/b/c"), "spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"),
    ];
    for (change, want) in cases {
        let said = said(change);
        assert!(said.contains(&want.to_owned()), "{said:?}");
    }
    let most = |number: i64| said(json!({"maxReplicas": number}))[0].clone();
    assert_eq!(most(0), "spec.maxReplicas: Required value: must be set and greater than 0");
    assert_eq!(most(-1), "spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1");
    assert!(said(json!({"scaleTargetRef": {"apiVersion": "v1", "kind": "ReplicationController", "name": "a"}})).is_empty());
}

#[test]
fn what_was_stored_with_a_wrong_version_keeps_it() {
    let wrong = autoscaler(json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 9}));
    assert!(check(&wrong, Some(&wrong)).is_empty());
    assert_eq!(check(&wrong, Some(&autoscaler(json!({})))).len(), 1);
}

#[test]
fn scaling_to_zero_needs_a_metric_that_is_not_of_pods() {
    let external = json!([metric("External", "external", json!({"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}))]);
    assert!(said(json!({"minReplicas": 0, "metrics": external})).is_empty());
    assert_eq!(
        said(json!({"minReplicas": 0})),
        ["spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"]
    );
}

#[test]
fn a_metric_has_the_source_that_its_type_says_and_no_other() {
    let of = |metric: Value| said(json!({"metrics": [metric]}));
    let types = "supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"";
    let pods = json!({"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}});
    assert_eq!(
        of(json!({})),
        [
            "spec.metrics[0].type: Required value: must specify a metric source type".to_owned(),
            format!("spec.metrics[0].type: Unsupported value: \"\": {types}"),
        ]
    );
    assert_eq!(of(json!({"type": "Pods"})), ["spec.metrics[0].pods: Required value: must populate information for the given metric source"]);
    assert_eq!(
        of(json!({"type": "Pods", "pods": pods, "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}})),
        ["spec.metrics[0].external: Forbidden: must populate the given metric source only"]
    );
    assert!(of(metric("Pods", "pods", pods)).is_empty());
}

#[test]
fn sources_and_targets_fit_each_other() {
    let of = |kind: &str, field: &str, source: Value| said(json!({"metrics": [metric(kind, field, source)]}));
    let path = "spec.metrics[0]";
    let container = json!({"name": "gold", "container": "A", "target": {"type": "Utilization", "averageUtilization": 0, "averageValue": "0"}});
    let said = of("ContainerResource", "containerResource", container);
    assert_eq!(said[0], format!("{path}.containerResource.name: Invalid value: \"gold\": must be a standard resource for containers"));
    assert!(said[1].starts_with(&format!("{path}.containerResource.container: Invalid value: \"A\": a lowercase RFC 1123 label")), "{said:?}");
    assert_eq!(
        said[2..],
        [
            format!("{path}.containerResource.target.averageValue: Invalid value: \"0\": must be positive"),
            format!("{path}.containerResource.target.averageUtilization: Invalid value: 0: must be greater than 0"),
            format!("{path}.containerResource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization"),
        ]
    );
    let object = json!({"describedObject": {"kind": "Service", "name": "a%b"}, "metric": {"name": ""}, "target": {"type": ""}});
    assert_eq!(
        of("Object", "object", object),
        [
            format!("{path}.object.describedObject.name: Invalid value: \"a%b\": may not contain '%'"),
            format!("{path}.object.metric.name: Required value: must specify a metric name"),
            format!("{path}.object.target.type: Required value: must specify a metric target type"),
            format!("{path}.object.target.type: Invalid value: \"\": must be either Utilization, Value, or AverageValue"),
            format!("{path}.object.target.averageValue: Required value: must set either a target value or averageValue"),
        ]
    );
    let external = json!({"metric": {"name": "m"}, "target": {"type": "Value", "value": "1", "averageValue": "1"}});
    let both = format!("{path}.external.target.value: Forbidden: may not set both a target value for metric and a per-pod target");
    assert_eq!(of("External", "external", external), [both]);
}

#[test]
fn behaviour_is_bounded_in_time_and_says_how() {
    let rules = json!({"stabilizationWindowSeconds": 3601, "selectPolicy": "Most", "tolerance": "-1", "policies": [
        {"type": "Nodes", "value": 0, "periodSeconds": 1801},
    ]});
    let path = "spec.behavior.scaleDown";
    assert_eq!(
        said(json!({"behavior": {"scaleDown": rules}})),
        [
            format!("{path}.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600"),
            format!("{path}.selectPolicy: Unsupported value: \"Most\": supported values: \"Disabled\", \"Max\", \"Min\""),
            format!("{path}.policies[0].type: Unsupported value: \"Nodes\": supported values: \"Percent\", \"Pods\""),
            format!("{path}.policies[0].value: Invalid value: 0: must be greater than zero"),
            format!("{path}.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800"),
            format!("{path}.tolerance: Invalid value: \"-1\": must be greater than or equal to 0"),
        ]
    );
    assert_eq!(
        said(json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": -1}}})),
        [
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero",
            "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
        ]
    );
}

#[test]
fn a_status_counts_no_less_than_nothing() {
    let mut object = autoscaler(json!({}));
    object.set(&["status"], json!({"currentReplicas": -1, "desiredReplicas": 0}));
    assert_eq!(texts(status(&object)), ["status.currentReplicas: Invalid value: -1: must be greater than or equal to 0"]);
}
