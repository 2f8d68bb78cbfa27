//! The question: an `AdmissionReview` with its request. Pure.

use serde_json::{Value, json};

use super::{REVIEWS, invocation::Invocation};
use crate::{
    admission::{Attributes, admission_request::admission_request},
    webhook_client::ReviewVersion,
};

/// The review that asks `invocation` about the request, under the unique name `uid`.
pub fn review(version: ReviewVersion, invocation: &Invocation, request: &Attributes<'_>, uid: &str) -> Value {
    let asked = admission_request(&invocation.matched, request, uid);
    json!({"kind": "AdmissionReview", "apiVersion": version.of_group(REVIEWS), "request": asked})
}
