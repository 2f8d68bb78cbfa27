//! Config maps and secrets.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, string},
        resource::age_of,
        tree::fill,
        validation::config,
    },
    status::FieldError,
};

fn size(object: &Object, field: &str) -> usize {
    object.get(&[field]).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

/// The rules of config maps.
#[derive(Default)]
pub struct ConfigMap;

impl Strategy for ConfigMap {
    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        config::config_map(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        let mut errors = config::immutable(new, old, &["data", "binaryData"]);
        errors.extend(config::config_map(new));
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("Data", "Data contains the configuration data."), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), (size(object, "data") + size(object, "binaryData")).into(), age_of(object, clock).into()]
    }
}

/// The rules of secrets.
#[derive(Default)]
pub struct Secret;

impl Strategy for Secret {
    /// `stringData` is for writing only: its entries end in `data`.
    fn default_object(&self, object: &mut Object) {
        fill(object.root_mut(), "type", "Opaque");
        let Some(Value::Object(texts)) = object.remove(&["stringData"]) else { return };
        for (key, value) in texts {
            let encoded = STANDARD.encode(value.as_str().unwrap_or(""));
            object.set(&["data", &key], encoded);
        }
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    /// An update that leaves the type out keeps it; a missing type was defaulted before.
    fn prepare_update(&self, new: &mut Object, old: &Object, _context: &WriteContext<'_>) {
        if new.str(&["type"]).is_empty() {
            new.set(&["type"], old.get(&["type"]).cloned().unwrap_or(json!("Opaque")));
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        config::secret(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if new.str(&["type"]) != old.str(&["type"]) {
            errors.push(FieldError::invalid("type", new.str(&["type"]), "field is immutable"));
        }
        errors.extend(config::immutable(new, old, &["data"]));
        errors.extend(config::secret(new));
        errors
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        let is_pair = object.str(&["type"]) == "kubernetes.io/tls";
        is_pair.then(|| config::key_pair_warning(object)).flatten().into_iter().collect()
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        super::text_field(self, object, path)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Type", "Used to facilitate programmatic handling of secret data."),
            string("Data", "Data contains the secret data, base64 encoded."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), object.str(&["type"]).into(), size(object, "data").into(), age_of(object, clock).into()]
    }
}
