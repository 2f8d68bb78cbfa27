//! `capabilities_restricted`: all capabilities are dropped, and only NET_BIND_SERVICE is added again.

use std::collections::BTreeSet;

use troupe_api::resources::tree;

use super::{
    Check, PodView, Revision, Violation, capabilities_baseline,
    pod::security_context,
    wording::{containers, quoted_set},
};

const OVERRIDES: &[&str] = &[capabilities_baseline::ID];

pub(super) const CHECK: Check = Check {
    id: "capabilities_restricted",
    revisions: &[Revision::new(22, every_pod).overriding(OVERRIDES), Revision::new(25, all_but_windows).overriding(OVERRIDES)],
};

fn every_pod(pod: &PodView<'_>) -> Option<Violation> {
    let keeping = pod.containers_where(|container| {
        let dropped = tree::items(security_context(container), &["capabilities", "drop"]);
        !dropped.iter().any(|capability| capability == "ALL")
    });
    let mut forbidden = BTreeSet::new();
    let adding = pod.containers_where(|container| {
        let found: Vec<_> = capabilities_baseline::added(container).filter(|capability| *capability != "NET_BIND_SERVICE").collect();
        forbidden.extend(found.iter().copied());
        !found.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        let forbidden = quoted_set(&forbidden);
        details.push(format!("{} must not include {forbidden} in securityContext.capabilities.add", containers(&adding)));
    }
    (!details.is_empty()).then(|| Violation { reason: "unrestricted capabilities", detail: details.join("; ") })
}

fn all_but_windows(pod: &PodView<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { every_pod(pod) }
}
