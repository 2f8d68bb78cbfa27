//! `seccompProfile_baseline`: where a profile is named it confines. Before v1.19 annotations name it, then fields.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::resources::tree;

use super::{
    Check, PodView, Revision, Violation,
    pod::security_context,
    wording::{plural, quoted_set, setters},
};

pub(super) const ID: &str = "seccompProfile_baseline";
pub(super) const CHECK: Check = Check { id: ID, revisions: &[Revision::new(0, annotations), Revision::new(19, fields)] };

const POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";

fn annotations(pod: &PodView<'_>) -> Option<Violation> {
    let of_containers = pod.containers().map(|container| format!("{CONTAINER_ANNOTATION}{}", tree::text(container, &["name"])));
    let names = std::iter::once(POD_ANNOTATION.to_owned()).chain(of_containers);
    let bad = |name: String| pod.annotation(&name).filter(|value| !is_allowed_annotation(value)).map(|value| format!("{name}={value:?}"));
    let forbidden: BTreeSet<String> = names.filter_map(bad).collect();
    if forbidden.is_empty() {
        return None;
    }
    let which = plural("annotation", "annotations", forbidden.len());
    let detail = format!("forbidden {which} {}", forbidden.into_iter().collect::<Vec<_>>().join(", "));
    Some(Violation { reason: "seccompProfile", detail })
}

fn is_allowed_annotation(value: &str) -> bool {
    matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
}

/// What a security context says of the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile<'a> {
    Silent,
    Confining,
    Forbidden(&'a str),
}

impl<'a> Profile<'a> {
    pub(super) fn of(context: &'a Value) -> Self {
        let Some(profile) = tree::fields(context, &["seccompProfile"]) else { return Profile::Silent };
        match profile.get("type").and_then(Value::as_str).unwrap_or("") {
            "RuntimeDefault" | "Localhost" => Profile::Confining,
            other => Profile::Forbidden(other),
        }
    }

    fn forbidden(self) -> Option<&'a str> {
        match self {
            Profile::Forbidden(found) => Some(found),
            _ => None,
        }
    }
}

/// Profiles that are named and do not confine.
pub(super) fn fields(pod: &PodView<'_>) -> Option<Violation> {
    let of_pod = Profile::of(pod.security_context()).forbidden();
    let mut types: BTreeSet<&str> = of_pod.into_iter().collect();
    let bad = pod.containers_where(|container| {
        let found = Profile::of(security_context(container)).forbidden();
        types.extend(found);
        found.is_some()
    });
    let setters = setters(of_pod.is_some(), &bad)?;
    let detail = format!("{setters} must not set securityContext.seccompProfile.type to {}", quoted_set(&types));
    Some(Violation { reason: "seccompProfile", detail })
}
