//! `procMount`: /proc stays masked. From v1.35 on baseline lets pods with a user namespace unmask it; restricted does not.

use std::collections::BTreeSet;

use super::{
    Check, PodView, Revision, Violation,
    pod::security_context,
    wording::{containers, quoted_set},
};

const ID: &str = "procMount";

pub(super) const BASELINE: Check = Check { id: ID, revisions: &[Revision::new(0, every_pod), Revision::new(35, without_user_namespace)] };
pub(super) const RESTRICTED: Check = Check { id: "procMount_restricted", revisions: &[Revision::new(35, every_pod).overriding(&[ID])] };

fn every_pod(pod: &PodView<'_>) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let found = security_context(container)["procMount"].as_str().filter(|found| *found != "Default");
        types.extend(found);
        found.is_some()
    });
    let detail = || format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted_set(&types));
    (!bad.is_empty()).then(|| Violation { reason: "procMount", detail: detail() })
}

fn without_user_namespace(pod: &PodView<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { every_pod(pod) }
}
