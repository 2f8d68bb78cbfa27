//! Endpoints, the older form of endpoint slices.

use serde_json::Value;

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, first_three, name, or_none, string},
        resource::age_of,
        tree::{each, fill, int, items, text},
        validation::{endpoints, warnings},
    },
    status::FieldError,
};

/// The rules of endpoints.
#[derive(Default)]
pub struct Endpoints;

impl Strategy for Endpoints {
    fn default_object(&self, object: &mut Object) {
        each(object.root_mut(), "subsets", |subset| each(subset, "ports", |port| fill(port, "protocol", "TCP")));
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        endpoints::endpoints(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        endpoints::endpoints_update(new, old)
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::endpoints(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("Endpoints", "The set of all endpoints is the union of all subsets."), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), or_none(addresses(object)).into(), age_of(object, clock).into()]
    }
}

fn addresses(object: &Object) -> String {
    let mut list = Vec::new();
    for subset in object.list(&["subsets"]) {
        let ips = items(subset, &["addresses"]).iter().map(|address| text(address, &["ip"]));
        let ports = items(subset, &["ports"]);
        if ports.is_empty() {
            list.extend(ips.map(str::to_owned));
            continue;
        }
        for port in ports {
            let number = int(port, &["port"]);
            list.extend(ips.clone().map(|ip| if ip.contains(':') { format!("[{ip}]:{number}") } else { format!("{ip}:{number}") }));
        }
    }
    first_three(&list)
}
