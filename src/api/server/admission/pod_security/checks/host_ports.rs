//! `hostPorts`: no port of the node is taken.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::resources::tree;

use super::{
    Check, PodView, Revision, Violation,
    wording::{containers, plural},
};

pub(super) const CHECK: Check = Check { id: "hostPorts", revisions: &[Revision::new(0, check)] };

fn check(pod: &PodView<'_>) -> Option<Violation> {
    // Told in the order of their digits, as upstream does.
    let mut ports = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let taken: Vec<_> = host_ports(container).collect();
        ports.extend(taken.iter().map(ToString::to_string));
        !taken.is_empty()
    });
    if bad.is_empty() {
        return None;
    }
    let (uses, host_ports) = (plural("uses", "use", bad.len()), plural("hostPort", "hostPorts", ports.len()));
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    Some(Violation { reason: "hostPort", detail: format!("{} {uses} {host_ports} {ports}", containers(&bad)) })
}

fn host_ports(container: &Value) -> impl Iterator<Item = i64> {
    tree::items(container, &["ports"]).iter().map(|port| tree::int(port, &["hostPort"])).filter(|port| *port != 0)
}
