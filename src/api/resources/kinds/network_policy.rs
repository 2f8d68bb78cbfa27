//! Network policies.

use serde_json::{Value, json};

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, selector_or_none, string},
        resource::age_of,
        tree::{each, fill},
        validation::{network_policy, warnings},
    },
    status::FieldError,
};

/// The rules of network policies.
#[derive(Default)]
pub struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "podSelector", json!({}));
        if spec.get("policyTypes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
            spec.insert("policyTypes".into(), if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
        }
        for list in ["ingress", "egress"] {
            each(spec, list, |rule| each(rule, "ports", |port| fill(port, "protocol", "TCP")));
        }
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        network_policy::network_policy(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        network_policy::network_policy_update(new, old)
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::network_policy(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("Pod-Selector", "The pods that this policy applies to."), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let selector = object.get(&["spec", "podSelector"]).unwrap_or(&Value::Null);
        vec![object.name().into(), selector_or_none(selector).into(), age_of(object, clock).into()]
    }
}
