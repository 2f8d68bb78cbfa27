//! The answer: what a webhook's `AdmissionReview` says. Pure.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::Value;
use troupe_api::{
    schema::{Format, decode::parse_value},
    status::{Reason, Status, StatusDetails},
};

use super::REVIEWS;
use crate::webhook_client::ReviewVersion;

/// More annotations than this of one answer find no way into an audit event.
const MOST_ANNOTATIONS: usize = 100;

/// What a webhook decided.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub allowed: bool,
    /// Why not (`metav1.Status`).
    pub status: Option<Value>,
    pub warnings: Vec<String>,
    pub annotations: BTreeMap<String, String>,
    /// A JSON patch, if it is not empty.
    pub patch: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    kind: Option<String>,
    api_version: Option<String>,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: Option<String>,
    allowed: Option<bool>,
    status: Option<Value>,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// Why an answer is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It does not decode.
    Malformed(String),
    /// It decodes, and says what it must not.
    Invalid(String),
}

/// Reads the answer to the question `uid` in `version`.
///
/// # Errors
/// In upstream's words, why it is no answer.
pub fn read(body: &[u8], version: ReviewVersion, uid: &str, mutating: bool) -> Result<Verdict, Unusable> {
    let value =
        parse_value(body, Format::Json).map_err(|error| Unusable::Malformed(format!("couldn't get version/kind; json parse error: {error}")))?;
    let review: Review = serde_json::from_value(value).map_err(|error| Unusable::Malformed(error.to_string()))?;
    let invalid = |why: String| Err(Unusable::Invalid(why));
    let Some(response) = review.response else { return invalid("webhook response was absent".into()) };
    let (patch, patch_type) = (response.patch.unwrap_or_default(), response.patch_type);
    if version == ReviewVersion::V1 {
        let found = response.uid.unwrap_or_default();
        if found != uid {
            return invalid(format!("expected response.uid={uid:?}, got {found:?}"));
        }
        let (api_version, kind) = (review.api_version.unwrap_or_default(), review.kind.unwrap_or_default());
        if (&*api_version, &*kind) != (&*version.of_group(REVIEWS), "AdmissionReview") {
            let found = if api_version.contains('/') { api_version } else { format!("/{api_version}") };
            return invalid(format!("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {found}, Kind={kind}"));
        }
        check_patch(mutating, !patch.is_empty(), patch_type.as_deref()).map_err(|why| Unusable::Invalid(why.into()))?;
    }
    if let Some(other) = patch_type.filter(|kind| version == ReviewVersion::V1 && kind != "JSONPatch") {
        return invalid(format!("unsupported patch type {other:?}"));
    }
    let patch = if mutating { patch } else { String::new() };
    let patch = BASE64_STANDARD.decode(patch).map_err(|error| Unusable::Malformed(format!("illegal base64 data: {error}")))?;
    Ok(Verdict {
        allowed: response.allowed.unwrap_or(false),
        status: response.status.filter(|status| !status.is_null()),
        warnings: response.warnings.unwrap_or_default(),
        annotations: response.audit_annotations.unwrap_or_default().into_iter().take(MOST_ANNOTATIONS).collect(),
        patch,
    })
}

/// A patch and its type come together, and only from webhooks that may change something.
fn check_patch(mutating: bool, has_patch: bool, patch_type: Option<&str>) -> Result<(), &'static str> {
    match (mutating, has_patch, patch_type) {
        (true, true, None) => Err("webhook returned response.patch but not response.patchType"),
        (true, false, Some(_)) => Err("webhook returned response.patchType but not response.patch"),
        (true, true, Some("")) => Err("webhook returned invalid response.patchType of \"\""),
        (false, true, _) => Err("validating webhook may not return response.patch"),
        (false, _, Some(_)) => Err("validating webhook may not return response.patchType"),
        _ => Ok(()),
    }
}

/// What the client sees of a refusal by the webhook `name`, which may have said why.
pub fn denied(name: &str, said: Option<&Value>) -> Status {
    let field = |name: &str| said.and_then(|status| status.get(name));
    let text = |name: &str| field(name).and_then(Value::as_str).unwrap_or_default();
    let code = field("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()).filter(|code| (400..=599).contains(code));
    let by = format!("admission webhook {name:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let reason = field("reason").and_then(|reason| Reason::deserialize(reason).ok()).unwrap_or(Reason::Unknown);
    let details = field("details").and_then(|details| StatusDetails::deserialize(details).ok());
    let own_reason = Some(text("reason")).filter(|own| reason == Reason::Unknown && !own.is_empty()).map(Box::from);
    Status { details: details.map(Box::new), own_reason, ..Status::new(code.unwrap_or(400), reason, message) }
}
