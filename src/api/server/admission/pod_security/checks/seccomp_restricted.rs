//! `seccompProfile_restricted`: every container has a profile that confines it.

use super::{
    Check, PodView, Revision, Violation,
    pod::security_context,
    seccomp_baseline::{self, Profile},
    wording::containers,
};

const OVERRIDES: &[&str] = &[seccomp_baseline::ID];

pub(super) const CHECK: Check = Check {
    id: "seccompProfile_restricted",
    revisions: &[Revision::new(19, every_pod).overriding(OVERRIDES), Revision::new(25, all_but_windows).overriding(OVERRIDES)],
};

fn every_pod(pod: &PodView<'_>) -> Option<Violation> {
    if let Some(violation) = seccomp_baseline::fields(pod) {
        return Some(violation);
    }
    let covered = Profile::of(pod.security_context()) == Profile::Confining;
    let silent = pod.containers_where(|container| !covered && Profile::of(security_context(container)) == Profile::Silent);
    let detail = || format!("pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"", containers(&silent));
    (!silent.is_empty()).then(|| Violation { reason: "seccompProfile", detail: detail() })
}

fn all_but_windows(pod: &PodView<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { every_pod(pod) }
}
