//! Ports of containers that get in each other's way.

use std::collections::{HashMap, hash_map::Entry};

use super::full;
use crate::resources::validation::Field;

/// A port as far as it collides with others.
struct Port {
    path: String,
    host_ip: String,
    host_port: i64,
}

/// What is said about the ports of all containers of a pod.
pub fn all(warnings: &mut Vec<String>, spec: &Field<'_>, lists: &[&str]) {
    let (mut known, mut names) = (HashMap::new(), HashMap::new());
    each(spec, lists, |port| numbers(warnings, port, &mut known));
    each(spec, lists, |port| name(warnings, port, &mut names));
}

fn each(spec: &Field<'_>, lists: &[&str], mut visit: impl FnMut(&Field<'_>)) {
    for list in lists {
        for container in spec.child(list).each() {
            container.child("ports").each().for_each(|port| visit(&port));
        }
    }
}

/// Holds a port against those of its number and protocol.
fn numbers(warnings: &mut Vec<String>, port: &Field<'_>, known: &mut HashMap<(i64, String), Vec<Port>>) {
    let text = |name: &str| port.child(name).text().to_owned();
    let (host_ip, host_port) = (text("hostIP"), port.child("hostPort").int());
    let (number, protocol) = (port.child("containerPort").int(), text("protocol"));
    if !host_ip.is_empty() && host_port == 0 {
        let shown = format!("{{Name:{} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:{host_ip}}}", text("name"));
        warnings.push(format!("{port}: hostIP set without hostPort: {shown}"));
    }
    let others = known.entry((number, protocol)).or_default();
    for other in others.iter() {
        if full(warnings) {
            break;
        }
        let how = if host_ip == other.host_ip && host_port == other.host_port {
            "duplicate"
        } else if host_port == 0 || other.host_port == 0 {
            "overlapping"
        } else if host_port == other.host_port && host_ip.is_empty() != other.host_ip.is_empty() {
            "dangerously ambiguous"
        } else {
            continue;
        };
        warnings.push(format!("{port}: {how} port definition with {}", other.path));
    }
    // What is not told is not looked for.
    if !full(warnings) {
        others.push(Port { path: port.to_string(), host_ip, host_port });
    }
}

fn name(warnings: &mut Vec<String>, port: &Field<'_>, names: &mut HashMap<String, String>) {
    let name = port.child("name").text().to_owned();
    if name.is_empty() {
        return;
    }
    match names.entry(name) {
        Entry::Vacant(entry) => _ = entry.insert(port.to_string()),
        Entry::Occupied(entry) if !full(warnings) => {
            let (name, first) = (entry.key(), entry.get());
            let why = format!("duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}");
            warnings.push(format!("{port}: {why}"));
        }
        Entry::Occupied(_) => {}
    }
}
