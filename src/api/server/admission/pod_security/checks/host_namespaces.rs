//! `hostNamespaces`: a pod has a network, processes and IPC of its own.

use troupe_api::resources::tree;

use super::{Check, PodView, Revision, Violation};

pub(super) const CHECK: Check = Check { id: "hostNamespaces", revisions: &[Revision::new(0, check)] };

fn check(pod: &PodView<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|namespace| tree::flag(pod.spec, &[namespace]));
    let shared: Vec<_> = shared.map(|namespace| format!("{namespace}=true")).collect();
    (!shared.is_empty()).then(|| Violation { reason: "host namespaces", detail: shared.join(", ") })
}
