//! Bundles of trust anchors (KEP-3257).

use serde_json::Value;

use crate::{
    meta::{Clock, Object, names::NameRule},
    resources::{
        Column, Strategy,
        printing::{name, or_none, string},
        validation::trust_bundle,
    },
    status::FieldError,
};

/// The rules of bundles of trust anchors.
#[derive(Default)]
pub struct ClusterTrustBundle;

impl Strategy for ClusterTrustBundle {
    fn has_generation(&self) -> bool {
        false
    }

    /// What a name may be depends on the signer.
    fn name_rule(&self) -> NameRule {
        |_, _| Vec::new()
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        trust_bundle::create(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        trust_bundle::update(new, old)
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        super::text_field(self, object, path)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("SignerName", "The signer whose certificates the anchors are for, if any.")]
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), or_none(object.str(&["spec", "signerName"])).into()]
    }
}
