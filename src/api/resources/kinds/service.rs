//! Services.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::{keep_status, restore, take_status};
use crate::{
    meta::{
        Clock, Object,
        names::{self, NameRule},
    },
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, labels_or_none, name, or_none, string, wide},
        resource::age_of,
        tree::{Fields, each, fill, int, is_empty, is_unset, items, text},
        validation::{load_balancer, service, warnings},
    },
    status::FieldError,
};

/// How long a client sticks to a pod by default, in seconds: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

/// The rules of services.
#[derive(Default)]
pub struct Service;

impl Strategy for Service {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "type", "ClusterIP");
        default_affinity(spec);
        each(spec, "ports", default_port);
        let kind = text(&spec["type"], &[]).to_owned();
        if is_external(spec, &kind) {
            fill(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
            fill(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            fill(spec, "allocateLoadBalancerNodePorts", true);
            let ingress = object.map_mut(&["status", "loadBalancer"]);
            each(ingress, "ingress", |entry| {
                if !is_unset(entry, "ip") {
                    fill(entry, "ipMode", "VIP");
                }
            });
        }
    }

    /// Families and addresses that a client leaves out are the cluster's to choose, when it takes addresses for the service.
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.set(&["status"], json!({"loadBalancer": {}}));
        list_the_address(object);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            take_status(new, old);
            return;
        }
        keep_status(new, old);
        keep_allocations(new, old);
        drop_what_the_type_lacks(new, old);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        names::label
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        service::service(object, None)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { load_balancer::of_service(new, old) } else { service::service_update(new, old) }
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::service(object)
    }

    fn status_warnings(&self, object: &Object) -> Vec<String> {
        warnings::load_balancer(object)
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        super::text_field(self, object, path)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Type", "How the service is exposed."),
            string("Cluster-IP", "The first address of the service inside the cluster."),
            string("External-IP", "Addresses from outside that lead to the service."),
            string("Port(s)", "The ports that are exposed by this service."),
            age(),
            wide("Selector", "Traffic goes to pods with labels matching this selector."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let root = object.get(&["spec"]).unwrap_or(&Value::Null);
        let ip = items(root, &["clusterIPs"]).first().and_then(Value::as_str).unwrap_or("");
        vec![
            object.name().into(),
            text(root, &["type"]).into(),
            or_none(ip).into(),
            external_ip(object).into(),
            or_none(ports(root)).into(),
            age_of(object, clock).into(),
            labels_or_none(root.get("selector").unwrap_or(&Value::Null)).into(),
        ]
    }
}

fn default_affinity(spec: &mut Fields) {
    fill(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "None" {
        spec.remove("sessionAffinityConfig");
    } else if spec["sessionAffinity"] == "ClientIP" {
        let timeout = spec.get("sessionAffinityConfig").and_then(|config| config.get("clientIP")?.get("timeoutSeconds")?.as_i64());
        if timeout.is_none() {
            spec.insert("sessionAffinityConfig".into(), json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}));
        }
    }
}

fn default_port(port: &mut Fields) {
    fill(port, "protocol", "TCP");
    let unset = is_unset(port, "targetPort") || port["targetPort"] == 0;
    if let (true, Some(number)) = (unset, port.get("port").cloned()) {
        port.insert("targetPort".into(), number);
    }
}

fn is_external(spec: &Fields, kind: &str) -> bool {
    let has_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    matches!(kind, "LoadBalancer" | "NodePort") || kind == "ClusterIP" && has_ips
}

/// Older clients know of one address only.
fn list_the_address(object: &mut Object) {
    let ip = object.str(&["spec", "clusterIP"]).to_owned();
    if !ip.is_empty() && object.list(&["spec", "clusterIPs"]).is_empty() {
        object.set(&["spec", "clusterIPs"], vec![ip]);
    }
}

fn kind(service: &Object) -> &str {
    service.str(&["spec", "type"])
}

fn has_node_ports(service: &Object) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

fn needs_health_check(service: &Object) -> bool {
    kind(service) == "LoadBalancer" && service.str(&["spec", "externalTrafficPolicy"]) == "Local"
}

/// An update that leaves allocated addresses and ports out keeps them.
fn keep_allocations(new: &mut Object, old: &Object) {
    if kind(new) != "ExternalName" && kind(old) != "ExternalName" {
        for field in ["clusterIP", "clusterIPs"] {
            if is_empty(new.get(&["spec", field]).unwrap_or(&Value::Null), &[]) {
                restore(new, old, &["spec", field]);
            }
        }
        for field in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if new.get(&["spec", field]).is_none_or(Value::is_null) {
                restore(new, old, &["spec", field]);
            }
        }
    }
    align_addresses(new, old);
    if has_node_ports(new) && has_node_ports(old) {
        keep_node_ports(new, old);
    }
    if needs_health_check(new) && needs_health_check(old) && new.int(&["spec", "healthCheckNodePort"]).unwrap_or(0) == 0 {
        restore(new, old, &["spec", "healthCheckNodePort"]);
    }
}

/// A client that changes only the single address means the list as well.
fn align_addresses(new: &mut Object, old: &Object) {
    let (one, before) = (new.str(&["spec", "clusterIP"]).to_owned(), old.str(&["spec", "clusterIP"]));
    let (all, all_before) = (new.list(&["spec", "clusterIPs"]), old.list(&["spec", "clusterIPs"]));
    if one == before && all.is_empty() && !all_before.is_empty() {
        new.set(&["spec", "clusterIPs"], all_before.to_vec());
    } else if one != before && all == all_before {
        match one.is_empty() {
            true => drop(new.remove(&["spec", "clusterIPs"])),
            false => new.set(&["spec", "clusterIPs"], vec![one]),
        }
    }
}

/// A port without number on the nodes gets what the port of its name had, unless another one has it now.
fn keep_node_ports(new: &mut Object, old: &Object) {
    let number = |port: &Value| int(port, &["nodePort"]);
    let all = |service: &Object| service.list(&["spec", "ports"]).iter().map(number).filter(|port| *port != 0).collect::<BTreeSet<_>>();
    let used: BTreeSet<i64> = all(old).intersection(&all(new)).copied().collect();
    let by_name: HashMap<&str, i64> = old.list(&["spec", "ports"]).iter().map(|port| (text(port, &["name"]), number(port))).collect();
    each(new.map_mut(&["spec"]), "ports", |port| {
        if port.get("nodePort").and_then(Value::as_i64).unwrap_or(0) != 0 {
            return;
        }
        let name = port.get("name").and_then(Value::as_str).unwrap_or("");
        let before = by_name.get(name).copied().filter(|before| *before != 0 && !used.contains(before));
        if let Some(before) = before {
            port.insert("nodePort".into(), before.into());
        }
    });
}

/// A change of type drops what only the old type had, unless the client changed it on purpose.
fn drop_what_the_type_lacks(new: &mut Object, old: &Object) {
    if kind(old) != "ExternalName" && kind(new) == "ExternalName" {
        let same_addresses = ["clusterIP", "clusterIPs"].iter().all(|field| new.get(&["spec", field]) == old.get(&["spec", field]));
        for field in ["clusterIP", "clusterIPs"].into_iter().filter(|_| same_addresses) {
            new.remove(&["spec", field]);
        }
        for field in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            drop_unchanged(new, old, field);
        }
    }
    if has_node_ports(old) && !has_node_ports(new) {
        drop_node_ports(new, old);
    }
    if needs_health_check(old) && !needs_health_check(new) {
        drop_unchanged(new, old, "healthCheckNodePort");
    }
    if kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            drop_unchanged(new, old, field);
        }
    }
    if is_accessible(old) && !is_accessible(new) {
        drop_unchanged(new, old, "externalTrafficPolicy");
    }
    if kind(new) != "LoadBalancer" {
        new.set(&["status", "loadBalancer"], json!({}));
    }
}

/// Whether anybody outside the cluster can reach it.
fn is_accessible(service: &Object) -> bool {
    has_node_ports(service) || kind(service) == "ClusterIP" && !service.list(&["spec", "externalIPs"]).is_empty()
}

fn drop_unchanged(new: &mut Object, old: &Object, field: &str) {
    if new.get(&["spec", field]) == old.get(&["spec", field]) {
        new.remove(&["spec", field]);
    }
}

/// Ports on the nodes go together, and only if the client names none that is new.
fn drop_node_ports(new: &mut Object, old: &Object) {
    let number = |port: &Value| int(port, &["nodePort"]);
    let known: BTreeSet<i64> = old.list(&["spec", "ports"]).iter().map(number).collect();
    if new.list(&["spec", "ports"]).iter().map(number).any(|port| port != 0 && !known.contains(&port)) {
        return;
    }
    each(new.map_mut(&["spec"]), "ports", |port| {
        port.remove("nodePort");
    });
}

fn external_ip(object: &Object) -> String {
    let mut ips: Vec<String> = object.list(&["spec", "externalIPs"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    match object.str(&["spec", "type"]) {
        "ClusterIP" | "NodePort" => or_none(ips.join(",")),
        "LoadBalancer" => {
            let mut balancers: Vec<String> = ingress_addresses(object);
            balancers.append(&mut ips);
            if balancers.is_empty() { "<pending>".to_owned() } else { balancers.join(",") }
        }
        "ExternalName" => object.str(&["spec", "externalName"]).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// The addresses or host names under `status.loadBalancer.ingress`, sorted.
pub fn ingress_addresses(object: &Object) -> Vec<String> {
    let entries = object.list(&["status", "loadBalancer", "ingress"]);
    let address = |entry: &Value| match text(entry, &["ip"]) {
        "" => text(entry, &["hostname"]).to_owned(),
        ip => ip.to_owned(),
    };
    entries.iter().map(address).filter(|address| !address.is_empty()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn ports(spec: &Value) -> String {
    let print = |port: &Value| {
        let (number, node, protocol) = (int(port, &["port"]), int(port, &["nodePort"]), text(port, &["protocol"]));
        if node > 0 { format!("{number}:{node}/{protocol}") } else { format!("{number}/{protocol}") }
    };
    items(spec, &["ports"]).iter().map(print).collect::<Vec<_>>().join(",")
}
