//! Nodes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{keep_status, take_status};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, non_empty, or_none, string, wide},
        resource::age_of,
        tree::{child, flag, text},
        validation::{node, warnings},
    },
    status::FieldError,
};

const CONFIG_SOURCE: [&str; 2] = ["spec", "configSource"];
const CONFIG_STATUS: [&str; 2] = ["status", "config"];

/// The rules of nodes.
#[derive(Default)]
pub struct Node;

impl Strategy for Node {
    fn default_object(&self, object: &mut Object) {
        object.map_mut(&["spec"]);
        mirror_cidr(object);
        let status = object.map_mut(&["status"]);
        if let (false, Some(capacity)) = (status.contains_key("allocatable"), status.get("capacity").cloned()) {
            status.insert("allocatable".into(), capacity);
        }
        for (field, empty) in [("daemonEndpoints", json!({"kubeletEndpoint": {"Port": 0}})), ("nodeInfo", empty_node_info())] {
            status.entry(field).or_insert(empty);
        }
        if let Some(endpoints) = child(status, "daemonEndpoints") {
            endpoints.entry("kubeletEndpoint").or_insert(json!({"Port": 0}));
        }
    }

    /// A kubelet registers its node with status. Its configuration comes from elsewhere now.
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.remove(&CONFIG_SOURCE);
        object.remove(&CONFIG_STATUS);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        match context.subresource {
            "status" => {
                take_status(new, old);
                drop_unused(new, old, &CONFIG_STATUS);
            }
            _ => {
                keep_status(new, old);
                drop_unused(new, old, &CONFIG_SOURCE);
            }
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        node::node(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        node::node_update(new, old, subresource)
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::node(object)
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        (path == "spec.unschedulable").then(|| flag(object.get(&["spec"]).unwrap_or(&Value::Null), &["unschedulable"]).to_string())
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Status", "The status of the node"),
            string("Roles", "The roles of the node"),
            age(),
            string("Version", "Kubelet Version reported by the node."),
            wide("Internal-IP", "List of addresses reachable to the node."),
            wide("External-IP", "List of addresses reachable to the node."),
            wide("OS-Image", "OS Image reported by the node from /etc/os-release."),
            wide("Kernel-Version", "Kernel Version reported by the node from 'uname -r'."),
            wide("Container-Runtime", "Container runtime version reported by the node through the runtime's remote API."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let info = |field: &str| object.str(&["status", "nodeInfo", field]);
        let mut kernel = non_empty(info("kernelVersion"), "<unknown>");
        if !info("architecture").is_empty() {
            kernel = format!("{kernel} ({})", info("architecture"));
        }
        vec![
            object.name().into(),
            state(object).into(),
            or_none(roles(object)).into(),
            age_of(object, clock).into(),
            info("kubeletVersion").into(),
            address(object, "InternalIP").into(),
            address(object, "ExternalIP").into(),
            non_empty(info("osImage"), "<unknown>").into(),
            kernel.into(),
            non_empty(info("containerRuntimeVersion"), "<unknown>").into(),
        ]
    }
}

/// A field that nothing reads any more is kept only where it is stored already.
fn drop_unused(new: &mut Object, old: &Object, path: &[&str]) {
    if old.get(path).is_none_or(Value::is_null) {
        new.remove(path);
    }
}

fn empty_node_info() -> Value {
    let fields = [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ];
    fields.iter().map(|field| ((*field).to_owned(), Value::from(""))).collect::<serde_json::Map<_, _>>().into()
}

/// `podCIDR` is the first of `podCIDRs`; where they differ it counts, because older clients know no other.
fn mirror_cidr(object: &mut Object) {
    let one = object.str(&["spec", "podCIDR"]).to_owned();
    let first = object.list(&["spec", "podCIDRs"]).first().and_then(Value::as_str).map(str::to_owned);
    match first {
        Some(first) if one.is_empty() => object.set(&["spec", "podCIDR"], first),
        first if !one.is_empty() && first.as_ref() != Some(&one) => object.set(&["spec", "podCIDRs"], json!([one])),
        _ => {}
    }
}

fn state(object: &Object) -> String {
    let ready = object.list(&["status", "conditions"]).iter().rfind(|condition| text(condition, &["type"]) == "Ready");
    let state = match ready.map(|condition| text(condition, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let unschedulable = object.get(&["spec", "unschedulable"]).and_then(Value::as_bool) == Some(true);
    if unschedulable { format!("{state},SchedulingDisabled") } else { state.to_owned() }
}

fn roles(object: &Object) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in object.get(&["metadata", "labels"]).and_then(Value::as_object).into_iter().flatten() {
        match (key.strip_prefix("node-role.kubernetes.io/"), key.as_str(), value.as_str().unwrap_or("")) {
            (Some(role), ..) if !role.is_empty() => roles.insert(role),
            (None, "kubernetes.io/role", role) if !role.is_empty() => roles.insert(role),
            _ => false,
        };
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address(object: &Object, kind: &str) -> String {
    let address = object.list(&["status", "addresses"]).iter().find(|address| text(address, &["type"]) == kind);
    or_none(address.map_or("", |address| text(address, &["address"])))
}
