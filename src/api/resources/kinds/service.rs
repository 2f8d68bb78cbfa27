//! Services.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{keep_status, restore, take_status};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, labels_or_none, name, or_none, string, wide},
        resource::age_of,
        tree::{Fields, each, fill, int, is_unset, items, text},
        validation::{NameRule, names, service},
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
        default_families(object);
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.set(&["status"], json!({"loadBalancer": {}}));
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            take_status(new, old);
            return;
        }
        keep_status(new, old);
        keep_allocations(new, old);
        drop_what_the_type_lacks(new, old);
        default_families(new);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        names::label
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        service::service(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { Vec::new() } else { service::service_update(new, old) }
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

/// Families, policy and the list of cluster IPs, as a single-stack IPv4 cluster sets them.
fn default_families(object: &mut Object) {
    let spec = object.map_mut(&["spec"]);
    if spec.get("type").is_some_and(|kind| kind == "ExternalName") {
        return;
    }
    if !is_unset(spec, "clusterIP") && !spec.contains_key("clusterIPs") {
        let ip = spec["clusterIP"].clone();
        spec.insert("clusterIPs".into(), json!([ip]));
    }
    let headless = spec.get("clusterIP").is_some_and(|ip| ip == "None");
    let selects = spec.get("selector").and_then(Value::as_object).is_some_and(|selector| !selector.is_empty());
    let dual = headless && !selects;
    fill(spec, "ipFamilyPolicy", if dual { "RequireDualStack" } else { "SingleStack" });
    let families = spec.get("ipFamilies").and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = match (families.as_slice(), dual && spec["ipFamilyPolicy"] != "SingleStack") {
        ([], false) => json!(["IPv4"]),
        ([], true) => json!(["IPv4", "IPv6"]),
        ([one], true) => json!([one, if one == "IPv4" { "IPv6" } else { "IPv4" }]),
        _ => return,
    };
    spec.insert("ipFamilies".into(), wanted);
}

/// An update that leaves allocated addresses and ports out keeps them.
fn keep_allocations(new: &mut Object, old: &Object) {
    let kind = |service: &Object| service.str(&["spec", "type"]).to_owned();
    let (now, before) = (kind(new), kind(old));
    if now != "ExternalName" && before != "ExternalName" {
        let changed_ip = new.str(&["spec", "clusterIP"]) != old.str(&["spec", "clusterIP"]);
        if new.str(&["spec", "clusterIP"]).is_empty() && new.list(&["spec", "clusterIPs"]).is_empty() {
            restore(new, old, &["spec", "clusterIP"]);
            restore(new, old, &["spec", "clusterIPs"]);
        } else if new.list(&["spec", "clusterIPs"]).is_empty() && !changed_ip {
            restore(new, old, &["spec", "clusterIPs"]);
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if new.get(&["spec", field]).is_none() {
                restore(new, old, &["spec", field]);
            }
        }
    }
    let has_node_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if has_node_ports(&now) && has_node_ports(&before) {
        keep_node_ports(new, old);
    }
    if now == "LoadBalancer" && before == "LoadBalancer" && new.int(&["spec", "healthCheckNodePort"]).unwrap_or(0) == 0 {
        restore(new, old, &["spec", "healthCheckNodePort"]);
    }
}

fn keep_node_ports(new: &mut Object, old: &Object) {
    let number = |port: &Value| int(port, &["nodePort"]);
    let mut used: BTreeSet<i64> = new.list(&["spec", "ports"]).iter().map(number).filter(|port| *port != 0).collect();
    each(new.map_mut(&["spec"]), "ports", |port| {
        if port.get("nodePort").and_then(Value::as_i64).unwrap_or(0) != 0 {
            return;
        }
        let same = |other: &&Value| ["protocol", "port"].iter().all(|field| other.get(*field) == port.get(*field));
        let before = old.list(&["spec", "ports"]).iter().find(same).map_or(0, number);
        if before != 0 && used.insert(before) {
            port.insert("nodePort".into(), before.into());
        }
    });
}

/// A change of type drops what only the old type had, unless the client changed it on purpose.
fn drop_what_the_type_lacks(new: &mut Object, old: &Object) {
    let kind = |service: &Object| service.str(&["spec", "type"]).to_owned();
    let (now, before) = (kind(new), kind(old));
    let drop_same = |new: &mut Object, field: &str| {
        if new.get(&["spec", field]) == old.get(&["spec", field]) {
            new.remove(&["spec", field]);
        }
    };
    if before != "ExternalName" && now == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            drop_same(new, field);
        }
    }
    let has_node_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if has_node_ports(&before) && !has_node_ports(&now) {
        let known: Vec<i64> = old.list(&["spec", "ports"]).iter().map(|port| int(port, &["nodePort"])).collect();
        each(new.map_mut(&["spec"]), "ports", |port| {
            if port.get("nodePort").and_then(Value::as_i64).is_some_and(|number| known.contains(&number)) {
                port.remove("nodePort");
            }
        });
        if !is_external(new.map_mut(&["spec"]), &now) {
            drop_same(new, "externalTrafficPolicy");
        }
    }
    if before == "LoadBalancer" && now != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"] {
            drop_same(new, field);
        }
        new.set(&["status", "loadBalancer"], json!({}));
    }
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
