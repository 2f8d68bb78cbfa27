//! Resource quotas.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Field, IMMUTABLE, resource_names};
use crate::{meta::Object, resources::tree::text, status::FieldError};

const NONE: &Value = &Value::Null;
const SCOPES: [&str; 7] =
    ["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating", "VolumeAttributesClass"];
const CONTRADICTIONS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
const ONLY_EXISTS: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
/// Faults of which each shows the whole list: more of them would tell nothing new.
const MOST_SHOWN: usize = 10;

fn spec_of(quota: &Object) -> Field<'_> {
    Field::root("spec", quota.get(&["spec"]).unwrap_or(NONE))
}

fn amounts(errors: &mut Vec<FieldError>, amounts: &Field<'_>) {
    for (name, amount) in amounts.entries() {
        resource_names::in_quota(errors, &amount, name);
        resource_names::amount(errors, &amount, name);
    }
}

/// Checks a quota's spec.
pub fn quota(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    amounts(&mut errors, &spec.child("hard"));
    scopes(&mut errors, &spec);
    selector(&mut errors, &spec);
    errors
}

/// Checks a quota's status.
pub fn quota_status(object: &Object) -> Vec<FieldError> {
    let (status, mut errors) = (Field::root("status", object.get(&["status"]).unwrap_or(NONE)), Vec::new());
    amounts(&mut errors, &status.child("hard"));
    amounts(&mut errors, &status.child("used"));
    errors
}

/// Checks an update: scopes stay as they are, in whatever order.
pub fn quota_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = quota(new);
    let scopes = |quota: &Object| quota.list(&["spec", "scopes"]).iter().filter_map(Value::as_str).map(str::to_owned).collect::<BTreeSet<_>>();
    if scopes(new) != scopes(old) {
        errors.push(spec_of(new).child("scopes").invalid(IMMUTABLE));
    }
    errors
}

/// Whether a scope can be told for what a resource counts.
fn applies(scope: &str, name: &str) -> bool {
    match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        scope if SCOPES.contains(&scope) => {
            matches!(name, "pods" | "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory")
        }
        _ => true,
    }
}

/// How many of the limited resources are well known, but such that a scope cannot be told of them.
struct Misapplied([usize; SCOPES.len()]);

impl Misapplied {
    fn count(spec: &Field<'_>) -> Self {
        let hard = spec.child("hard");
        let known: Vec<&str> = hard.entries().map(|(name, _)| name).filter(|name| resource_names::is_of_quotas(name)).collect();
        Misapplied(SCOPES.map(|scope| known.iter().filter(|name| !applies(scope, name)).count()))
    }

    fn of(&self, scope: &str) -> usize {
        SCOPES.iter().position(|known| *known == scope).map_or(0, |index| self.0[index])
    }
}

fn contradictions(names: &[&str]) -> usize {
    CONTRADICTIONS.iter().filter(|pair| pair.iter().all(|scope| names.contains(scope))).count()
}

fn scopes(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (scopes, misapplied) = (spec.child("scopes"), Misapplied::count(spec));
    let names: Vec<&str> = scopes.items().iter().filter_map(Value::as_str).collect();
    let of_scope = |scope: &&str| {
        let unsupported = (!SCOPES.contains(scope)).then_some("unsupported scope");
        unsupported.into_iter().chain(std::iter::repeat_n("unsupported scope applied to resource", misapplied.of(scope)))
    };
    let conflicts = std::iter::repeat_n("conflicting scopes", contradictions(&names));
    let details = names.iter().flat_map(of_scope).chain(conflicts).take(MOST_SHOWN);
    errors.extend(details.map(|detail| scopes.invalid(detail)));
}

fn selector(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (selector, misapplied) = (spec.child("scopeSelector"), Misapplied::count(spec));
    let expressions = selector.child("matchExpressions");
    let (mut names, mut shown) = (Vec::new(), 0);
    for value in expressions.items() {
        // As upstream, paths name the list's field, not its entries.
        let expression = expressions.with(value);
        let scope = text(value, &["scopeName"]);
        if !SCOPES.contains(&scope) {
            errors.push(expression.child("scopeName").invalid_as(scope, "unsupported scope"));
        }
        for _ in 0..misapplied.of(scope).min(MOST_SHOWN - shown) {
            errors.push(expressions.invalid_as(selector.value.clone(), "unsupported scope applied to resource"));
            shown += 1;
        }
        operator(errors, &expression);
        names.push(scope);
    }
    let listed = spec.child("scopes").value;
    errors.extend((0..contradictions(&names)).map(|_| expressions.invalid_as(listed.clone(), "conflicting scopes")));
}

fn operator(errors: &mut Vec<FieldError>, expression: &Field<'_>) {
    let (scope, operator, values) = (expression.child("scopeName"), expression.child("operator"), expression.child("values"));
    let only_exists = matches!(scope.text(), "BestEffort" | "NotBestEffort" | "Terminating" | "NotTerminating" | "CrossNamespacePodAffinity");
    if only_exists && operator.text() != "Exists" {
        errors.push(operator.invalid_as(operator.text(), ONLY_EXISTS));
    }
    match operator.text() {
        "In" | "NotIn" if values.items().is_empty() => {
            errors.push(values.required("must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"));
        }
        "Exists" | "DoesNotExist" if !values.items().is_empty() => {
            errors.push(values.invalid("must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(operator.invalid_as(other, "not a valid selector operator")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::texts;

    fn object(spec: Value) -> Object {
        Object::from_value(json!({"spec": spec})).expect("an object")
    }

    #[test]
    fn quotas_limit_known_resources_by_sensible_amounts() {
        let errors = quota(&object(
            json!({"hard": {"pods": "1500m", "cpu": "-1", "bananas": "1", "count/widgets.example.com": "3", "requests.example.com/gpu": "1", "x y": "1", "example.com/gpu": "500m"}}),
        ));
        assert_eq!(
            texts(errors).into_iter().filter(|text| !text.contains("[x y]")).collect::<Vec<_>>(),
            [
                "spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified",
                "spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource for quota",
                "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.hard[example.com/gpu]: Invalid value: \"500m\": must be an integer",
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
            ]
        );
    }

    #[test]
    fn scopes_must_fit_each_other_and_what_is_limited() {
        let errors = quota(&object(json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort", "NotBestEffort"]})));
        assert_eq!(
            errors.iter().map(|error| error.detail.as_str()).collect::<Vec<_>>(),
            ["unsupported scope applied to resource", "conflicting scopes"]
        );
        let selector = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]});
        assert_eq!(
            texts(quota(&object(json!({"hard": {"pods": "1"}, "scopeSelector": selector})))),
            [
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            ]
        );
        let selector = json!({"matchExpressions": [{"scopeName": "Nothing", "operator": "Is", "values": ["a"]}]});
        assert_eq!(
            texts(quota(&object(json!({"scopeSelector": selector})))),
            [
                "spec.scopeSelector.matchExpressions.scopeName: Invalid value: \"Nothing\": unsupported scope",
                "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Is\": not a valid selector operator",
            ]
        );
    }

    #[test]
    fn scopes_stay_and_a_status_tells_amounts() {
        let (new, old) = (object(json!({"scopes": ["BestEffort"]})), object(json!({})));
        assert_eq!(texts(quota_update(&new, &old)), ["spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"]);
        let status = Object::from_value(json!({"status": {"hard": {"pods": "-1"}, "used": {"bananas": "1"}}})).expect("an object");
        assert_eq!(
            texts(quota_status(&status)),
            [
                "status.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
                "status.used[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified",
                "status.used[bananas]: Invalid value: \"bananas\": must be a standard resource for quota",
            ]
        );
    }
}
