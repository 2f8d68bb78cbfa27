//! What load balancers tell of themselves in the status of services and ingresses.

use serde_json::Value;

use super::{
    Field, address,
    ip::{self, Known},
};
use crate::{
    meta::{Object, names},
    status::FieldError,
};

const PATH: [&str; 3] = ["status", "loadBalancer", "ingress"];

fn entries(object: &Object) -> Field<'_> {
    Field::root("status.loadBalancer.ingress", object.get(&PATH).unwrap_or(&Value::Null))
}

fn known(old: &Object) -> Known<'_> {
    Known::new(old.list(&PATH).iter().filter_map(|entry| entry.get("ip")?.as_str()))
}

/// Checks an update of a service's status.
pub fn of_service(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let entries = entries(new);
    if new.str(&["spec", "type"]) != "LoadBalancer" && !entries.items().is_empty() {
        errors.push(entries.forbidden("may only be used when `spec.type` is 'LoadBalancer'"));
        return errors;
    }
    let known = known(old);
    for entry in entries.each() {
        address(&mut errors, &entry, &known);
        mode(&mut errors, &entry);
        hostname(&mut errors, &entry);
    }
    errors
}

/// Checks an update of an ingress's status.
pub fn of_ingress(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let known = known(old);
    for entry in entries(new).each() {
        address(&mut errors, &entry, &known);
        hostname(&mut errors, &entry);
    }
    errors
}

fn address(errors: &mut Vec<FieldError>, entry: &Field<'_>, known: &Known<'_>) {
    let address = entry.child("ip");
    if !address.text().is_empty() {
        ip::address_or_known(errors, &address, known);
    }
}

fn mode(errors: &mut Vec<FieldError>, entry: &Field<'_>) {
    let mode = entry.child("ipMode");
    match (mode.is_set(), entry.child("ip").text().is_empty()) {
        (false, false) => errors.push(mode.required("must be specified when `ip` is set")),
        (true, true) => errors.push(mode.forbidden("may not be specified when `ip` is not set")),
        _ => mode.check_supported(errors, &["Proxy", "VIP"]),
    }
}

fn hostname(errors: &mut Vec<FieldError>, entry: &Field<'_>) {
    let name = entry.child("hostname");
    name.check_name(errors, names::subdomain);
    if address::parse(name.text()).is_some() {
        errors.push(name.invalid("must be a DNS name, not an IP address"));
    }
}
