//! Endpoints and endpoint slices.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{invalid_each, ip, labels, names, one_of, port_number};
use crate::{
    meta::Object,
    resources::tree::{at, int, items, text},
    status::{FieldError, FieldErrorKind},
};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Checks endpoints.
pub fn endpoints(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, subset) in object.list(&["subsets"]).iter().enumerate() {
        let field = format!("subsets[{index}]");
        if items(subset, &["addresses"]).is_empty() && items(subset, &["notReadyAddresses"]).is_empty() {
            errors.push(FieldError::required(field.clone(), "must specify `addresses` or `notReadyAddresses`"));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (at_index, address) in items(subset, &[list]).iter().enumerate() {
                endpoint_address(&mut errors, address, &format!("{field}.{list}[{at_index}]"));
            }
        }
        let ports = items(subset, &["ports"]);
        for (port_index, port) in ports.iter().enumerate() {
            let path = format!("{field}.ports[{port_index}]");
            match text(port, &["name"]) {
                "" if ports.len() > 1 => errors.push(FieldError::required(format!("{path}.name"), "")),
                "" => {}
                name => invalid_each(&mut errors, &format!("{path}.name"), name, names::label(name, false)),
            }
            port_number(&mut errors, &format!("{path}.port"), int(port, &["port"]));
            one_of(&mut errors, &format!("{path}.protocol"), text(port, &["protocol"]), &PROTOCOLS);
        }
    }
    errors
}

fn endpoint_address(errors: &mut Vec<FieldError>, address: &Value, field: &str) {
    ip::endpoint(errors, &format!("{field}.ip"), text(address, &["ip"]));
    let rules: [(&str, names::NameRule); 2] = [("hostname", names::label), ("nodeName", names::subdomain)];
    for (name, rule) in rules {
        let value = text(address, &[name]);
        if !value.is_empty() {
            invalid_each(errors, &format!("{field}.{name}"), value, rule(value, false));
        }
    }
}

/// Checks an endpoint slice.
pub fn endpoint_slice(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = object.str(&["addressType"]);
    match kind {
        "" => errors.push(FieldError::required("addressType", "")),
        "IPv4" | "IPv6" | "FQDN" => {}
        other => errors.push(FieldError::not_supported("addressType", other, &["FQDN", "IPv4", "IPv6"])),
    }
    let endpoints = object.list(&["endpoints"]);
    too_many(&mut errors, "endpoints", endpoints.len(), 1000);
    for (index, endpoint) in endpoints.iter().enumerate() {
        slice_endpoint(&mut errors, endpoint, kind, &format!("endpoints[{index}]"));
    }
    slice_ports(&mut errors, object.list(&["ports"]));
    errors
}

fn too_many(errors: &mut Vec<FieldError>, field: &str, count: usize, limit: usize) {
    if count > limit {
        errors.push(FieldError {
            kind: FieldErrorKind::TooMany,
            field: field.to_owned(),
            value: Some(count.to_string()),
            detail: format!("must have at most {limit} items"),
        });
    }
}

fn slice_endpoint(errors: &mut Vec<FieldError>, endpoint: &Value, kind: &str, field: &str) {
    let addresses = items(endpoint, &["addresses"]);
    if addresses.is_empty() {
        errors.push(FieldError::required(format!("{field}.addresses"), "must contain at least 1 address"));
    }
    too_many(errors, &format!("{field}.addresses"), addresses.len(), 100);
    for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        let path = format!("{field}.addresses[{index}]");
        match kind {
            "IPv4" | "IPv6" => {
                ip::endpoint(errors, &path, address);
                let is_v6 = address.contains(':');
                if is_v6 != (kind == "IPv6") {
                    errors.push(FieldError::invalid(path, address, format!("must be an {kind} address")));
                }
            }
            "FQDN" => invalid_each(errors, &path, address, names::subdomain(address, false)),
            _ => {}
        }
    }
    let node = text(endpoint, &["nodeName"]);
    if !node.is_empty() {
        invalid_each(errors, &format!("{field}.nodeName"), node, names::subdomain(node, false));
    }
    labels::labels(errors, &format!("{field}.deprecatedTopology"), at(endpoint, &["deprecatedTopology"]));
    let host = text(endpoint, &["hostname"]);
    if !host.is_empty() {
        invalid_each(errors, &format!("{field}.hostname"), host, names::label(host, false));
    }
}

fn slice_ports(errors: &mut Vec<FieldError>, ports: &[Value]) {
    too_many(errors, "ports", ports.len(), 20_000);
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("ports[{index}]");
        let name = text(port, &["name"]);
        if !name.is_empty() {
            invalid_each(errors, &format!("{field}.name"), name, names::label(name, false));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{field}.name"), name));
        }
        one_of(errors, &format!("{field}.protocol"), text(port, &["protocol"]), &PROTOCOLS);
        let application = text(port, &["appProtocol"]);
        if !application.is_empty() {
            invalid_each(errors, &format!("{field}.appProtocol"), application, names::qualified(application));
        }
    }
}
