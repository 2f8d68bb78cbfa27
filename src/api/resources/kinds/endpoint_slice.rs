//! Endpoint slices.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    meta::{Clock, Object, names},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, first_three, name, non_empty, string},
        resource::age_of,
        tree::{at, each, fill, items, text},
        validation::{endpoint_slice, warnings},
    },
    status::FieldError,
};

const HOSTNAME: &str = "kubernetes.io/hostname";

/// The rules of endpoint slices.
#[derive(Default)]
pub struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default_object(&self, object: &mut Object) {
        each(object.root_mut(), "ports", |port| {
            port.entry("name").or_insert_with(|| "".into());
            fill(port, "protocol", "TCP");
        });
        // Upstream stores slices as protobuf, which knows no empty list.
        for list in ["endpoints", "ports"] {
            if object.list(&[list]).is_empty() {
                object.set(&[list], Value::Null);
            }
        }
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        drop_topology(object, None);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, _context: &WriteContext<'_>) {
        drop_topology(new, Some(old));
    }

    /// Labels say what the slice is for: they count as its content.
    fn spec_changed(&self, new: &Object, old: &Object) -> bool {
        let part = |object: &Object, path: &[&str]| object.get(path).cloned();
        [&["addressType"][..], &["endpoints"], &["ports"], &["metadata", "labels"]].iter().any(|path| part(new, path) != part(old, path))
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        endpoint_slice::endpoint_slice(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        endpoint_slice::endpoint_slice_update(new, old)
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::endpoint_slice(object)
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

/// Topology was a map once; now nodes have a field. What an old client sends back of it names the node that it was read with.
fn drop_topology(new: &mut Object, old: Option<&Object>) {
    if old.is_some_and(|old| old.list(&["endpoints"]) == new.list(&["endpoints"])) {
        return;
    }
    let before = old.map(|old| old.list(&["endpoints"])).unwrap_or_default();
    let known: HashSet<&str> = before.iter().map(|endpoint| text(endpoint, &["deprecatedTopology", HOSTNAME])).collect();
    each(new.root_mut(), "endpoints", |endpoint| {
        let Some(topology) = endpoint.remove("deprecatedTopology") else { return };
        let node = text(&topology, &[HOSTNAME]);
        let is_good = !node.is_empty() && known.contains(node) && names::subdomain(node, false).is_empty();
        if is_good && endpoint.get("nodeName").is_none_or(Value::is_null) {
            endpoint.insert("nodeName".into(), node.into());
        }
    });
}
