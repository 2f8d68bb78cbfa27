//! `runAsUser`: nobody asks to be root. From v1.35 on root of a user namespace is allowed.

use super::{Check, PodView, Revision, Violation, pod::security_context, wording::setters};

pub(super) const CHECK: Check = Check { id: "runAsUser", revisions: &[Revision::new(23, every_pod), Revision::new(35, without_user_namespace)] };

fn every_pod(pod: &PodView<'_>) -> Option<Violation> {
    let bad = pod.containers_where(|container| security_context(container)["runAsUser"] == 0);
    let setters = setters(pod.security_context()["runAsUser"] == 0, &bad)?;
    Some(Violation { reason: "runAsUser=0", detail: format!("{setters} must not set runAsUser=0") })
}

fn without_user_namespace(pod: &PodView<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { every_pod(pod) }
}
