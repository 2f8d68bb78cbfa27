//! Endpoints.

use serde_json::Value;

use super::{Field, address, ip};
use crate::{
    meta::{Object, names},
    status::FieldError,
};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Checks endpoints.
pub fn endpoints(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for subset in Field::root("subsets", object.get(&["subsets"]).unwrap_or(&Value::Null)).each() {
        let lists = [subset.child("addresses"), subset.child("notReadyAddresses")];
        if lists.iter().all(|list| list.items().is_empty()) {
            errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
        }
        for list in &lists {
            list.each().for_each(|entry| address(&mut errors, &entry));
        }
        ports(&mut errors, &subset.child("ports"));
    }
    errors
}

/// Checks an update: subsets that it leaves alone may be wrong by rules that came later.
pub fn endpoints_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let errors = endpoints(new);
    if !errors.is_empty() && new.list(&["subsets"]) == old.list(&["subsets"]) { Vec::new() } else { errors }
}

fn address(errors: &mut Vec<FieldError>, address: &Field<'_>) {
    let ip = address.child("ip");
    address::address(errors, &ip.to_string(), ip.text());
    address.child("hostname").check_name(errors, names::label);
    let node = address.child("nodeName");
    if node.is_set() {
        node.judge(errors, names::subdomain(node.text(), false));
    }
    ip::endpoint(errors, &ip.to_string(), ip.text());
}

fn ports(errors: &mut Vec<FieldError>, ports: &Field<'_>) {
    for port in ports.each() {
        let (name, number) = (port.child("name"), port.child("port"));
        if name.text().is_empty() && ports.items().len() > 1 {
            errors.push(name.required(""));
        }
        name.check_name(errors, names::label);
        number.with(&number.int().into()).check_between(errors, 1, 65_535);
        port.child("protocol").check_one_of(errors, &PROTOCOLS);
        if port.child("appProtocol").is_set() {
            port.child("appProtocol").check_qualified(errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::texts;

    fn object(subsets: Value) -> Object {
        Object::from_value(json!({"subsets": subsets})).expect("an object")
    }

    #[test]
    fn traffic_goes_only_to_addresses_that_somebody_has() {
        let cases: &[(Value, &[&str])] = &[
            (json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]}]), &[]),
            (json!([{}]), &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]),
            (
                json!([{"addresses": [{"ip": "::ffff:127.0.0.1"}]}]),
                &[
                    "subsets[0].addresses[0].ip: Invalid value: \"::ffff:127.0.0.1\": must not be an IPv4-mapped IPv6 address",
                    "subsets[0].addresses[0].ip: Invalid value: \"::ffff:127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ],
            ),
            (
                json!([{"notReadyAddresses": [{"ip": "1 -j ACCEPT"}]}]),
                &[
                    "subsets[0].notReadyAddresses[0].ip: Invalid value: \"1 -j ACCEPT\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                    "subsets[0].notReadyAddresses[0].ip: Invalid value: \"1 -j ACCEPT\": must be a valid IP address",
                ],
            ),
            (
                json!([{"addresses": [{"ip": "10.0.0.1", "hostname": "a.b"}], "ports": [{"port": 0, "protocol": "ICMP"}, {"name": "a", "port": 1, "protocol": "TCP"}]}]),
                &[
                    "subsets[0].addresses[0].hostname: Invalid value: \"a.b\": must not contain dots",
                    "subsets[0].ports[0].name: Required value",
                    "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "subsets[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                ],
            ),
        ];
        for (subsets, wanted) in cases {
            assert_eq!(texts(endpoints(&object(subsets.clone()))), *wanted, "{subsets}");
        }
    }

    #[test]
    fn subsets_that_are_left_alone_may_be_wrong() {
        let old = object(json!([{"addresses": [{"ip": "127.0.0.1"}]}]));
        assert!(endpoints_update(&old, &old).is_empty());
        assert_eq!(endpoints_update(&object(json!([{"addresses": [{"ip": "127.0.0.2"}]}])), &old).len(), 1);
    }
}
