//! The question: an `AdmissionReview` with its request. Pure.

use serde_json::{Value, json};

use super::invocation::Invocation;
use crate::admission::{Attributes, admission_request::admission_request};

/// A form of question that this server asks. Both say the same; answers in the older one are not held to so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVersion {
    V1,
    V1Beta1,
}

impl ReviewVersion {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(ReviewVersion::V1),
            "v1beta1" => Some(ReviewVersion::V1Beta1),
            _ => None,
        }
    }

    pub fn api_version(self) -> &'static str {
        match self {
            ReviewVersion::V1 => "admission.k8s.io/v1",
            ReviewVersion::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The review that asks `invocation` about the request, under the unique name `uid`.
pub fn review(version: ReviewVersion, invocation: &Invocation, request: &Attributes<'_>, uid: &str) -> Value {
    let asked = admission_request(&invocation.matched, request, uid);
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": asked})
}
