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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::tests::FixedClock, *};

    #[test]
    fn a_row_tells_the_signer_and_it_can_be_selected_by() {
        let bundle = |spec: Value| Object::from_value(json!({"metadata": {"name": "b"}, "spec": spec})).expect("an object");
        let (signed, plain) = (bundle(json!({"signerName": "example.com/s"})), bundle(json!({})));
        assert_eq!(ClusterTrustBundle.cells(&signed, &FixedClock), [json!("b"), json!("example.com/s")]);
        assert_eq!(ClusterTrustBundle.cells(&plain, &FixedClock), [json!("b"), json!("<none>")]);
        let selected = |object: &Object| ClusterTrustBundle.selectable_field(object, "spec.signerName");
        assert_eq!((selected(&signed), selected(&plain)), (Some("example.com/s".into()), Some(String::new())));
        assert_eq!(ClusterTrustBundle.selectable_field(&signed, "spec.trustBundle"), None);
    }
}
