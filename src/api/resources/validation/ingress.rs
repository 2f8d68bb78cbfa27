//! Ingresses and network policies.

use serde_json::Value;

use super::{invalid_each, ip, labels, names, one_of, port_number, port_number_or_name};
use crate::{
    meta::Object,
    resources::tree::{at, int, items, text},
    status::FieldError,
};

/// Checks an ingress.
pub fn ingress(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let (rules, default) = (items(spec, &["rules"]), at(spec, &["defaultBackend"]));
    if rules.is_empty() && default.is_null() {
        errors.push(FieldError::invalid("spec", rules.to_vec(), "either `defaultBackend` or `rules` must be specified"));
    }
    if !default.is_null() {
        backend(&mut errors, default, "spec.defaultBackend");
    }
    for (index, rule) in rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        host(&mut errors, text(rule, &["host"]), &format!("{field}.host"));
        let paths = items(rule, &["http", "paths"]);
        if at(rule, &["http"]).is_object() && paths.is_empty() {
            errors.push(FieldError::required(format!("{field}.http.paths"), ""));
        }
        for (path_index, path) in paths.iter().enumerate() {
            let field = format!("{field}.http.paths[{path_index}]");
            route(&mut errors, path, &field);
            backend(&mut errors, at(path, &["backend"]), &format!("{field}.backend"));
        }
    }
    for (index, tls) in items(spec, &["tls"]).iter().enumerate() {
        for (host_index, name) in items(tls, &["hosts"]).iter().filter_map(Value::as_str).enumerate() {
            host(&mut errors, name, &format!("spec.tls[{index}].hosts[{host_index}]"));
        }
    }
    let class = text(spec, &["ingressClassName"]);
    if !class.is_empty() {
        invalid_each(&mut errors, "spec.ingressClassName", class, names::subdomain(class, false));
    }
    errors
}

fn host(errors: &mut Vec<FieldError>, host: &str, field: &str) {
    if host.is_empty() {
        return;
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        errors.push(FieldError::invalid(field, host, "must be a DNS name, not an IP address"));
        return;
    }
    let messages = if host.contains('*') { names::wildcard_subdomain(host) } else { names::subdomain(host, false) };
    invalid_each(errors, field, host, messages);
}

fn route(errors: &mut Vec<FieldError>, route: &Value, field: &str) {
    let (kind, path) = (text(route, &["pathType"]), text(route, &["path"]));
    match kind {
        "" => errors.push(FieldError::required(format!("{field}.pathType"), "pathType must be specified")),
        "Exact" | "Prefix" => {
            if !path.starts_with('/') {
                errors.push(FieldError::invalid(format!("{field}.path"), path, "must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if path.contains(bad) {
                    errors.push(FieldError::invalid(format!("{field}.path"), path, format!("must not contain '{bad}'")));
                }
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !path.starts_with('/') {
                errors.push(FieldError::invalid(format!("{field}.path"), path, "must be an absolute path"));
            }
        }
        other => errors.push(FieldError::not_supported(format!("{field}.pathType"), other, &["Exact", "ImplementationSpecific", "Prefix"])),
    }
}

fn backend(errors: &mut Vec<FieldError>, backend: &Value, field: &str) {
    let (service, resource) = (at(backend, &["service"]), at(backend, &["resource"]));
    match (service.is_null(), resource.is_null()) {
        (false, false) => errors.push(FieldError::invalid(field, "", "cannot set both resource and service backends")),
        (true, true) => errors.push(FieldError::required(field, "")),
        (true, false) => {}
        (false, true) => {
            let name = text(service, &["name"]);
            if name.is_empty() {
                errors.push(FieldError::required(format!("{field}.service.name"), ""));
            } else {
                invalid_each(errors, &format!("{field}.service.name"), name, names::label(name, false));
            }
            let (port, number) = (text(service, &["port", "name"]), int(service, &["port", "number"]));
            match (port, number) {
                ("", 0) => errors.push(FieldError::required(format!("{field}.service.port"), "port name or number is required")),
                ("", number) => port_number(errors, &format!("{field}.service.port.number"), number),
                (name, 0) => invalid_each(errors, &format!("{field}.service.port.name"), name, names::port_name(name)),
                _ => errors.push(FieldError::invalid(format!("{field}.service.port"), "", "cannot set both port name & port number")),
            }
        }
    }
}

/// Checks a network policy.
pub fn network_policy(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    labels::selector(&mut errors, "spec.podSelector", at(spec, &["podSelector"]));
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in items(spec, &[list]).iter().enumerate() {
            let field = format!("spec.{list}[{index}]");
            for (port_index, port) in items(rule, &["ports"]).iter().enumerate() {
                policy_port(&mut errors, port, &format!("{field}.ports[{port_index}]"));
            }
            for (peer_index, one) in items(rule, &[peers]).iter().enumerate() {
                peer(&mut errors, one, &format!("{field}.{peers}[{peer_index}]"));
            }
        }
    }
    let types = items(spec, &["policyTypes"]);
    if types.len() > 2 {
        errors.push(FieldError::invalid("spec.policyTypes", types.to_vec(), "may not specify more than two policyTypes"));
    }
    for (index, kind) in types.iter().filter_map(Value::as_str).enumerate() {
        one_of(&mut errors, &format!("spec.policyTypes[{index}]"), kind, &["Egress", "Ingress"]);
    }
    errors
}

fn policy_port(errors: &mut Vec<FieldError>, port: &Value, field: &str) {
    one_of(errors, &format!("{field}.protocol"), text(port, &["protocol"]), &["SCTP", "TCP", "UDP"]);
    let (first, last) = (at(port, &["port"]), at(port, &["endPort"]));
    if first.is_null() {
        if !last.is_null() {
            errors.push(FieldError::required(format!("{field}.port"), "must be specified when `endPort` is specified"));
        }
        return;
    }
    port_number_or_name(errors, &format!("{field}.port"), first);
    match (first.as_i64(), last.as_i64()) {
        (Some(first), Some(last)) if last < first => {
            errors.push(FieldError::invalid(format!("{field}.endPort"), last, "must be greater than or equal to `port`"));
        }
        (None, Some(_)) => errors.push(FieldError::invalid(format!("{field}.port"), first.clone(), "must not be a name when `endPort` is specified")),
        _ => {}
    }
}

fn peer(errors: &mut Vec<FieldError>, peer: &Value, field: &str) {
    let block = at(peer, &["ipBlock"]);
    let selectors: Vec<&str> = ["podSelector", "namespaceSelector"].into_iter().filter(|name| !at(peer, &[name]).is_null()).collect();
    for name in &selectors {
        labels::selector(errors, &format!("{field}.{name}"), at(peer, &[name]));
    }
    if block.is_null() {
        if selectors.is_empty() {
            errors.push(FieldError::required(field, "must specify a peer"));
        }
        return;
    }
    ip::cidr(errors, &format!("{field}.ipBlock.cidr"), text(block, &["cidr"]));
    for (index, except) in items(block, &["except"]).iter().filter_map(Value::as_str).enumerate() {
        ip::cidr(errors, &format!("{field}.ipBlock.except[{index}]"), except);
    }
    if !selectors.is_empty() {
        errors.push(FieldError::forbidden(field, "may not specify both ipBlock and another peer"));
    }
}
