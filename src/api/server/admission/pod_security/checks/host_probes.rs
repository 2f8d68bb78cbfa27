//! `hostProbesAndHostLifecycle`: probes and hooks reach the pod itself, and no other host through the node.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::resources::tree;

use super::{
    Check, PodView, Revision, Violation,
    wording::{plural, quoted_set},
};

pub(super) const CHECK: Check = Check { id: "hostProbesAndHostLifecycle", revisions: &[Revision::new(34, check)] };

const HANDLERS: [&[&str]; 5] = [&["livenessProbe"], &["readinessProbe"], &["startupProbe"], &["lifecycle", "postStart"], &["lifecycle", "preStop"]];

fn check(pod: &PodView<'_>) -> Option<Violation> {
    let mut hosts = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let found: Vec<_> = hosts_of(container).collect();
        hosts.extend(found.iter().copied());
        !found.is_empty()
    });
    let bad: BTreeSet<&str> = bad.into_iter().collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("container", "containers", bad.len()),
        quoted_set(&bad),
        plural("uses", "use", bad.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted_set(&hosts),
    );
    Some(Violation { reason: "probe or lifecycle host", detail })
}

/// The hosts that a container's probes and hooks name.
fn hosts_of(container: &Value) -> impl Iterator<Item = &str> {
    let handlers = HANDLERS.into_iter().map(|path| tree::at(container, path));
    let hosts = handlers.flat_map(|handler| ["httpGet", "tcpSocket"].map(|action| tree::text(handler, &[action, "host"])));
    hosts.filter(|host| !host.is_empty())
}
