//! The ports of a service.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Field, kind};
use crate::{meta::names, status::FieldError};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Each port for itself, and its name among the others.
pub fn each(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let ports = spec.child("ports");
    let mut seen = BTreeSet::new();
    for port in ports.each() {
        let name = port.child("name");
        if !name.text().is_empty() {
            name.judge(errors, names::label(name.text(), false));
            if !seen.insert(name.text().to_owned()) {
                errors.push(name.duplicate());
            }
        } else if ports.items().len() > 1 {
            errors.push(name.required(""));
        }
        let number = port.child("port");
        number.with(&number.int().into()).check_between(errors, 1, 65_535);
        port.child("protocol").check_one_of(errors, &PROTOCOLS);
        port.child("targetPort").check_port(errors);
        if port.child("appProtocol").is_set() {
            port.child("appProtocol").check_qualified(errors);
        }
    }
}

/// What all ports together may not be.
pub fn together(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let ports = spec.child("ports");
    if kind(spec) == "ClusterIP" {
        for port in ports.each().filter(|port| port.child("nodePort").int() != 0) {
            errors.push(port.child("nodePort").forbidden("may not be used when `type` is 'ClusterIP'"));
        }
    }
    let (mut on_nodes, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for port in ports.each() {
        let node_port = port.child("nodePort");
        if node_port.int() != 0 && !on_nodes.insert((port.child("protocol").text().to_owned(), node_port.int())) {
            errors.push(node_port.duplicate());
        }
    }
    for port in ports.each() {
        let (protocol, number) = (port.child("protocol").text().to_owned(), port.child("port").int());
        if !numbers.insert((protocol.clone(), number)) {
            let (none, zero) = (Value::Null, Value::from(0));
            errors.push(port.duplicate_shown(&[
                ("Name", "".into()),
                ("Protocol", protocol.into()),
                ("AppProtocol", none),
                ("Port", number.into()),
                ("TargetPort", zero.clone()),
                ("NodePort", zero),
            ]));
        }
    }
}
