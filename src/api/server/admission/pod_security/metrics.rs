//! What the plugin counts.

use troupe_api::metrics::{Collect, Counter, Family};

use super::{
    LevelVersion,
    policy::{Level, Version},
};
use crate::admission::{Attributes, Operation};

/// The release whose rules are the newest that this server knows; policies of later ones count as `future`.
const NEWEST: Version = Version::Minor(36);

static EVALUATIONS: Family<Counter> = Family::new(
    "pod_security_evaluations_total",
    "Number of policy evaluations that occurred, not counting ignored or exempt requests.",
    &["decision", "policy_level", "policy_version", "mode", "request_operation", "resource", "subresource"],
);
static EXEMPTIONS: Family<Counter> = Family::new(
    "pod_security_exemptions_total",
    "Number of exempt requests, not counting ignored or out of scope requests.",
    &["request_operation", "resource", "subresource"],
);
static ERRORS: Family<Counter> = Family::new(
    "pod_security_errors_total",
    "Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted profile being used for evaluation.",
    &["fatal", "request_operation", "resource", "subresource"],
);

/// What Pod Security counts.
pub static COLLECTORS: [&dyn Collect; 3] = [&ERRORS, &EVALUATIONS, &EXEMPTIONS];

/// Shows the series that upstream shows from the start.
pub(super) fn prepare() {
    for operation in ["create", "update"] {
        EVALUATIONS.with(&["allow", "privileged", "latest", "enforce", operation, "pod", ""]);
        for resource in ["pod", "controller"] {
            EXEMPTIONS.with(&[operation, resource, ""]);
        }
    }
}

/// Counts that a policy was held against a request's pod.
pub(super) fn evaluated(allowed: bool, policy: LevelVersion, mode: &str, request: &Attributes<'_>) {
    let version = match policy.version {
        _ if policy.level == Level::Privileged => "latest".to_owned(),
        version @ Version::Minor(_) if version > NEWEST => "future".to_owned(),
        version => version.to_string(),
    };
    let decision = if allowed { "allow" } else { "deny" };
    let [operation, resource, subresource] = labels(request);
    EVALUATIONS.with(&[decision, policy.level.as_str(), &version, mode, operation, resource, subresource]).increment();
}

/// Counts a request that was not looked at.
pub(super) fn exempted(request: &Attributes<'_>) {
    EXEMPTIONS.with(&labels(request)).increment();
}

/// Counts a request that could not be looked at as it should.
pub(super) fn failed(fatal: bool, request: &Attributes<'_>) {
    let [operation, resource, subresource] = labels(request);
    ERRORS.with(&[if fatal { "true" } else { "false" }, operation, resource, subresource]).increment();
}

/// Operation, resource and subresource.
fn labels<'a>(request: &'a Attributes<'_>) -> [&'a str; 3] {
    let operation = if request.operation == Operation::Create { "create" } else { "update" };
    let resource = match (&*request.target.resource.group, &*request.target.resource.plural) {
        ("", "pods") => "pod",
        ("", "namespaces") => "namespace",
        _ => "controller",
    };
    [operation, resource, &request.target.subresource]
}
