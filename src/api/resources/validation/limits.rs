//! Limit ranges and resource quotas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{IMMUTABLE, invalid_each, names};
use crate::{
    meta::{Object, Quantity},
    quota::{Amounts, quantity},
    resources::{
        int_or_string::display,
        tree::{at, items, text},
    },
    status::FieldError,
};

const QUOTA_NAMES: [&str; 19] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const WHOLE_NUMBERS: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const SCOPES: [&str; 7] =
    ["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating", "VolumeAttributesClass"];
const CONTRADICTIONS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

fn is_quota_name(name: &str) -> bool {
    QUOTA_NAMES.contains(&name) || name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-")
}

/// Checks a name that stands for a resource anywhere in the API.
fn resource_name(errors: &mut Vec<FieldError>, name: &str, field: &str) {
    let messages = names::qualified(name);
    if !messages.is_empty() {
        invalid_each(errors, field, name, messages);
    } else if !name.contains('/') && !is_quota_name(name) && name != "storage" {
        errors.push(FieldError::invalid(field, name, "must be a standard resource type or fully qualified"));
    }
}

fn quota_amounts(errors: &mut Vec<FieldError>, amounts: Option<&Value>, field: &str) {
    for (name, amount) in amounts.and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{field}[{name}]");
        resource_name(errors, name, &path);
        if !name.contains('/') && !is_quota_name(name) {
            errors.push(FieldError::invalid(&path, name.as_str(), "must be a standard resource for quota"));
        }
        let Some(amount_value) = quantity(amount) else { continue };
        if amount_value.sign() < 0 {
            errors.push(FieldError::invalid(&path, display(amount), "must be greater than or equal to 0"));
        }
        let whole =
            WHOLE_NUMBERS.contains(&name.as_str()) || name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.");
        if whole && amount_value.milli_value() % 1000 != 0 {
            errors.push(FieldError::invalid(&path, display(amount), "must be an integer"));
        }
    }
}

/// Checks a quota's spec.
pub fn quota(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    quota_amounts(&mut errors, object.get(&["spec", "hard"]), "spec.hard");
    scopes(&mut errors, object);
    scope_selector(&mut errors, object);
    errors
}

/// Checks a quota's status.
pub fn quota_status(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    quota_amounts(&mut errors, object.get(&["status", "hard"]), "status.hard");
    quota_amounts(&mut errors, object.get(&["status", "used"]), "status.used");
    errors
}

/// Scopes stay as they are, in whatever order.
pub fn quota_scopes_update(new: &Object, old: &Object) -> Option<FieldError> {
    let scopes = |object: &Object| object.list(&["spec", "scopes"]).iter().filter_map(Value::as_str).map(str::to_owned).collect::<BTreeSet<_>>();
    (scopes(new) != scopes(old)).then(|| FieldError::invalid("spec.scopes", new.list(&["spec", "scopes"]).to_vec(), IMMUTABLE))
}

fn limited(object: &Object) -> Vec<&str> {
    let mut names: Vec<&str> =
        object.get(&["spec", "hard"]).and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
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

fn scopes(errors: &mut Vec<FieldError>, object: &Object) {
    const FIELD: &str = "spec.scopes";
    let listed = object.list(&["spec", "scopes"]);
    let invalid = |detail: &str| FieldError::invalid(FIELD, listed.to_vec(), detail);
    let names: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
    for scope in &names {
        if !SCOPES.contains(scope) {
            errors.push(invalid("unsupported scope"));
        }
        for _ in limited(object).into_iter().filter(|name| is_quota_name(name) && !applies(scope, name)) {
            errors.push(invalid("unsupported scope applied to resource"));
        }
    }
    errors.extend(contradictions(&names).map(|()| invalid("conflicting scopes")));
}

fn contradictions(names: &[&str]) -> impl Iterator<Item = ()> {
    let count = CONTRADICTIONS.iter().filter(|pair| pair.iter().all(|scope| names.contains(scope))).count();
    std::iter::repeat_n((), count)
}

fn scope_selector(errors: &mut Vec<FieldError>, object: &Object) {
    const FIELD: &str = "spec.scopeSelector.matchExpressions";
    let Some(selector) = object.get(&["spec", "scopeSelector"]).filter(|selector| !selector.is_null()) else { return };
    let expressions = items(selector, &["matchExpressions"]);
    for expression in expressions {
        let scope = text(expression, &["scopeName"]);
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(format!("{FIELD}.scopeName"), scope, "unsupported scope"));
        }
        for _ in limited(object).into_iter().filter(|name| is_quota_name(name) && !applies(scope, name)) {
            errors.push(FieldError::invalid(FIELD, selector.clone(), "unsupported scope applied to resource"));
        }
        operator(errors, expression, FIELD);
    }
    let names: Vec<&str> = expressions.iter().map(|expression| text(expression, &["scopeName"])).collect();
    let conflict = || FieldError::invalid(FIELD, object.list(&["spec", "scopes"]).to_vec(), "conflicting scopes");
    errors.extend(contradictions(&names).map(|()| conflict()));
}

fn operator(errors: &mut Vec<FieldError>, expression: &Value, field: &str) {
    let (scope, operator, values) = (text(expression, &["scopeName"]), text(expression, &["operator"]), items(expression, &["values"]));
    let only_exists = matches!(scope, "BestEffort" | "NotBestEffort" | "Terminating" | "NotTerminating" | "CrossNamespacePodAffinity");
    if only_exists && operator != "Exists" {
        let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(FieldError::invalid(format!("{field}.operator"), operator, detail));
    }
    let values_field = format!("{field}.values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(FieldError::required(values_field, "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(FieldError::invalid(values_field, values.to_vec(), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errors.push(FieldError::invalid(format!("{field}.operator"), operator, "not a valid selector operator")),
    }
}

/// Checks a limit range.
pub fn limit_range(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut kinds = BTreeSet::new();
    for (index, limit) in object.list(&["spec", "limits"]).iter().enumerate() {
        let field = format!("spec.limits[{index}]");
        let kind = text(limit, &["type"]);
        limit_type(&mut errors, kind, &format!("{field}.type"));
        if !kinds.insert(kind) {
            errors.push(FieldError::duplicate(format!("{field}.type"), kind));
        }
        limit_names(&mut errors, limit, kind, &field);
        limit_bounds(&mut errors, limit, kind, &field);
    }
    errors
}

fn limit_type(errors: &mut Vec<FieldError>, kind: &str, field: &str) {
    let messages = names::qualified(kind);
    if !messages.is_empty() {
        invalid_each(errors, field, kind, messages);
    } else if !kind.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind) {
        errors.push(FieldError::invalid(field, kind, "must be a standard limit type or fully qualified"));
    }
}

fn limit_names(errors: &mut Vec<FieldError>, limit: &Value, kind: &str, field: &str) {
    let of_pods = matches!(kind, "Pod" | "Container");
    for part in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let Some(amounts) = at(limit, &[part]).as_object().filter(|amounts| !amounts.is_empty()) else { continue };
        if kind == "Pod" && part.starts_with("default") {
            errors.push(FieldError::forbidden(format!("{field}.{part}"), "may not be specified when `type` is 'Pod'"));
            continue;
        }
        for name in amounts.keys() {
            let path = format!("{field}.{part}[{name}]");
            resource_name(errors, name, &path);
            let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) || name.starts_with("hugepages-");
            if of_pods && !name.contains('/') && !standard {
                errors.push(FieldError::invalid(path, name.as_str(), "must be a standard resource for containers"));
            }
        }
    }
    if kind == "PersistentVolumeClaim" && ["min", "max"].into_iter().all(|part| at(limit, &[part, "storage"]).is_null()) {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(format!("{field}.limits"), detail));
    }
}

/// The amounts that a limit says about one resource.
#[derive(Clone, Copy, Default)]
struct Bounds {
    min: Option<Quantity>,
    max: Option<Quantity>,
    default: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

type Slot = fn(&mut Bounds) -> &mut Option<Quantity>;

fn limit_bounds(errors: &mut Vec<FieldError>, limit: &Value, kind: &str, field: &str) {
    let mut all = BTreeMap::<String, Bounds>::new();
    let parts: [(&str, Slot); 5] = [
        ("min", |bounds| &mut bounds.min),
        ("max", |bounds| &mut bounds.max),
        ("default", |bounds| &mut bounds.default),
        ("defaultRequest", |bounds| &mut bounds.request),
        ("maxLimitRequestRatio", |bounds| &mut bounds.ratio),
    ];
    for (part, slot) in parts.into_iter().filter(|(part, _)| kind != "Pod" || !part.starts_with("default")) {
        for (name, amount) in Amounts::read(limit.get(part)).iter() {
            *slot(all.entry(name.to_owned()).or_default()) = Some(amount);
        }
    }
    for (name, bounds) in all {
        check_bounds(errors, &name, bounds, field);
    }
}

fn check_bounds(errors: &mut Vec<FieldError>, name: &str, bounds: Bounds, field: &str) {
    let mut not_above = |low: Option<Quantity>, high: Option<Quantity>, part: &str, value: Option<Quantity>, words: [&str; 2]| {
        if let (Some(low), Some(high), Some(value)) = (low, high, value)
            && low > high
        {
            let detail = format!("{} value {low} is greater than {} value {high}", words[0], words[1]);
            errors.push(FieldError::invalid(format!("{field}.{part}[{name}]"), json!(value.to_string()), detail));
        }
    };
    let Bounds { min, max, default, request, ratio } = bounds;
    not_above(min, max, "min", min, ["min", "max"]);
    not_above(min, request, "defaultRequest", request, ["min", "default request"]);
    not_above(request, max, "defaultRequest", request, ["default request", "max"]);
    not_above(request, default, "defaultRequest", request, ["default request", "default limit"]);
    not_above(min, default, "default", min, ["min", "default"]);
    not_above(default, max, "default", max, ["default", "max"]);
    let mut ratio_error = |ratio: Quantity, detail: String| {
        errors.push(FieldError::invalid(format!("{field}.maxLimitRequestRatio[{name}]"), json!(ratio.to_string()), detail));
    };
    if let Some(ratio) = ratio {
        if ratio < Quantity::from_value(1) {
            ratio_error(ratio, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (min, max)
            && ratio.as_f64() > max.as_f64() / min.as_f64()
        {
            ratio_error(ratio, format!("ratio {ratio} is greater than max/min = {:.6}", max.as_f64() / min.as_f64()));
        }
    }
    let overcommits = (!name.contains('/') || name.contains("kubernetes.io/")) && !name.starts_with("hugepages-");
    if let (Some(default), Some(request)) = (default, request)
        && !overcommits
        && default != request
    {
        let detail = format!("default value {default} must equal to defaultRequest value {request} in {name}");
        errors.push(FieldError::invalid(format!("{field}.defaultRequest[{name}]"), json!(request.to_string()), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn object(spec: Value) -> Object {
        Object::from_value(json!({"spec": spec})).expect("an object")
    }

    #[test]
    fn quotas_limit_known_resources_by_sensible_amounts() {
        let errors = quota(&object(
            json!({"hard": {"pods": "1500m", "cpu": "-1", "bananas": "1", "count/widgets.example.com": "3", "requests.example.com/gpu": "1"}}),
        ));
        assert_eq!(
            texts(errors),
            [
                "spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified",
                "spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource for quota",
                "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
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
        let errors = quota(&object(json!({"hard": {"pods": "1"}, "scopeSelector": selector})));
        assert_eq!(
            texts(errors),
            [
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            ]
        );
    }

    #[test]
    fn limit_ranges_must_not_contradict_themselves() {
        let errors = limit_range(&object(json!({"limits": [
            {"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}},
            {"type": "Pod", "default": {"cpu": "1"}},
            {"type": "PersistentVolumeClaim"},
        ]})));
        assert_eq!(
            texts(errors),
            [
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1",
                "spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'",
                "spec.limits[2].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ]
        );
    }
}
