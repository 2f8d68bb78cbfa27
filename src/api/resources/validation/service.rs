//! Services.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{IMMUTABLE, invalid_each, ip, labels, names, one_of, port_number, port_number_or_name};
use crate::{
    meta::Object,
    resources::tree::{at, int, items, text},
    status::FieldError,
};

const MAX_AFFINITY_SECONDS: i64 = 86_400;

/// Checks a service.
pub fn service(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let kind = text(spec, &["type"]);
    let headless = text(spec, &["clusterIP"]) == "None";
    if items(spec, &["ports"]).is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            errors.push(FieldError::invalid("spec.clusterIPs[0]", "None", format!("may not be set to 'None' for {kind} services")));
        }
        "ExternalName" => external_name(&mut errors, spec),
        _ => {}
    }
    ports(&mut errors, spec, kind);
    labels::labels(&mut errors, "spec.selector", at(spec, &["selector"]));
    affinity(&mut errors, spec);
    if kind != "ExternalName" {
        cluster_ips(&mut errors, spec);
    }
    for (index, address) in items(spec, &["externalIPs"]).iter().filter_map(Value::as_str).enumerate() {
        ip::endpoint(&mut errors, &format!("spec.externalIPs[{index}]"), address);
    }
    one_of(&mut errors, "spec.type", kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    load_balancer(&mut errors, spec, kind);
    traffic(&mut errors, spec, kind);
    errors
}

fn external_name(errors: &mut Vec<FieldError>, spec: &Value) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !crate::resources::tree::is_empty(spec, &[field]) {
            errors.push(FieldError::forbidden(format!("spec.{field}"), "may not be set for ExternalName services"));
        }
    }
    match text(spec, &["externalName"]).trim_end_matches('.') {
        "" => errors.push(FieldError::required("spec.externalName", "")),
        name => invalid_each(errors, "spec.externalName", name, names::subdomain(name, false)),
    }
}

fn ports(errors: &mut Vec<FieldError>, spec: &Value, kind: &str) {
    let ports = items(spec, &["ports"]);
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        match text(port, &["name"]) {
            "" if ports.len() > 1 => errors.push(FieldError::required(format!("{field}.name"), "")),
            "" => {}
            name => {
                invalid_each(errors, &format!("{field}.name"), name, names::label(name, false));
                if !seen.insert(name) {
                    errors.push(FieldError::duplicate(format!("{field}.name"), name));
                }
            }
        }
        port_number(errors, &format!("{field}.port"), int(port, &["port"]));
        one_of(errors, &format!("{field}.protocol"), text(port, &["protocol"]), &["SCTP", "TCP", "UDP"]);
        port_number_or_name(errors, &format!("{field}.targetPort"), at(port, &["targetPort"]));
        let application = text(port, &["appProtocol"]);
        if !application.is_empty() {
            invalid_each(errors, &format!("{field}.appProtocol"), application, names::qualified(application));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        if kind == "ClusterIP" && int(port, &["nodePort"]) != 0 {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(format!("spec.ports[{index}].nodePort"), detail));
        }
    }
    duplicates(errors, ports);
}

fn duplicates(errors: &mut Vec<FieldError>, ports: &[Value]) {
    let (mut node_ports, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let (protocol, node_port, number) = (text(port, &["protocol"]), int(port, &["nodePort"]), int(port, &["port"]));
        if node_port != 0 && !node_ports.insert((protocol, node_port)) {
            errors.push(FieldError::duplicate(format!("spec.ports[{index}].nodePort"), node_port));
        }
        if !numbers.insert((protocol, number)) {
            let value = json!({"port": number, "protocol": protocol, "targetPort": 0});
            errors.push(FieldError::duplicate(format!("spec.ports[{index}]"), value));
        }
    }
}

fn affinity(errors: &mut Vec<FieldError>, spec: &Value) {
    let affinity = text(spec, &["sessionAffinity"]);
    one_of(errors, "spec.sessionAffinity", affinity, &["ClientIP", "None"]);
    let config = at(spec, &["sessionAffinityConfig"]);
    let seconds = at(config, &["clientIP", "timeoutSeconds"]);
    if affinity == "None" && !config.is_null() {
        errors.push(FieldError::forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None"));
    } else if affinity == "ClientIP" && !seconds.as_i64().is_some_and(|s| (1..=MAX_AFFINITY_SECONDS).contains(&s)) {
        let detail = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
        errors.push(FieldError::invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds.clone(), detail));
    }
}

fn cluster_ips(errors: &mut Vec<FieldError>, spec: &Value) {
    let ips: Vec<&str> = items(spec, &["clusterIPs"]).iter().filter_map(Value::as_str).collect();
    let first = text(spec, &["clusterIP"]);
    if !ips.is_empty() && ips[0] != first {
        let detail = "element [0] must match clusterIP";
        errors.push(FieldError::invalid("spec.clusterIPs", json!(ips), detail));
    }
    if ips.len() > 2 {
        errors.push(FieldError::invalid("spec.clusterIPs", json!(ips), "may only hold up to 2 values"));
    }
    for (index, address) in ips.iter().enumerate() {
        if *address != "None" {
            ip::address(errors, &format!("spec.clusterIPs[{index}]"), address);
        } else if ips.len() > 1 {
            errors.push(FieldError::invalid("spec.clusterIPs[0]", "None", "must not be set when multiple clusterIPs are specified"));
        }
    }
    let policy = text(spec, &["ipFamilyPolicy"]);
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if !policy.is_empty() && !policies.contains(&policy) {
        errors.push(FieldError::invalid(
            "spec.ipFamilyPolicy",
            policy,
            "supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
        ));
    }
    for (index, family) in items(spec, &["ipFamilies"]).iter().filter_map(Value::as_str).enumerate() {
        if !["IPv4", "IPv6"].contains(&family) {
            errors.push(FieldError::not_supported(format!("spec.ipFamilies[{index}]"), family, &["IPv4", "IPv6"]));
        }
    }
}

fn load_balancer(errors: &mut Vec<FieldError>, spec: &Value, kind: &str) {
    const DETAIL: &str = "may only be used when `type` is 'LoadBalancer'";
    let ranges = items(spec, &["loadBalancerSourceRanges"]);
    if !ranges.is_empty() && kind != "LoadBalancer" {
        errors.push(FieldError::forbidden("spec.LoadBalancerSourceRanges", DETAIL));
    }
    for (index, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        ip::cidr(errors, &format!("spec.LoadBalancerSourceRanges[{index}]"), range.trim());
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if !at(spec, &[field]).is_null() && kind != "LoadBalancer" {
            errors.push(FieldError::forbidden(format!("spec.{field}"), DETAIL));
        }
    }
}

fn traffic(errors: &mut Vec<FieldError>, spec: &Value, kind: &str) {
    let external = matches!(kind, "LoadBalancer" | "NodePort") || kind == "ClusterIP" && !items(spec, &["externalIPs"]).is_empty();
    let policy = text(spec, &["externalTrafficPolicy"]);
    if !external && !policy.is_empty() {
        errors.push(FieldError::invalid("spec.externalTrafficPolicy", policy, "may only be set for externally-accessible services"));
    } else if external {
        one_of(errors, "spec.externalTrafficPolicy", policy, &["Cluster", "Local"]);
    }
    let health = int(spec, &["healthCheckNodePort"]);
    if health != 0 && !(kind == "LoadBalancer" && policy == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid("spec.healthCheckNodePort", health, detail));
    }
    let internal = text(spec, &["internalTrafficPolicy"]);
    if kind != "ExternalName" || !internal.is_empty() {
        one_of(errors, "spec.internalTrafficPolicy", internal, &["Cluster", "Local"]);
    }
    let distribution = text(spec, &["trafficDistribution"]);
    let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    if !distribution.is_empty() && !known.contains(&distribution) {
        errors.push(FieldError::not_supported("spec.trafficDistribution", distribution, &known));
    }
}

/// Checks what an update does to a service.
pub fn service_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let external = |object: &Object| object.str(&["spec", "type"]) == "ExternalName";
    if !external(new) && !external(old) {
        let first = |object: &Object, field: &str| object.list(&["spec", field]).first().cloned().unwrap_or_default();
        let (before, now) = (first(old, "clusterIPs"), first(new, "clusterIPs"));
        if !before.is_null() && before != now {
            errors.push(FieldError::invalid("spec.clusterIPs[0]", new.list(&["spec", "clusterIPs"]).to_vec(), "may not change once set"));
        }
        let (before, now) = (first(old, "ipFamilies"), first(new, "ipFamilies"));
        if !before.is_null() && before != now {
            errors.push(FieldError::invalid("spec.ipFamilies[0]", new.list(&["spec", "ipFamilies"]).to_vec(), "may not change once set"));
        }
    }
    let class = ["spec", "loadBalancerClass"];
    let balanced = |object: &Object| object.str(&["spec", "type"]) == "LoadBalancer";
    if balanced(new) && balanced(old) && new.get(&class) != old.get(&class) {
        errors.push(FieldError::invalid("spec.loadBalancerClass", new.get(&class).cloned().unwrap_or_default(), "may not change once set"));
    }
    let health = |object: &Object| object.int(&["spec", "healthCheckNodePort"]).unwrap_or(0);
    let local = |object: &Object| balanced(object) && object.str(&["spec", "externalTrafficPolicy"]) == "Local";
    if local(new) && local(old) && health(new) != health(old) {
        errors.push(FieldError::forbidden("spec.healthCheckNodePort", IMMUTABLE));
    }
    errors.extend(service(new));
    errors
}
