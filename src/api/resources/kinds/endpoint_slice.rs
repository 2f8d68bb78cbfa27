//! Endpoint slices.

use serde_json::Value;

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, first_three, name, non_empty, string},
        resource::age_of,
        tree::{at, each, fill, items},
        validation::endpoints,
    },
    status::FieldError,
};

/// The rules of endpoint slices.
#[derive(Default)]
pub struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default_object(&self, object: &mut Object) {
        each(object.root_mut(), "ports", |port| {
            port.entry("name").or_insert_with(|| "".into());
            fill(port, "protocol", "TCP");
        });
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        endpoints::endpoint_slice(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        let mut errors = endpoints::endpoint_slice(new);
        if new.str(&["addressType"]) != old.str(&["addressType"]) {
            errors.push(FieldError::invalid("addressType", new.str(&["addressType"]), "field is immutable"));
        }
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("AddressType", "The type of address carried by this EndpointSlice."),
            string("Ports", "The network ports exposed by each endpoint in this slice."),
            string("Endpoints", "A list of unique endpoints in this slice."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let port = |port: &Value| match (at(port, &["port"]), at(port, &["name"])) {
            (Value::Number(number), _) => number.to_string(),
            (_, Value::String(name)) => name.clone(),
            _ => "*".to_owned(),
        };
        let ports: Vec<String> = object.list(&["ports"]).iter().map(port).collect();
        let addresses = object.list(&["endpoints"]).iter().flat_map(|endpoint| items(endpoint, &["addresses"]));
        let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
        vec![
            object.name().into(),
            object.str(&["addressType"]).into(),
            non_empty(first_three(&ports), "<unset>").into(),
            non_empty(first_three(&addresses), "<unset>").into(),
            age_of(object, clock).into(),
        ]
    }
}
