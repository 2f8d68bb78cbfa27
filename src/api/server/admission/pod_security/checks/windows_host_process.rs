//! `windowsHostProcess`: no container is a process of a Windows host.

use troupe_api::resources::tree;

use super::{Check, PodView, Revision, Violation, pod::security_context, wording::setters};

pub(super) const CHECK: Check = Check { id: "windowsHostProcess", revisions: &[Revision::new(0, check)] };

fn check(pod: &PodView<'_>) -> Option<Violation> {
    let path = ["windowsOptions", "hostProcess"];
    let bad = pod.containers_where(|container| tree::flag(security_context(container), &path));
    let setters = setters(tree::flag(pod.security_context(), &path), &bad)?;
    Some(Violation { reason: "hostProcess", detail: format!("{setters} must not set securityContext.windowsOptions.hostProcess=true") })
}
