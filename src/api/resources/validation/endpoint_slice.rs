//! Endpoint slices.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Field, IMMUTABLE, ip, labels};
use crate::{
    meta::{
        Object,
        names::{self, NameRule},
    },
    resources::tree::{int, text},
    status::{FieldError, FieldErrorKind},
};

const NONE: &Value = &Value::Null;
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const ZONE: &str = "topology.kubernetes.io/zone";
const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_LABELS: usize = 16;
const MOST_PORTS: usize = 20_000;
const MOST_HINTS: usize = 8;

/// Checks an endpoint slice.
pub fn endpoint_slice(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    around(&mut errors, object);
    endpoints(&mut errors, object);
    errors
}

/// Checks an update: endpoints that it leaves alone may be wrong by rules that came later.
pub fn endpoint_slice_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let (mut errors, mut of_endpoints) = (Vec::new(), Vec::new());
    around(&mut errors, new);
    endpoints(&mut of_endpoints, new);
    if !of_endpoints.is_empty() && new.list(&["endpoints"]) != old.list(&["endpoints"]) {
        errors.append(&mut of_endpoints);
    }
    if new.str(&["addressType"]) != old.str(&["addressType"]) {
        errors.push(FieldError::invalid("addressType", new.str(&["addressType"]), IMMUTABLE));
    }
    errors
}

fn around(errors: &mut Vec<FieldError>, object: &Object) {
    Field::root("addressType", object.get(&["addressType"]).unwrap_or(NONE)).check_one_of(errors, &["FQDN", "IPv4", "IPv6"]);
    ports(errors, &Field::root("ports", object.get(&["ports"]).unwrap_or(NONE)));
}

fn endpoints(errors: &mut Vec<FieldError>, object: &Object) {
    let endpoints = Field::root("endpoints", object.get(&["endpoints"]).unwrap_or(NONE));
    if endpoints.items().len() > MOST_ENDPOINTS {
        return errors.push(endpoints.too_many(MOST_ENDPOINTS));
    }
    for endpoint in endpoints.each() {
        addresses(errors, &endpoint.child("addresses"), object.str(&["addressType"]));
        let node = endpoint.child("nodeName");
        if node.is_set() {
            node.judge(errors, names::subdomain(node.text(), false));
        }
        topology(errors, &endpoint.child("deprecatedTopology"));
        let hostname = endpoint.child("hostname");
        if hostname.is_set() {
            hostname.judge(errors, names::label(hostname.text(), false));
        }
        hints(errors, &endpoint.child("hints"));
    }
}

fn addresses(errors: &mut Vec<FieldError>, addresses: &Field<'_>, kind: &str) {
    match addresses.items().len() {
        0 => errors.push(addresses.required("must contain at least 1 address")),
        count if count > MOST_ADDRESSES => errors.push(addresses.too_many(MOST_ADDRESSES)),
        _ => {}
    }
    for (index, address) in addresses.each().enumerate() {
        match kind {
            "IPv4" | "IPv6" => ip::endpoint_of_family(errors, addresses, index, kind == "IPv6"),
            "FQDN" => domain(errors, &address),
            _ => {}
        }
    }
}

/// A domain of at least two labels.
fn domain(errors: &mut Vec<FieldError>, address: &Field<'_>) {
    let name = address.text().strip_suffix('.').unwrap_or(address.text());
    let messages = names::subdomain(name, false);
    if address.text().is_empty() {
        errors.push(address.required(""));
    } else if !messages.is_empty() {
        errors.push(address.invalid_as(name, messages.join(",")));
    } else if !name.contains('.') {
        errors.push(address.invalid_as(name, "should be a domain with at least two segments separated by dots"));
    } else if let Some((label, messages)) = name.split('.').map(|label| (label, names::label(label, false))).find(|(_, wrong)| !wrong.is_empty()) {
        errors.push(address.invalid_as(label, messages.join(",")));
    }
}

fn topology(errors: &mut Vec<FieldError>, topology: &Field<'_>) {
    let count = topology.entries().count();
    if count > MOST_LABELS {
        errors.push(FieldError::too_many(*topology, count, MOST_LABELS));
    }
    labels::labels(errors, &topology.to_string(), topology.value);
    if topology.key(ZONE).is_set() {
        let detail = "reserved key was not removed in conversion".to_owned();
        errors.push(FieldError { kind: FieldErrorKind::Internal, field: topology.key(ZONE).to_string(), value: None, detail });
    }
}

fn ports(errors: &mut Vec<FieldError>, ports: &Field<'_>) {
    if ports.items().len() > MOST_PORTS {
        return errors.push(ports.too_many(MOST_PORTS));
    }
    let mut seen = BTreeSet::new();
    for (port, value) in ports.each().zip(ports.items()) {
        let name = port.child("name");
        name.check_name(errors, names::label);
        if !seen.insert(text(value, &["name"])) {
            errors.push(name.duplicate_as(name.text()));
        }
        let protocol = port.child("protocol");
        if protocol.is_set() {
            protocol.check_supported(errors, &PROTOCOLS);
        } else {
            errors.push(protocol.required(""));
        }
        if port.child("appProtocol").is_set() {
            port.child("appProtocol").check_qualified(errors);
        }
        let number = int(value, &["port"]);
        if port.child("port").is_set() && !(1..=65_535).contains(&number) {
            errors.push(port.child("port").invalid(super::between(1, 65_535)));
        }
    }
}

fn hints(errors: &mut Vec<FieldError>, hints: &Field<'_>) {
    let rules: [(&str, NameRule); 2] = [("forZones", |zone, _| names::label_value(zone)), ("forNodes", names::subdomain)];
    for (list, rule) in rules {
        let list = hints.child(list);
        if list.items().len() > MOST_HINTS {
            return errors.push(list.too_many(MOST_HINTS));
        }
        let mut seen = BTreeSet::new();
        for (hint, value) in list.each().zip(list.items()) {
            let name = hint.child("name");
            if !seen.insert(text(value, &["name"])) {
                errors.push(name.duplicate_as(name.text()));
            }
            name.judge(errors, rule(name.text(), false));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::texts;

    fn slice(kind: &str, endpoint: Value) -> Object {
        let ports = json!([{"name": "", "port": 80, "protocol": "TCP"}]);
        Object::from_value(json!({"addressType": kind, "endpoints": [endpoint], "ports": ports})).expect("an object")
    }

    #[test]
    fn endpoints_are_held_to_their_kind_of_address() {
        let zones: Vec<Value> = (0..9).map(|zone| json!({"name": format!("z{zone}")})).collect();
        let cases: &[(&str, Value, &[&str])] = &[
            ("IPv4", json!({"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n"}]}}), &[]),
            ("FQDN", json!({"addresses": ["example.com."]}), &[]),
            ("IPv4", json!({}), &["endpoints[0].addresses: Required value: must contain at least 1 address"]),
            ("IPv6", json!({"addresses": ["10.0.0.1"]}), &["endpoints[0].addresses: Invalid value: \"10.0.0.1\": must be an IPv6 address"]),
            (
                "IPv4",
                json!({"addresses": ["169.254.169.254"]}),
                &["endpoints[0].addresses[0]: Invalid value: \"169.254.169.254\": may not be in the link-local range (169.254.0.0/16, fe80::/10)"],
            ),
            (
                "FQDN",
                json!({"addresses": ["example"]}),
                &["endpoints[0].addresses[0]: Invalid value: \"example\": should be a domain with at least two segments separated by dots"],
            ),
            (
                "IPv4",
                json!({"addresses": ["10.0.0.1"], "hostname": "a.b", "hints": {"forZones": [{"name": "z"}, {"name": "z"}]}}),
                &[
                    "endpoints[0].hostname: Invalid value: \"a.b\": must not contain dots",
                    "endpoints[0].hints.forZones[1].name: Duplicate value: \"z\"",
                ],
            ),
            (
                "IPv4",
                json!({"addresses": ["10.0.0.1"], "hints": {"forZones": zones}}),
                &["endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"],
            ),
            ("", json!({"addresses": ["x"]}), &["addressType: Required value"]),
        ];
        for (kind, endpoint, wanted) in cases {
            assert_eq!(texts(endpoint_slice(&slice(kind, endpoint.clone()))), *wanted, "{kind} {endpoint}");
        }
    }

    #[test]
    fn ports_of_a_slice_have_names_of_their_own() {
        let mut slice = slice("IPv4", json!({"addresses": ["10.0.0.1"]}));
        slice.set(
            &["ports"],
            json!([{"name": "a", "protocol": "TCP"}, {"name": "a", "appProtocol": ""}, {"name": "A_", "protocol": "X", "port": 70_000}]),
        );
        let errors = texts(endpoint_slice(&slice));
        for wanted in [
            "ports[1].name: Duplicate value: \"a\"",
            "ports[1].protocol: Required value",
            "ports[1].appProtocol: Invalid value: \"\": name part must be non-empty",
            "ports[2].name: Invalid value: \"A_\": a lowercase RFC 1123 label must consist of",
            "ports[2].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            "ports[2].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(wanted)), "{wanted}: {errors:#?}");
        }
    }

    #[test]
    fn endpoints_that_are_left_alone_may_be_wrong_and_the_kind_of_address_stays() {
        let old = slice("IPv4", json!({"addresses": ["127.0.0.1"]}));
        assert!(endpoint_slice_update(&old, &old).is_empty());
        let mut new = old.clone();
        new.set(&["addressType"], "IPv6");
        assert_eq!(texts(endpoint_slice_update(&new, &old)), ["addressType: Invalid value: \"IPv6\": field is immutable"]);
    }
}
