//! `seLinuxOptions`: only types meant for containers, and neither user nor role.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::resources::tree;

use super::{
    Check, PodView, Revision, Violation,
    pod::security_context,
    wording::{plural, quoted_set, setters},
};

pub(super) const CHECK: Check = Check { id: "seLinuxOptions", revisions: &[Revision::new(0, with_old_types), Revision::new(31, with_engine)] };

/// The newest stands last.
const TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

fn with_old_types(pod: &PodView<'_>) -> Option<Violation> {
    check(pod, &TYPES[..4])
}

fn with_engine(pod: &PodView<'_>) -> Option<Violation> {
    check(pod, &TYPES)
}

/// What was found in all contexts of a pod.
#[derive(Default)]
struct Found<'a> {
    types: BTreeSet<&'a str>,
    user: bool,
    role: bool,
}

impl<'a> Found<'a> {
    /// Whether the options in a security context are forbidden.
    fn look(&mut self, context: &'a Value, allowed: &[&str]) -> bool {
        let Some(options) = tree::fields(context, &["seLinuxOptions"]) else { return false };
        let text = |name: &str| options.get(name).and_then(Value::as_str).unwrap_or("");
        let (kind, user, role) = (text("type"), !text("user").is_empty(), !text("role").is_empty());
        let bad_type = !allowed.contains(&kind);
        self.types.extend(bad_type.then_some(kind));
        self.user |= user;
        self.role |= role;
        bad_type || user || role
    }
}

fn check(pod: &PodView<'_>, allowed: &[&str]) -> Option<Violation> {
    let mut found = Found::default();
    let of_pod = found.look(pod.security_context(), allowed);
    let bad = pod.containers_where(|container| found.look(security_context(container), allowed));
    let setters = setters(of_pod, &bad)?;
    let mut what = Vec::new();
    if !found.types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", found.types.len()), quoted_set(&found.types)));
    }
    what.extend(found.user.then(|| "user may not be set".to_owned()));
    what.extend(found.role.then(|| "role may not be set".to_owned()));
    let detail = format!("{setters} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    Some(Violation { reason: "seLinuxOptions", detail })
}
