//! Limit ranges.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Field,
    resource_names::{self, may_overcommit},
};
use crate::{
    meta::{Object, Quantity, amounts::Amounts, names},
    status::FieldError,
};

const PARTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];

/// Checks a limit range.
pub fn limit_range(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null)), Vec::new());
    let mut kinds = BTreeSet::new();
    for limit in spec.child("limits").each() {
        let kind = limit.child("type");
        limit_type(&mut errors, &kind);
        if !kinds.insert(kind.text().to_owned()) {
            errors.push(kind.duplicate_as(kind.text()));
        }
        limit_names(&mut errors, &limit, kind.text());
        limit_bounds(&mut errors, &limit, kind.text());
    }
    errors
}

fn limit_type(errors: &mut Vec<FieldError>, kind: &Field<'_>) {
    let messages = names::qualified(kind.text());
    if messages.is_empty() && !kind.text().contains('/') && !TYPES.contains(&kind.text()) {
        errors.push(kind.invalid("must be a standard limit type or fully qualified"));
    }
    kind.judge(errors, messages);
}

fn limit_names(errors: &mut Vec<FieldError>, limit: &Field<'_>, kind: &str) {
    let rule = if matches!(kind, "Pod" | "Container") { resource_names::in_container } else { resource_names::known };
    for part in PARTS {
        let amounts = limit.child(part);
        if kind == "Pod" && part.starts_with("default") {
            if amounts.entries().next().is_some() {
                errors.push(amounts.forbidden("may not be specified when `type` is 'Pod'"));
            }
            continue;
        }
        for (name, amount) in amounts.entries() {
            rule(errors, &amount, name);
        }
    }
    if kind == "PersistentVolumeClaim" && ["min", "max"].iter().all(|part| !limit.child(part).child("storage").is_set()) {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(limit.child("limits").required(detail));
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

fn limit_bounds(errors: &mut Vec<FieldError>, limit: &Field<'_>, kind: &str) {
    let mut all = BTreeMap::<String, Bounds>::new();
    let parts: [(&str, Slot); 5] = [
        ("min", |bounds| &mut bounds.min),
        ("max", |bounds| &mut bounds.max),
        ("default", |bounds| &mut bounds.default),
        ("defaultRequest", |bounds| &mut bounds.request),
        ("maxLimitRequestRatio", |bounds| &mut bounds.ratio),
    ];
    for (part, slot) in parts.into_iter().filter(|(part, _)| kind != "Pod" || !part.starts_with("default")) {
        for (name, amount) in Amounts::read(limit.value.get(part)).iter() {
            *slot(all.entry(name.to_owned()).or_default()) = Some(amount);
        }
    }
    for (name, bounds) in all {
        check_bounds(errors, limit, &name, bounds);
    }
}

fn check_bounds(errors: &mut Vec<FieldError>, limit: &Field<'_>, name: &str, bounds: Bounds) {
    let mut wrong = |part: &str, value: Quantity, detail: String| {
        errors.push(limit.child(part).key(name).invalid_as(value.to_string(), detail));
    };
    let Bounds { min, max, default, request, ratio } = bounds;
    let orders = [
        (min, max, "min", min, ["min", "max"]),
        (min, request, "defaultRequest", request, ["min", "default request"]),
        (request, max, "defaultRequest", request, ["default request", "max"]),
        (request, default, "defaultRequest", request, ["default request", "default limit"]),
        (min, default, "default", min, ["min", "default"]),
        (default, max, "default", max, ["default", "max"]),
    ];
    for (low, high, part, shown, words) in orders {
        if let (Some(low), Some(high), Some(shown)) = (low, high, shown)
            && low > high
        {
            wrong(part, shown, format!("{} value {low} is greater than {} value {high}", words[0], words[1]));
        }
    }
    if let Some(ratio) = ratio.filter(|ratio| *ratio < Quantity::from_value(1)) {
        wrong("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
    }
    if let (Some(ratio), Some(min), Some(max)) = (ratio, min, max) {
        let most = max.as_f64() / min.as_f64();
        if ratio.as_f64() > most {
            wrong("maxLimitRequestRatio", ratio, format!("ratio {ratio} is greater than max/min = {most:.6}"));
        }
    }
    if let (Some(default), Some(request), false) = (default, request, may_overcommit(name))
        && default != request
    {
        wrong("defaultRequest", request, format!("default value {default} must equal to defaultRequest value {request} in {name}"));
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

    #[test]
    fn limits_are_of_known_types_and_resources() {
        let errors = limit_range(&object(json!({"limits": [
            {"type": "Node", "max": {"bananas": "1"}},
            {"type": "Container", "max": {"bananas": "1"}, "maxLimitRequestRatio": {"cpu": "500m"}},
            {"type": "Container", "default": {"hugepages-2Mi": "4Mi"}, "defaultRequest": {"hugepages-2Mi": "2Mi"}},
        ]})));
        assert_eq!(
            texts(errors),
            [
                "spec.limits[0].type: Invalid value: \"Node\": must be a standard limit type or fully qualified",
                "spec.limits[0].max[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified",
                "spec.limits[1].max[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified",
                "spec.limits[1].max[bananas]: Invalid value: \"bananas\": must be a standard resource for containers",
                "spec.limits[1].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
                "spec.limits[2].type: Duplicate value: \"Container\"",
                "spec.limits[2].defaultRequest[hugepages-2Mi]: Invalid value: \"2Mi\": default value 4Mi must equal to defaultRequest value 2Mi in hugepages-2Mi",
            ]
        );
    }
}
