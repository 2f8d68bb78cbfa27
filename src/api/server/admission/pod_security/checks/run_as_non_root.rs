//! `runAsNonRoot`: containers must be said to run as somebody else than root. From v1.35 on a user namespace does as well.

use super::{
    Check, PodView, Revision, Violation,
    pod::security_context,
    wording::{containers, setters},
};

pub(super) const CHECK: Check = Check { id: "runAsNonRoot", revisions: &[Revision::new(0, every_pod), Revision::new(35, without_user_namespace)] };

const REASON: &str = "runAsNonRoot != true";

fn every_pod(pod: &PodView<'_>) -> Option<Violation> {
    let of_pod = pod.security_context()["runAsNonRoot"].as_bool();
    let denying = pod.containers_where(|container| security_context(container)["runAsNonRoot"] == false);
    if let Some(setters) = setters(of_pod == Some(false), &denying) {
        return Some(Violation { reason: REASON, detail: format!("{setters} must not set securityContext.runAsNonRoot=false") });
    }
    let silent = pod.containers_where(|container| of_pod.is_none() && !security_context(container)["runAsNonRoot"].is_boolean());
    let detail = || format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent));
    (!silent.is_empty()).then(|| Violation { reason: REASON, detail: detail() })
}

fn without_user_namespace(pod: &PodView<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { every_pod(pod) }
}
