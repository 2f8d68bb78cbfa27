//! What this kubelet makes of what is said: what it does not do is refused, what changes nothing is told.

use serde_json::Value;
use troupe_api::features::{CONTAINER_STOP_SIGNALS, POD_CERTIFICATE_REQUEST, TOLERATION_COMPARISONS};

use super::{
    DEFAULTS, KubeletConfiguration,
    fields::{Effect, FIELDS},
};
use crate::kubelet::cgroups::driver::CgroupDriver;

/// Enforcements of other groups than the pods'.
const ENFORCED: [&str; 2] = ["pods", "none"];

/// Features that a kubelet can be with and without.
const SWITCHED: [&str; 3] = [CONTAINER_STOP_SIGNALS, POD_CERTIFICATE_REQUEST, TOLERATION_COMPARISONS];

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
    let driver = configuration.text("cgroupDriver");
    if CgroupDriver::parse(driver).is_none() {
        all.push(format!("cgroupDriver: {driver:?} is not supported by this kubelet: it is \"cgroupfs\" or \"systemd\""));
    }
    all
}

/// What is said and changes nothing, each in a sentence.
pub(super) fn idle(configuration: &KubeletConfiguration) -> Vec<String> {
    let fields = other(configuration, Effect::Idle).map(|(path, value)| format!("{path}: {value} has no effect on this node"));
    let gates = configuration.value("featureGates").as_object().into_iter().flatten().filter(|(name, _)| !SWITCHED.contains(&name.as_str()));
    fields.chain(gates.map(|(name, value)| format!("featureGates: {name}={value} has no effect on this node"))).collect()
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
