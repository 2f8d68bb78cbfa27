//! `appArmorProfile`: only the runtime's profile or one of the node's, by field or by annotation.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::resources::tree;

use super::{
    Check, PodView, Revision, Violation,
    pod::security_context,
    wording::{containers, plural, quoted},
};

pub(super) const CHECK: Check = Check { id: "appArmorProfile", revisions: &[Revision::new(0, check)] };

const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

fn check(pod: &PodView<'_>) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let pod_is_bad = forbidden_type(pod.security_context()).is_some_and(|found| {
        types.insert(found);
        true
    });
    let bad = pod.containers_where(|container| {
        let found = forbidden_type(security_context(container));
        types.extend(found);
        found.is_some()
    });
    let forbidden = |(name, value): &(&str, &str)| name.starts_with(ANNOTATION) && !is_allowed_annotation(value);
    let annotations: BTreeSet<String> = pod.annotations().filter(forbidden).map(|(name, value)| format!("{name}={value:?}")).collect();

    let mut setters: Vec<String> = pod_is_bad.then(|| "pod".to_owned()).into_iter().collect();
    setters.extend((!bad.is_empty()).then(|| containers(&bad)));
    setters.extend((!annotations.is_empty()).then(|| plural("annotation", "annotations", annotations.len()).to_owned()));
    if setters.is_empty() {
        return None;
    }
    let values: Vec<&str> = types.into_iter().chain(annotations.iter().map(String::as_str)).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let detail = format!("{} must not set AppArmor profile type to {}", setters.join(" and "), quoted(values));
    Some(Violation { reason, detail })
}

/// The profile's type in a security context, where it is a forbidden one.
fn forbidden_type(context: &Value) -> Option<&str> {
    let profile = tree::fields(context, &["appArmorProfile"])?;
    let found = profile.get("type").and_then(Value::as_str).unwrap_or("");
    (!matches!(found, "RuntimeDefault" | "Localhost")).then_some(found)
}

fn is_allowed_annotation(value: &str) -> bool {
    value.is_empty() || value == "runtime/default" || value.starts_with("localhost/")
}
