//! Webhook configurations and admission policies.

use serde_json::{Value, json};

use super::split_update_strictly;
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, integer, name, non_empty, selector_text, string},
        resource::{ALL_METADATA, age_of},
        tree::{Fields, child, descend, each, fill},
        validation::admission,
    },
    status::FieldError,
};

/// Names that end so are for configurations in files, which an API server with that feature reads for itself.
const STATIC_SUFFIX: &str = ".static.k8s.io";

/// A warning about a name that is reserved.
fn static_name(object: &Object) -> Vec<String> {
    let why = "are reserved for static manifest-based configurations and cannot be managed via the API";
    let reserved = object.name().ends_with(STATIC_SUFFIX);
    reserved.then(|| format!("metadata.name: names ending with {STATIC_SUFFIX:?} {why}")).into_iter().collect()
}

/// Whether a policy or binding may refuse requests; others may change them.
fn is_validating(object: &Object) -> bool {
    object.kind().starts_with("Validating")
}

/// The rules of mutating and validating webhook configurations.
#[derive(Default)]
pub struct WebhookConfiguration;

impl Strategy for WebhookConfiguration {
    fn default_object(&self, object: &mut Object) {
        let mutating = object.kind().starts_with("Mutating");
        each(object.root_mut(), "webhooks", |webhook| {
            fill(webhook, "failurePolicy", "Fail");
            default_match(webhook);
            fill(webhook, "timeoutSeconds", 10);
            if mutating {
                fill(webhook, "reinvocationPolicy", "Never");
            }
            each(webhook, "rules", |rule| fill(rule, "scope", "*"));
            if let Some(service) = descend(webhook, &["clientConfig", "service"]) {
                fill(service, "port", 443);
            }
        });
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        admission::webhooks(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        admission::webhooks_update(new, old)
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        static_name(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), integer("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration"), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), object.list(&["webhooks"]).len().into(), age_of(object, clock).into()]
    }
}

fn default_match(fields: &mut Fields) {
    fill(fields, "matchPolicy", "Equivalent");
    fill(fields, "namespaceSelector", json!({}));
    fill(fields, "objectSelector", json!({}));
}

fn default_match_resources(resources: &mut Fields) {
    default_match(resources);
    for list in ["resourceRules", "excludeResourceRules"] {
        each(resources, list, |rule| fill(rule, "scope", "*"));
    }
}

/// The rules of validating and of mutating admission policies.
#[derive(Default)]
pub struct AdmissionPolicy<const MUTATING: bool>;

impl<const MUTATING: bool> Strategy for AdmissionPolicy<MUTATING> {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "failurePolicy", "Fail");
        if let Some(constraints) = child(spec, "matchConstraints") {
            default_match_resources(constraints);
        }
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.remove(&["status"]);
        if is_validating(object) {
            object.set(&["status"], json!({}));
        }
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update_strictly(new, old, context);
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        policy(object, None)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { admission::policy_status(new) } else { policy(new, Some(old)) }
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        static_name(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            integer(if MUTATING { "Mutations" } else { "Validations" }, "The number of expressions in the policy"),
            string("ParamKind", "The kind of the policy's parameters"),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let count = object.list(&["spec", if MUTATING { "mutations" } else { "validations" }]).len();
        let kind = match object.get(&["spec", "paramKind"]) {
            Some(Value::Object(_)) => format!("{}/{}", object.str(&["spec", "paramKind", "apiVersion"]), object.str(&["spec", "paramKind", "kind"])),
            _ => "<unset>".to_owned(),
        };
        vec![object.name().into(), count.into(), kind.into(), age_of(object, clock).into()]
    }
}

fn policy(object: &Object, old: Option<&Object>) -> Vec<FieldError> {
    if is_validating(object) { admission::validating_policy(object, old) } else { admission::mutating_policy(object, old) }
}

/// The rules of bindings of admission policies.
#[derive(Default)]
pub struct AdmissionBinding;

impl Strategy for AdmissionBinding {
    fn default_object(&self, object: &mut Object) {
        if let Some(resources) = child(object.map_mut(&["spec"]), "matchResources") {
            default_match_resources(resources);
        }
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        if is_validating(object) { admission::validating_binding(object) } else { admission::mutating_binding(object) }
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        static_name(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("PolicyName", "The policy that the binding refers to"), string("ParamRef", "The parameters of the binding"), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let part = |field: &str| object.str(&["spec", "paramRef", field]);
        let selector = || object.get(&["spec", "paramRef", "selector"]).map(selector_text).unwrap_or_default();
        let parameters = match part("name") {
            "" => non_empty(selector(), "<unset>"),
            name => format!("{}/{name}", non_empty(part("namespace"), "*")),
        };
        vec![object.name().into(), object.str(&["spec", "policyName"]).into(), parameters.into(), age_of(object, clock).into()]
    }
}
