//! What this kubelet makes of what is said: what it does not do is refused, what changes nothing is told.

use serde_json::{Map, Value};
use troupe_api::features::POD_CERTIFICATE_REQUEST;

use super::{
    DEFAULTS, KubeletConfiguration,
    fields::{Effect, FIELDS},
};

/// Enforcements of other groups than the pods'.
const ENFORCED: [&str; 2] = ["pods", "none"];

/// Features that a kubelet can be with and without.
const SWITCHED: [&str; 1] = [POD_CERTIFICATE_REQUEST];

/// What is said and not done here, each in a sentence.
pub(super) fn unsupported(configuration: &KubeletConfiguration) -> Vec<String> {
    let mut all: Vec<String> = other(configuration, Effect::Fixed)
        .map(|(path, value)| {
            let only = DEFAULTS.get(path).map_or_else(|| "leave it out".to_owned(), |default| format!("it is always {default}"));
            format!("{path}: {value} is not supported by this kubelet: {only}")
        })
        .collect();
    let enforced = configuration.texts("enforceNodeAllocatable");
    for other in enforced.iter().filter(|enforced| !ENFORCED.contains(&enforced.as_str())) {
        all.push(format!("enforceNodeAllocatable: {other:?} is not supported by this kubelet: only what pods use is bounded"));
    }
    all
}

/// What is said and changes nothing, each in a sentence.
pub(super) fn idle(configuration: &KubeletConfiguration) -> Vec<String> {
    let told = |path: &str, value: &Value| format!("{path}: {value} has no effect on this node");
    let fields = other(configuration, Effect::Idle).map(|(path, value)| told(path, value));
    fields.chain(idle_gates(configuration).map(|gates| told("featureGates", &gates))).collect()
}

/// What is said of features that a kubelet cannot change.
fn idle_gates(configuration: &KubeletConfiguration) -> Option<Value> {
    let said = configuration.says("featureGates")?.as_object()?;
    let idle = said.iter().filter(|(name, _)| !SWITCHED.contains(&name.as_str()));
    let idle: Map<String, Value> = idle.map(|(name, value)| (name.clone(), value.clone())).collect();
    (!idle.is_empty()).then_some(Value::Object(idle))
}

/// What is said of fields of one effect, other than what holds anyway.
fn other(configuration: &KubeletConfiguration, effect: Effect) -> impl Iterator<Item = (&'static str, &Value)> {
    let of_effect = FIELDS.iter().filter(move |row| row.effect == effect);
    let said = of_effect.filter_map(|row| Some((row.path, configuration.says(row.path)?)));
    said.filter(|(path, value)| DEFAULTS.get(path) != Some(*value) && !is_empty(value))
}

/// A list or map without entries, and what stands for nothing, say what holds anyway where there is no default.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}
