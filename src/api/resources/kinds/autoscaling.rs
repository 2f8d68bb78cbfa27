//! Horizontal pod autoscalers, stored as `autoscaling/v2`, served as `v1` too.

use serde_json::{Value, json};

use super::{
    autoscaler_v1::{cpu_metric, downgrade, upgrade},
    split_update,
};
use crate::{
    meta::{Clock, GroupVersion, Object},
    resources::{
        Column, Gated, Strategy, Withheld, WriteContext,
        printing::{age, name, string},
        resource::age_of,
        tree::{Fields, at, child, descend, fill, fill_null, text},
        validation::autoscaler,
    },
    status::FieldError,
};

/// Tolerances of an autoscaler's own (KEP-4951).
static TOLERANCES: [Gated; 1] = [Gated { feature: "HPAConfigurableTolerance", is_used: has_tolerance, drop: drop_tolerances }];
/// No replicas at the least (KEP-2021).
static TO_ZERO: [Withheld; 1] =
    [Withheld { feature: "HPAScaleToZero", is_used: |autoscaler| least(autoscaler) == Some(0), faults: too_few, ahead_of: Some("spec.") }];
const DIRECTIONS: [&str; 2] = ["scaleDown", "scaleUp"];

fn least(autoscaler: &Fields) -> Option<i64> {
    at(autoscaler.get("spec")?, &["minReplicas"]).as_i64()
}

fn too_few(autoscaler: &Fields, _old: Option<&Fields>) -> Vec<FieldError> {
    let least = least(autoscaler).filter(|least| *least < 1);
    least.map(|least| FieldError::invalid("spec.minReplicas", least, "must be greater than or equal to 1")).into_iter().collect()
}

fn has_tolerance(autoscaler: &Fields) -> bool {
    let rules = |direction| autoscaler.get("spec").map_or(&Value::Null, |spec| at(spec, &["behavior", direction, "tolerance"]));
    DIRECTIONS.into_iter().any(|direction| !rules(direction).is_null())
}

fn drop_tolerances(autoscaler: &mut Fields) {
    for direction in DIRECTIONS {
        if let Some(rules) = descend(autoscaler, &["spec", "behavior", direction]) {
            rules.remove("tolerance");
        }
    }
}

/// The rules of horizontal pod autoscalers.
#[derive(Default)]
pub struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "minReplicas", 1);
        if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            spec.insert("metrics".into(), json!([cpu_metric(80)]));
        }
        let period = |kind: &str, value: i64| json!({"type": kind, "value": value, "periodSeconds": 15});
        if let Some(behavior) = child(spec, "behavior") {
            default_rules(behavior, "scaleUp", &[period("Pods", 4), period("Percent", 100)], Some(0));
            default_rules(behavior, "scaleDown", &[period("Percent", 100)], None);
        }
        if let Some(status) = child(object.root_mut(), "status") {
            fill_null(status, &["currentMetrics"]);
        }
    }

    fn gated(&self) -> &'static [Gated] {
        &TOLERANCES
    }

    fn withheld(&self) -> &'static [Withheld] {
        &TO_ZERO
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.set(&["status"], json!({"desiredReplicas": 0, "currentMetrics": null}));
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn convert(&self, object: &mut Object, from: &GroupVersion, to: &GroupVersion) {
        match (&*from.version, &*to.version) {
            ("v1", "v2") => upgrade(object),
            ("v2", "v1") => downgrade(object),
            _ => {}
        }
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        autoscaler::check(object, None)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { autoscaler::status(new) } else { autoscaler::check(new, Some(old)) }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Reference", "The resource to scale."),
            string("Targets", "The metrics that the replica count follows."),
            string("MinPods", "The lower limit for the number of replicas."),
            string("MaxPods", "The upper limit for the number of replicas."),
            string("Replicas", "The current number of replicas."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let min = object.int(&["spec", "minReplicas"]).map_or("<unset>".to_owned(), |min| min.to_string());
        let target = format!("{}/{}", object.str(&["spec", "scaleTargetRef", "kind"]), object.str(&["spec", "scaleTargetRef", "name"]));
        vec![
            object.name().into(),
            target.into(),
            targets(object).into(),
            min.into(),
            object.int(&["spec", "maxReplicas"]).unwrap_or(0).into(),
            object.int(&["status", "currentReplicas"]).unwrap_or(0).into(),
            age_of(object, clock).into(),
        ]
    }
}

fn default_rules(behavior: &mut Fields, direction: &str, policies: &[Value], stabilization: Option<i64>) {
    fill(behavior, direction, json!({}));
    let Some(rules) = child(behavior, direction) else { return };
    fill(rules, "selectPolicy", "Max");
    fill(rules, "policies", json!(policies));
    if let Some(seconds) = stabilization {
        fill(rules, "stabilizationWindowSeconds", seconds);
    }
}

fn targets(object: &Object) -> String {
    let specs = object.list(&["spec", "metrics"]);
    let statuses = object.list(&["status", "currentMetrics"]);
    let shown: Vec<String> = specs.iter().enumerate().map(|(index, spec)| target(spec, statuses.get(index).unwrap_or(&Value::Null))).collect();
    match shown.len() {
        0 => "<none>".to_owned(),
        1 | 2 => shown.join(", "),
        count => format!("{} + {} more...", shown[..2].join(", "), count - 2),
    }
}

/// `cpu: 10%/80%`, or `<unknown>` in place of what is not measured yet.
fn target(spec: &Value, status: &Value) -> String {
    let (field, named) = match text(spec, &["type"]) {
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "External" => ("external", false),
        _ => return "<unknown type>".to_owned(),
    };
    let quantity = |value: &Value| crate::resources::int_or_string::display(value);
    let current = |name: &str| match at(status, &[field, "current", name]) {
        Value::Null => "<unknown>".to_owned(),
        value => quantity(value),
    };
    let average = at(spec, &[field, "target", "averageValue"]);
    if named {
        let metric = text(spec, &[field, "name"]);
        if !average.is_null() {
            return format!("{metric}: {}/{}", current("averageValue"), quantity(average));
        }
        let percent = |text: String| if text.starts_with('<') { text } else { format!("{text}%") };
        let wanted = match at(spec, &[field, "target", "averageUtilization"]) {
            Value::Null => "<auto>".to_owned(),
            value => percent(quantity(value)),
        };
        return format!("{metric}: {}/{wanted}", percent(current("averageUtilization")));
    }
    match (field, average) {
        ("pods", average) => format!("{}/{}", current("averageValue"), quantity(average)),
        (_, Value::Null) => format!("{}/{}", current("value"), quantity(at(spec, &[field, "target", "value"]))),
        (_, average) => format!("{}/{} (avg)", current("averageValue"), quantity(average)),
    }
}
