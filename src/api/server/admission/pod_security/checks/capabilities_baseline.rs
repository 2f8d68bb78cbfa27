//! `capabilities_baseline`: no capabilities beyond those that runtimes give anyway, and NET_RAW is none of them.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::resources::tree;

use super::{
    Check, PodView, Revision, Violation,
    pod::security_context,
    wording::{containers, quoted_set},
};

pub(super) const ID: &str = "capabilities_baseline";
pub(super) const CHECK: Check = Check { id: ID, revisions: &[Revision::new(0, check)] };

const ALLOWED: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn check(pod: &PodView<'_>) -> Option<Violation> {
    let mut forbidden = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let found: Vec<_> = added(container).filter(|capability| !ALLOWED.contains(capability)).collect();
        forbidden.extend(found.iter().copied());
        !found.is_empty()
    });
    let detail = || format!("{} must not include {} in securityContext.capabilities.add", containers(&bad), quoted_set(&forbidden));
    (!bad.is_empty()).then(|| Violation { reason: "non-default capabilities", detail: detail() })
}

/// The capabilities that a container adds.
pub(super) fn added(container: &Value) -> impl Iterator<Item = &str> {
    tree::items(security_context(container), &["capabilities", "add"]).iter().map(|capability| capability.as_str().unwrap_or(""))
}
