//! Requests for certificates of pods (KEP-4317), which are off where nothing is said.

use jiff::Timestamp;
use serde_json::Value;

use super::{empty_status, split_update_strictly};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{label_pairs, name, string, wide},
        validation::pod_certificates,
    },
    status::FieldError,
};

/// The rules of requests for certificates of pods.
#[derive(Default)]
pub struct PodCertificateRequest;

impl Strategy for PodCertificateRequest {
    fn has_generation(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        empty_status(object);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update_strictly(new, old, context);
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        pod_certificates::create(object)
    }

    /// What is stored is not looked at again.
    fn tolerated(&self, _old: &Object) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { pod_certificates::status(new, old) } else { pod_certificates::update(new, old) }
    }

    fn judge_time(&self, new: &Object, old: &Object, subresource: &str, now: Timestamp) -> Option<FieldError> {
        (subresource == "status").then(|| pod_certificates::timing(new, old, now)).flatten()
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &["spec.signerName", "spec.podName", "spec.nodeName"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        super::text_field(self, object, path)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("PodName", "The pod that the certificate is for."),
            string("ServiceAccountName", "The service account that the pod runs as."),
            string("NodeName", "The node that the pod is on."),
            string("SignerName", "The signer that is asked."),
            string("State", "Is the request Pending, Issued, Denied, or Failed?"),
            wide("UnverifiedUserAnnotations", "What the pod's author tells the signer."),
        ]
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        let spec = |field: &str| Value::from(object.str(&["spec", field]));
        vec![
            object.name().into(),
            spec("podName"),
            spec("serviceAccountName"),
            spec("nodeName"),
            spec("signerName"),
            pod_certificates::state(object).into(),
            label_pairs(object.get(&["spec", "unverifiedUserAnnotations"]).unwrap_or(&Value::Null)).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        meta::request::UserInfo,
        resources::kinds::tests::{FixedClock, object},
    };

    #[test]
    fn a_status_is_written_beside_the_rest() {
        let user = UserInfo::default();
        let context = |subresource: &'static str| WriteContext { user: &user, clock: &FixedClock, subresource };
        let status = json!({"conditions": [{"type": "Denied", "status": "True"}]});
        let mut new = object(json!({"metadata": {"name": "r"}, "spec": {"podName": "p"}, "status": status}));
        PodCertificateRequest.prepare_create(&mut new, &context(""));
        assert_eq!(new.get(&["status"]), Some(&json!({})));
        let written = object(json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "spec": {"podName": "q"}, "status": status}));
        let mut of_status = written.clone();
        PodCertificateRequest.prepare_update(&mut of_status, &new, &context("status"));
        assert_eq!((of_status.get(&["status"]), of_status.str(&["spec", "podName"]), of_status.label("a")), (Some(&status), "p", None));
        let mut of_rest = written;
        PodCertificateRequest.prepare_update(&mut of_rest, &new, &context(""));
        assert_eq!((of_rest.get(&["status"]), of_rest.str(&["spec", "podName"]), of_rest.label("a")), (Some(&json!({})), "q", Some("b")));
    }

    #[test]
    fn kubectl_shows_whose_it_is_and_what_became_of_it() {
        let spec = json!({"podName": "p", "serviceAccountName": "a", "nodeName": "one", "signerName": "example.com/s",
            "unverifiedUserAnnotations": {"example.com/b": "2", "example.com/a": "1"}});
        let request = object(json!({"metadata": {"name": "r"}, "spec": spec, "status": {"conditions": [{"type": "Issued", "status": "True"}]}}));
        let cells = PodCertificateRequest.cells(&request, &FixedClock);
        assert_eq!(cells, ["r", "p", "a", "one", "example.com/s", "Issued", "example.com/a=1,example.com/b=2"].map(Value::from));
        assert_eq!(cells.len(), PodCertificateRequest.columns().len());
        assert_eq!(PodCertificateRequest.selectable_field(&request, "spec.nodeName").as_deref(), Some("one"));
        assert_eq!(PodCertificateRequest.selectable_field(&request, "spec.podUID"), None);
    }
}
