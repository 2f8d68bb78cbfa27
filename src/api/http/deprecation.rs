//! Warnings that come with every reply about a deprecated kind.

use crate::service::Target;

/// What upstream warns about whoever reads or writes `target`.
pub fn warning(target: &Target) -> Option<&'static str> {
    match (&*target.resource.group, &*target.resource.plural) {
        ("", "endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}
