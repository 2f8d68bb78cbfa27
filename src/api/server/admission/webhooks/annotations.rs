//! What the audit event tells of mutating webhooks, in upstream's form (`mutating/dispatcher.go`).

use serde::Serialize;
use serde_json::Value;

use super::configuration::Hook;
use crate::admission::go_json;

/// Tells whether a webhook changed the object.
pub const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
/// Tells the patch, where requests are recorded.
pub const PATCH: &str = "patch.webhook.admission.k8s.io/";
/// Names a webhook that failed and was ignored.
pub const FAILED_OPEN: &str = "failed-open.mutation.webhook.admission.k8s.io/";

#[derive(Serialize)]
struct Mutation<'a> {
    configuration: &'a str,
    webhook: &'a str,
    mutated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Patched<'a> {
    configuration: &'a str,
    webhook: &'a str,
    patch: &'a [Value],
    patch_type: &'static str,
}

pub fn mutation(hook: &Hook, mutated: bool) -> String {
    go_json::text(&Mutation { configuration: &hook.configuration, webhook: &hook.name, mutated })
}

pub fn patch(hook: &Hook, patch: &[Value]) -> String {
    go_json::text(&Patched { configuration: &hook.configuration, webhook: &hook.name, patch, patch_type: "JSONPatch" })
}
