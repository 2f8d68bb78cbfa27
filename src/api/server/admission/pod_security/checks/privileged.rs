//! `privileged`: no container is privileged.

use super::{Check, PodView, Revision, Violation, pod::security_context, wording::containers};

pub(super) const CHECK: Check = Check { id: "privileged", revisions: &[Revision::new(0, check)] };

fn check(pod: &PodView<'_>) -> Option<Violation> {
    let bad = pod.containers_where(|container| security_context(container)["privileged"] == true);
    let detail = || format!("{} must not set securityContext.privileged=true", containers(&bad));
    (!bad.is_empty()).then(|| Violation { reason: "privileged", detail: detail() })
}
