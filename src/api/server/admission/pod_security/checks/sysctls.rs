//! `sysctls`: only those that a pod has for itself and that weaken nothing.

use troupe_api::resources::tree;

use super::{Check, PodView, Revision, Violation};

pub(super) const CHECK: Check = Check {
    id: "sysctls",
    revisions: &[
        Revision::new(0, |pod| check(pod, 5)),
        Revision::new(27, |pod| check(pod, 6)),
        Revision::new(29, |pod| check(pod, 10)),
        Revision::new(32, |pod| check(pod, 12)),
    ],
};

/// In the order in which releases came to allow them.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The first `safe` of the list are allowed.
fn check(pod: &PodView<'_>, safe: usize) -> Option<Violation> {
    let sysctls = tree::items(pod.security_context(), &["sysctls"]).iter().map(|sysctl| tree::text(sysctl, &["name"]));
    let forbidden: Vec<_> = sysctls.filter(|name| !SAFE[..safe].contains(name)).collect();
    (!forbidden.is_empty()).then(|| Violation { reason: "forbidden sysctls", detail: forbidden.join(", ") })
}
