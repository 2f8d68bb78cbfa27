//! Containers of all three kinds.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{invalid_each, names, non_negative, one_of, port_number, port_number_or_name, required, resources::requirements};
use crate::{
    resources::tree::{at, flag, int, items, text},
    status::{FieldError, FieldErrorKind},
};

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Checks the containers of a pod spec; `volumes` are the names that mounts may use.
pub fn all(errors: &mut Vec<FieldError>, spec: &Value, field: &str, volumes: &BTreeSet<String>, is_pod: bool) {
    let regular = items(spec, &["containers"]);
    if regular.is_empty() {
        errors.push(FieldError::required(format!("{field}.containers"), ""));
    }
    let mut seen = BTreeSet::new();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            let path = format!("{field}.{list}[{index}]");
            common(errors, container, &path, volumes);
            if !seen.insert(text(container, &["name"])) {
                errors.push(FieldError::duplicate(format!("{path}.name"), text(container, &["name"])));
            }
            let sidecar = list == "initContainers" && text(container, &["restartPolicy"]) == "Always";
            match list {
                "containers" => probes(errors, container, &path),
                "initContainers" if sidecar => probes(errors, container, &path),
                "initContainers" => no_probes(errors, container, &path, "may not be set for init containers without restartPolicy=Always"),
                _ => no_probes(errors, container, &path, "field not allowed for ephemeral containers"),
            }
            let image = text(container, &["image"]);
            if is_pod && image.trim().len() != image.len() {
                errors.push(FieldError::invalid(format!("{path}.image"), image, "must not have leading or trailing whitespace"));
            }
        }
    }
    host_port_conflicts(errors, regular, field);
    targets(errors, spec, field);
}

fn targets(errors: &mut Vec<FieldError>, spec: &Value, field: &str) {
    for (index, container) in items(spec, &["ephemeralContainers"]).iter().enumerate() {
        let target = text(container, &["targetContainerName"]);
        let known = ["containers", "initContainers"].iter().any(|list| items(spec, &[list]).iter().any(|c| text(c, &["name"]) == target));
        if !target.is_empty() && !known {
            errors.push(not_found(format!("{field}.ephemeralContainers[{index}].targetContainerName"), target));
        }
    }
}

fn not_found(field: String, value: &str) -> FieldError {
    FieldError { kind: FieldErrorKind::NotFound, field, value: Some(Value::from(value).to_string()), detail: String::new() }
}

fn common(errors: &mut Vec<FieldError>, container: &Value, path: &str, volumes: &BTreeSet<String>) {
    match text(container, &["name"]) {
        "" => errors.push(FieldError::required(format!("{path}.name"), "")),
        name => invalid_each(errors, &format!("{path}.name"), name, names::label(name, false)),
    }
    required(errors, &format!("{path}.image"), text(container, &["image"]));
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(errors, &format!("{path}.terminationMessagePolicy"), text(container, &["terminationMessagePolicy"]), &policies);
    ports(errors, container, path);
    env(errors, container, path);
    env_from(errors, container, path);
    mounts(errors, container, path, volumes);
    devices(errors, container, path, volumes);
    let pulls = ["Always", "IfNotPresent", "Never"];
    one_of(errors, &format!("{path}.imagePullPolicy"), text(container, &["imagePullPolicy"]), &pulls);
    requirements(errors, at(container, &["resources"]), &format!("{path}.resources"));
    security(errors, at(container, &["securityContext"]), &format!("{path}.securityContext"));
}

fn ports(errors: &mut Vec<FieldError>, container: &Value, path: &str) {
    let mut seen = BTreeSet::new();
    for (index, port) in items(container, &["ports"]).iter().enumerate() {
        let field = format!("{path}.ports[{index}]");
        let name = text(port, &["name"]);
        if !name.is_empty() {
            let messages = names::port_name(name);
            if messages.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), name));
            }
            invalid_each(errors, &format!("{field}.name"), name, messages);
        }
        match int(port, &["containerPort"]) {
            0 => errors.push(FieldError::required(format!("{field}.containerPort"), "")),
            number => port_number(errors, &format!("{field}.containerPort"), number),
        }
        match int(port, &["hostPort"]) {
            0 => {}
            number => port_number(errors, &format!("{field}.hostPort"), number),
        }
        one_of(errors, &format!("{field}.protocol"), text(port, &["protocol"]), &["SCTP", "TCP", "UDP"]);
    }
}

fn host_port_conflicts(errors: &mut Vec<FieldError>, containers: &[Value], field: &str) {
    let mut used = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (port_index, port) in items(container, &["ports"]).iter().enumerate() {
            let number = int(port, &["hostPort"]);
            let key = format!("{}/{}/{number}", text(port, &["protocol"]), text(port, &["hostIP"]));
            if number != 0 && !used.insert(key.clone()) {
                errors.push(FieldError::duplicate(format!("{field}.containers[{index}].ports[{port_index}].hostPort"), key));
            }
        }
    }
}

fn env(errors: &mut Vec<FieldError>, container: &Value, path: &str) {
    for (index, variable) in items(container, &["env"]).iter().enumerate() {
        let field = format!("{path}.env[{index}]");
        match text(variable, &["name"]) {
            "" => errors.push(FieldError::required(format!("{field}.name"), "")),
            name => invalid_each(errors, &format!("{field}.name"), name, names::env_var(name)),
        }
        let Some(source) = at(variable, &["valueFrom"]).as_object() else { continue };
        let field = format!("{field}.valueFrom");
        let sources = source.values().filter(|value| !value.is_null()).count();
        if !text(variable, &["value"]).is_empty() && sources > 0 {
            errors.push(FieldError::invalid(field.clone(), "", "may not be specified when `value` is not empty"));
        } else if sources > 1 {
            errors.push(FieldError::invalid(field.clone(), "", "may not have more than one field specified at a time"));
        } else if sources == 0 {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            errors.push(FieldError::invalid(field.clone(), "", detail));
        }
        env_source(errors, at(variable, &["valueFrom"]), &field);
    }
}

fn env_source(errors: &mut Vec<FieldError>, source: &Value, field: &str) {
    for reference in ["configMapKeyRef", "secretKeyRef"] {
        let reference_value = at(source, &[reference]);
        if reference_value.is_null() {
            continue;
        }
        required(errors, &format!("{field}.{reference}.name"), text(reference_value, &["name"]));
        match text(reference_value, &["key"]) {
            "" => errors.push(FieldError::required(format!("{field}.{reference}.key"), "")),
            key => invalid_each(errors, &format!("{field}.{reference}.key"), key, names::config_key(key)),
        }
    }
    if at(source, &["fieldRef"]).is_null() {
        return;
    }
    let path = text(source, &["fieldRef", "fieldPath"]);
    let subscript = ["metadata.labels['", "metadata.annotations['"].iter().any(|prefix| path.starts_with(prefix) && path.ends_with("']"));
    if path.is_empty() {
        errors.push(FieldError::required(format!("{field}.fieldRef.fieldPath"), ""));
    } else if !subscript && !ENV_FIELDS.contains(&path) {
        errors.push(FieldError::not_supported(format!("{field}.fieldRef.fieldPath"), path, &ENV_FIELDS));
    }
}

fn env_from(errors: &mut Vec<FieldError>, container: &Value, path: &str) {
    for (index, source) in items(container, &["envFrom"]).iter().enumerate() {
        let field = format!("{path}.envFrom[{index}]");
        let prefix = text(source, &["prefix"]);
        if !prefix.is_empty() {
            invalid_each(errors, &format!("{field}.prefix"), prefix, names::env_var(prefix));
        }
        let present: Vec<&str> = ["configMapRef", "secretRef"].into_iter().filter(|name| !at(source, &[name]).is_null()).collect();
        match present[..] {
            [] => errors.push(FieldError::invalid(field, "", "must specify one of: `configMapRef` or `secretRef`")),
            [name] => required(errors, &format!("{field}.{name}.name"), text(source, &[name, "name"])),
            _ => errors.push(FieldError::invalid(field, "", "may not have more than one field specified at a time")),
        }
    }
}

fn mounts(errors: &mut Vec<FieldError>, container: &Value, path: &str, volumes: &BTreeSet<String>) {
    let mut points = BTreeSet::new();
    for (index, mount) in items(container, &["volumeMounts"]).iter().enumerate() {
        let field = format!("{path}.volumeMounts[{index}]");
        let (name, point) = (text(mount, &["name"]), text(mount, &["mountPath"]));
        required(errors, &format!("{field}.name"), name);
        if !volumes.contains(name) {
            errors.push(not_found(format!("{field}.name"), name));
        }
        required(errors, &format!("{field}.mountPath"), point);
        if !points.insert(point) {
            errors.push(FieldError::invalid(format!("{field}.mountPath"), point, "must be unique"));
        }
        let (sub, expression) = (text(mount, &["subPath"]), text(mount, &["subPathExpr"]));
        if !sub.is_empty() && !expression.is_empty() {
            errors.push(FieldError::invalid(format!("{field}.subPathExpr"), expression, "subPathExpr and subPath are mutually exclusive"));
        }
        descending(errors, &format!("{path}.volumeMounts.subPath"), sub);
        descending(errors, &format!("{path}.volumeMounts.subPathExpr"), expression);
        if text(mount, &["mountPropagation"]) == "Bidirectional" && !flag(container, &["securityContext", "privileged"]) {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(format!("{path}.volumeMounts.mountPropagation"), detail));
        }
    }
}

fn devices(errors: &mut Vec<FieldError>, container: &Value, path: &str, volumes: &BTreeSet<String>) {
    for (index, device) in items(container, &["volumeDevices"]).iter().enumerate() {
        let field = format!("{path}.volumeDevices[{index}]");
        let name = text(device, &["name"]);
        required(errors, &format!("{field}.name"), name);
        required(errors, &format!("{field}.devicePath"), text(device, &["devicePath"]));
        if !volumes.contains(name) {
            errors.push(not_found(format!("{field}.name"), name));
        }
    }
}

/// A path that stays below where it starts.
pub fn descending(errors: &mut Vec<FieldError>, field: &str, path: &str) {
    if path.starts_with('/') {
        errors.push(FieldError::invalid(field, path, "must be a relative path"));
    }
    if path.split('/').any(|segment| segment == "..") {
        errors.push(FieldError::invalid(field, path, "must not contain '..'"));
    }
}

fn probes(errors: &mut Vec<FieldError>, container: &Value, path: &str) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = at(container, &[name]);
        if probe.is_null() {
            continue;
        }
        let field = format!("{path}.{name}");
        handler(errors, probe, &field);
        for number in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
            non_negative(errors, probe, &field, number);
        }
        let successes = int(probe, &["successThreshold"]);
        if name != "readinessProbe" && successes != 1 {
            errors.push(FieldError::invalid(format!("{field}.successThreshold"), successes, "must be 1"));
        }
        let grace = at(probe, &["terminationGracePeriodSeconds"]);
        if name == "readinessProbe" && !grace.is_null() {
            errors.push(FieldError::invalid(format!("{field}.terminationGracePeriodSeconds"), grace.clone(), "must not be set for readinessProbes"));
        } else if grace.as_i64().is_some_and(|seconds| seconds <= 0) {
            errors.push(FieldError::invalid(format!("{field}.terminationGracePeriodSeconds"), grace.clone(), "must be greater than 0"));
        }
    }
    for hook in ["postStart", "preStop"] {
        if !at(container, &["lifecycle", hook]).is_null() {
            handler(errors, at(container, &["lifecycle", hook]), &format!("{path}.lifecycle.{hook}"));
        }
    }
}

fn no_probes(errors: &mut Vec<FieldError>, container: &Value, path: &str, detail: &str) {
    for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if !at(container, &[name]).is_null() {
            errors.push(FieldError::forbidden(format!("{path}.{name}"), detail));
        }
    }
}

fn handler(errors: &mut Vec<FieldError>, handler: &Value, field: &str) {
    let kinds = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
    let present: Vec<&str> = kinds.into_iter().filter(|kind| !at(handler, &[kind]).is_null()).collect();
    if present.is_empty() {
        errors.push(FieldError::required(field, "must specify a handler type"));
    }
    for kind in present.iter().skip(1) {
        errors.push(FieldError::forbidden(format!("{field}.{kind}"), "may not specify more than 1 handler type"));
    }
    match present.first().copied() {
        Some("exec") if items(handler, &["exec", "command"]).is_empty() => {
            errors.push(FieldError::required(format!("{field}.exec.command"), ""));
        }
        Some("httpGet") => {
            required(errors, &format!("{field}.httpGet.path"), text(handler, &["httpGet", "path"]));
            port_number_or_name(errors, &format!("{field}.httpGet.port"), at(handler, &["httpGet", "port"]));
            let scheme = text(handler, &["httpGet", "scheme"]);
            if !["HTTP", "HTTPS"].contains(&scheme) {
                errors.push(FieldError::not_supported(format!("{field}.httpGet.scheme"), scheme, &["HTTP", "HTTPS"]));
            }
        }
        Some("tcpSocket") => port_number_or_name(errors, &format!("{field}.tcpSocket.port"), at(handler, &["tcpSocket", "port"])),
        Some("grpc") => port_number(errors, &format!("{field}.grpc.port"), int(handler, &["grpc", "port"])),
        _ => {}
    }
}

fn security(errors: &mut Vec<FieldError>, context: &Value, field: &str) {
    super::pod_spec::users(errors, context, field);
    if at(context, &["allowPrivilegeEscalation"]).as_bool() != Some(false) {
        return;
    }
    if flag(context, &["privileged"]) {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.push(FieldError::invalid(field, context.clone(), detail));
    }
    if items(context, &["capabilities", "add"]).iter().any(|capability| capability == "CAP_SYS_ADMIN") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.push(FieldError::invalid(field, context.clone(), detail));
    }
}
