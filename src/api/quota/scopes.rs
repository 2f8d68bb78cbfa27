//! Quota scopes: which objects a quota speaks about.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    meta::{Object, Requirement},
    resources::{
        kinds::qos_class,
        tree::{at, items, text},
    },
};

/// One condition that an object must meet to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub name: String,
    /// `Exists`, `DoesNotExist`, `In` or `NotIn`.
    pub operator: String,
    pub values: Vec<String>,
}

/// The scopes of a quota: plain ones, and those of its selector.
pub fn of(quota: &Object) -> Vec<Scope> {
    let plain = quota.list(&["spec", "scopes"]).iter().filter_map(Value::as_str);
    let plain = plain.map(|name| Scope { name: name.to_owned(), operator: "Exists".into(), values: Vec::new() });
    let selected = quota.list(&["spec", "scopeSelector", "matchExpressions"]).iter().map(|expression| Scope {
        name: text(expression, &["scopeName"]).to_owned(),
        operator: text(expression, &["operator"]).to_owned(),
        values: items(expression, &["values"]).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    });
    plain.chain(selected).collect()
}

/// Whether a pod is in a scope.
pub fn matches_pod(scope: &Scope, pod: &Object) -> bool {
    match scope.name.as_str() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = pod.str(&["spec", "priorityClassName"]);
            matches_names(scope, &[class].into_iter().filter(|class| !class.is_empty()).collect())
        }
        "CrossNamespacePodAffinity" => has_cross_namespace_affinity(pod),
        _ => false,
    }
}

/// Whether a claim is in a scope.
pub fn matches_claim(scope: &Scope, claim: &Object) -> bool {
    scope.name == "VolumeAttributesClass" && matches_names(scope, &volume_attributes_classes(claim))
}

/// The classes that a claim has, wants or is on its way to.
pub fn volume_attributes_classes(claim: &Object) -> BTreeSet<&str> {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    paths.into_iter().map(|path| claim.str(path)).filter(|class| !class.is_empty()).collect()
}

/// Whether one of the names an object has, or having none, meets the scope.
fn matches_names(scope: &Scope, names: &BTreeSet<&str>) -> bool {
    let requirement = match scope.operator.as_str() {
        "In" => Requirement::In(scope.name.clone(), scope.values.clone().into()),
        "NotIn" => Requirement::NotIn(scope.name.clone(), scope.values.clone().into()),
        "DoesNotExist" => Requirement::DoesNotExist(scope.name.clone()),
        "Exists" => return !names.is_empty(),
        _ => return false,
    };
    if names.is_empty() {
        return requirement.matches(|_| None);
    }
    names.iter().any(|name| requirement.matches(|_| Some(*name)))
}

/// Has a deadline.
pub fn is_terminating(pod: &Object) -> bool {
    pod.int(&["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Object) -> bool {
    match pod.str(&["status", "qosClass"]) {
        "" => qos_class(pod) == "BestEffort",
        class => class == "BestEffort",
    }
}

fn has_cross_namespace_affinity(pod: &Object) -> bool {
    ["podAffinity", "podAntiAffinity"].into_iter().filter_map(|kind| pod.get(&["spec", "affinity", kind])).any(|affinity| {
        let required = items(affinity, &["requiredDuringSchedulingIgnoredDuringExecution"]).iter();
        let preferred = items(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"]).iter();
        required.chain(preferred.map(|term| at(term, &["podAffinityTerm"]))).any(looks_elsewhere)
    })
}

fn looks_elsewhere(term: &Value) -> bool {
    !items(term, &["namespaces"]).is_empty() || !at(term, &["namespaceSelector"]).is_null()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    fn scope(name: &str, operator: &str, values: &[&str]) -> Scope {
        Scope { name: name.into(), operator: operator.into(), values: values.iter().map(|value| (*value).to_owned()).collect() }
    }

    #[test]
    fn priority_classes_are_selected_by_name() {
        let high = object(json!({"spec": {"priorityClassName": "high"}}));
        let none = object(json!({"spec": {}}));
        let cases =
            [("In", &["high"][..], true, false), ("NotIn", &["high"], false, true), ("Exists", &[], true, false), ("DoesNotExist", &[], false, true)];
        for (operator, values, with, without) in cases {
            let scope = scope("PriorityClass", operator, values);
            assert_eq!((matches_pod(&scope, &high), matches_pod(&scope, &none)), (with, without), "{operator}");
        }
    }

    #[test]
    fn affinity_counts_as_crossing_when_it_names_other_namespaces() {
        let term = |extra: Value| {
            let mut term = json!({"topologyKey": "zone"});
            term.as_object_mut().expect("fields").extend(extra.as_object().expect("fields").clone());
            object(
                json!({"spec": {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": term}]}}}}),
            )
        };
        let crossing = scope("CrossNamespacePodAffinity", "Exists", &[]);
        assert!(matches_pod(&crossing, &term(json!({"namespaceSelector": {}}))));
        assert!(matches_pod(&crossing, &term(json!({"namespaces": ["a"]}))));
        assert!(!matches_pod(&crossing, &term(json!({}))));
    }

    #[test]
    fn a_claim_is_in_scope_by_any_of_its_classes() {
        let claim = object(json!({"spec": {"volumeAttributesClassName": "gold"}, "status": {"currentVolumeAttributesClassName": "silver"}}));
        assert!(matches_claim(&scope("VolumeAttributesClass", "In", &["silver"]), &claim));
        assert!(!matches_claim(&scope("VolumeAttributesClass", "In", &["bronze"]), &claim));
        assert!(!matches_claim(&scope("Terminating", "Exists", &[]), &claim));
    }
}
