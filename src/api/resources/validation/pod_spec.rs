//! Pod specs, in pods and templates.

use serde_json::Value;

use super::{between, container, invalid_each, labels, names, one_of, pod_volumes, scheduling};
use crate::{
    resources::tree::{at, flag, items, text},
    status::FieldError,
};

/// Checks a pod spec. `field` is where it stands; pods are judged more strictly than templates.
pub fn pod_spec(errors: &mut Vec<FieldError>, spec: &Value, field: &str, is_pod: bool) {
    if at(spec, &["terminationGracePeriodSeconds"]).is_null() {
        errors.push(FieldError::required(format!("{field}.terminationGracePeriodSeconds"), ""));
    }
    let volumes = pod_volumes::volumes(errors, items(spec, &["volumes"]), &format!("{field}.volumes"));
    container::all(errors, spec, field, &volumes, is_pod);
    host_network_ports(errors, spec, field);
    one_of(errors, &format!("{field}.restartPolicy"), text(spec, &["restartPolicy"]), &["Always", "OnFailure", "Never"]);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(errors, &format!("{field}.dnsPolicy"), text(spec, &["dnsPolicy"]), &policies);
    dns_config(errors, spec, field);
    labels::labels(errors, &format!("{field}.nodeSelector"), at(spec, &["nodeSelector"]));
    for (index, secret) in items(spec, &["imagePullSecrets"]).iter().enumerate() {
        super::required(errors, &format!("{field}.imagePullSecrets[{index}].name"), text(secret, &["name"]));
    }
    scheduling::scheduling(errors, spec, field);
    plain_names(errors, spec, field);
    deadline(errors, spec, field);
    host_aliases(errors, spec, field);
    users(errors, at(spec, &["securityContext"]), &format!("{field}.securityContext"));
    if flag(spec, &["shareProcessNamespace"]) && flag(spec, &["hostPID"]) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(format!("{field}.securityContext.shareProcessNamespace"), true, detail));
    }
}

fn plain_names(errors: &mut Vec<FieldError>, spec: &Value, field: &str) {
    let rules: [(&str, names::NameRule); 6] = [
        ("serviceAccountName", names::subdomain),
        ("nodeName", names::subdomain),
        ("hostname", names::label),
        ("subdomain", names::label),
        ("priorityClassName", names::subdomain),
        ("runtimeClassName", names::subdomain),
    ];
    for (name, rule) in rules {
        let value = text(spec, &[name]);
        if !value.is_empty() {
            invalid_each(errors, &format!("{field}.{name}"), value, rule(value, false));
        }
    }
    let preemption = text(spec, &["preemptionPolicy"]);
    if !preemption.is_empty() {
        one_of(errors, &format!("{field}.preemptionPolicy"), preemption, &["PreemptLowerPriority", "Never"]);
    }
}

fn deadline(errors: &mut Vec<FieldError>, spec: &Value, field: &str) {
    const MAX: i64 = i32::MAX as i64;
    if let Some(seconds) = at(spec, &["activeDeadlineSeconds"]).as_i64().filter(|seconds| !(1..=MAX).contains(seconds)) {
        errors.push(FieldError::invalid(format!("{field}.activeDeadlineSeconds"), seconds, between(1, MAX)));
    }
}

/// On the node's network a port is the node's port.
fn host_network_ports(errors: &mut Vec<FieldError>, spec: &Value, field: &str) {
    if !flag(spec, &["hostNetwork"]) {
        return;
    }
    for list in ["containers", "initContainers"] {
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            for (port_index, port) in items(container, &["ports"]).iter().enumerate() {
                let (host, inner) = (at(port, &["hostPort"]).as_i64().unwrap_or(0), at(port, &["containerPort"]).as_i64().unwrap_or(0));
                if host != 0 && host != inner {
                    let path = format!("{field}.{list}[{index}].ports[{port_index}].hostPort");
                    errors.push(FieldError::invalid(path, host, "must match `containerPort` when `hostNetwork` is true"));
                }
            }
        }
    }
}

fn dns_config(errors: &mut Vec<FieldError>, spec: &Value, field: &str) {
    let servers = items(spec, &["dnsConfig", "nameservers"]);
    if text(spec, &["dnsPolicy"]) == "None" {
        if at(spec, &["dnsConfig"]).is_null() {
            errors.push(FieldError::required(format!("{field}.dnsConfig"), "must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.is_empty() {
            errors.push(FieldError::required(
                format!("{field}.dnsConfig.nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            ));
        }
    }
    if servers.len() > 3 {
        let value: Value = servers.to_vec().into();
        errors.push(FieldError::invalid(format!("{field}.dnsConfig.nameservers"), value, "must not have more than 3 nameservers"));
    }
    for (index, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        super::ip::address(errors, &format!("{field}.dnsConfig.nameservers[{index}]"), server);
    }
}

fn host_aliases(errors: &mut Vec<FieldError>, spec: &Value, field: &str) {
    for (index, alias) in items(spec, &["hostAliases"]).iter().enumerate() {
        let path = format!("{field}.hostAliases[{index}]");
        super::ip::address(errors, &format!("{path}.ip"), text(alias, &["ip"]));
        for (host_index, host) in items(alias, &["hostnames"]).iter().filter_map(Value::as_str).enumerate() {
            invalid_each(errors, &format!("{path}.hostnames[{host_index}]"), host, names::subdomain(host, false));
        }
    }
}

/// User and group ids of a security context.
pub fn users(errors: &mut Vec<FieldError>, context: &Value, field: &str) {
    const MAX: i64 = i32::MAX as i64;
    for name in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) = at(context, &[name]).as_i64().filter(|id| !(0..=MAX).contains(id)) {
            errors.push(FieldError::invalid(format!("{field}.{name}"), id, between(0, MAX)));
        }
    }
    for (index, group) in items(context, &["supplementalGroups"]).iter().filter_map(Value::as_i64).enumerate() {
        if !(0..=MAX).contains(&group) {
            errors.push(FieldError::invalid(format!("{field}.supplementalGroups[{index}]"), group, between(0, MAX)));
        }
    }
}
