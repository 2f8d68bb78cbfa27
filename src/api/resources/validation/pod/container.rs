//! Containers of all three kinds.

use std::collections::BTreeSet;

use super::{super::Field, Facts, env, ephemeral, handlers, mounts, resources, restart, security};
use crate::{meta::names, resources::tree::text, status::FieldError};

const NO_SIDECAR: &str = "may not be set for init containers without restartPolicy=Always";

/// Checks the containers of a pod spec.
pub fn all(errors: &mut Vec<FieldError>, spec: &Field<'_>, facts: &Facts<'_>) {
    let mut names = BTreeSet::new();
    regular(errors, &spec.child("containers"), facts, &mut names);
    init(errors, &spec.child("initContainers"), facts, &mut names);
    ephemeral::containers(errors, &spec.child("ephemeralContainers"), facts, &mut names);
}

fn regular<'a>(errors: &mut Vec<FieldError>, containers: &Field<'a>, facts: &Facts<'_>, names: &mut BTreeSet<&'a str>) {
    if containers.items().is_empty() {
        errors.push(containers.required(""));
    }
    let mut ports = BTreeSet::new();
    for (container, value) in containers.each().zip(containers.items()) {
        common(errors, &container, facts);
        if !names.insert(text(value, &["name"])) {
            errors.push(container.child("name").duplicate());
        }
        handlers::all(errors, &container, facts);
        restart::policy(errors, &container);
    }
    for container in containers.each() {
        host_ports(errors, &container, &mut ports);
    }
}

fn init<'a>(errors: &mut Vec<FieldError>, containers: &Field<'a>, facts: &Facts<'_>, names: &mut BTreeSet<&'a str>) {
    for (container, value) in containers.each().zip(containers.items()) {
        common(errors, &container, facts);
        restart::policy(errors, &container);
        if !names.insert(text(value, &["name"])) {
            errors.push(container.child("name").duplicate());
        }
        // One by one they run: only a container's own ports can be in each other's way.
        host_ports(errors, &container, &mut BTreeSet::new());
        if container.child("restartPolicy").text() == "Always" {
            handlers::all(errors, &container, facts);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.child(field).is_set() {
                errors.push(container.child(field).forbidden(NO_SIDECAR));
            }
        }
        restart::no_restart_on_resize(errors, &container);
    }
}

/// What all kinds of containers have in common.
pub fn common(errors: &mut Vec<FieldError>, container: &Field<'_>, facts: &Facts<'_>) {
    container.child("name").check_required_name(errors, names::label);
    container.child("image").check_required(errors);
    container.child("terminationMessagePolicy").check_one_of(errors, &["File", "FallbackToLogsOnError"]);
    ports(errors, &container.child("ports"));
    env::env(errors, &container.child("env"));
    env::env_from(errors, &container.child("envFrom"));
    mounts::mounts(errors, container, facts);
    mounts::devices(errors, container, facts);
    container.child("imagePullPolicy").check_one_of(errors, &["Always", "IfNotPresent", "Never"]);
    resources::of_container(errors, &container.child("resources"), facts);
    restart::on_resize(errors, &container.child("resizePolicy"), facts.restart_policy);
    security::of_container(errors, &container.child("securityContext"), facts.host_users);
}

/// A pod's image, unlike a template's, is taken as it is.
pub fn image_of_pod(errors: &mut Vec<FieldError>, container: &Field<'_>) {
    let image = container.child("image");
    if image.text().trim().len() != image.text().len() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
}

fn ports(errors: &mut Vec<FieldError>, ports: &Field<'_>) {
    let mut seen = BTreeSet::new();
    for port in ports.each() {
        let name = port.child("name");
        if !name.text().is_empty() {
            let messages = names::port_name(name.text());
            if messages.is_empty() && !seen.insert(name.text().to_owned()) {
                errors.push(name.duplicate());
            }
            name.judge(errors, messages);
        }
        match port.child("containerPort").int() {
            0 => errors.push(port.child("containerPort").required("")),
            _ => port.child("containerPort").check_port(errors),
        }
        if port.child("hostPort").int() != 0 {
            port.child("hostPort").check_port(errors);
        }
        // Upstream leaves it to the node, where it becomes part of a packet filter rule.
        if !port.child("hostIP").text().is_empty() {
            port.child("hostIP").check_ip(errors);
        }
        port.child("protocol").check_one_of(errors, &["SCTP", "TCP", "UDP"]);
    }
}

fn host_ports(errors: &mut Vec<FieldError>, container: &Field<'_>, used: &mut BTreeSet<String>) {
    for port in container.child("ports").each() {
        let number = port.child("hostPort").int();
        let key = format!("{}/{}/{number}", port.child("protocol").text(), port.child("hostIP").text());
        if number != 0 && !used.insert(key.clone()) {
            errors.push(port.child("hostPort").duplicate_as(key));
        }
    }
}
