//! `allowPrivilegeEscalation`: no container may gain privileges, by set-user-ID programs for example.

use super::{Check, PodView, Revision, Violation, pod::security_context, wording::containers};

pub(super) const CHECK: Check =
    Check { id: "allowPrivilegeEscalation", revisions: &[Revision::new(8, every_pod), Revision::new(25, all_but_windows)] };

fn every_pod(pod: &PodView<'_>) -> Option<Violation> {
    let bad = pod.containers_where(|container| security_context(container)["allowPrivilegeEscalation"] != false);
    let detail = || format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
    (!bad.is_empty()).then(|| Violation { reason: "allowPrivilegeEscalation != false", detail: detail() })
}

fn all_but_windows(pod: &PodView<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { every_pod(pod) }
}
