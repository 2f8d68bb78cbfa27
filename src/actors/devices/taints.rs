//! Taints of devices, and who tolerates them (KEP-5055).

use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceToleration};

/// Whether a taint keeps anybody away. Effects that are not known keep nobody.
pub fn is_harmful(taint: &DeviceTaint) -> bool {
    matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let same_or_unset = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted.is_empty() || wanted == found);
    if !same_or_unset(toleration.effect.as_deref(), &taint.effect) || !same_or_unset(toleration.key.as_deref(), &taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
        "Exists" => true,
        _ => false,
    }
}
