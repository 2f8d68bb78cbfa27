//! What a Service holds, and what a write of it takes and lets go. Pure.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use troupe_api::meta::Object;

/// One address to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpNeed {
    /// Its place in `spec.clusterIPs`.
    pub index: usize,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// The address that the client wants; `None` takes any.
    pub requested: Option<String>,
}

/// One node port to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortNeed {
    pub place: PortPlace,
    pub requested: Option<u16>,
}

/// Where a node port is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortPlace {
    /// These entries of `spec.ports`: one port number over several protocols shares its node port.
    Ports(Vec<usize>),
    HealthCheck,
}

/// What a write takes, and what it lets go once it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub ips: Vec<IpNeed>,
    pub ports: Vec<PortNeed>,
    pub released_ips: Vec<String>,
    pub released_ports: Vec<u16>,
}

/// What a Service holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub ips: Vec<String>,
    pub ports: Vec<u16>,
}

fn kind(service: &Object) -> &str {
    service.str(&["spec", "type"])
}

fn has_addresses(service: &Object) -> bool {
    kind(service) != "ExternalName" && service.str(&["spec", "clusterIP"]) != "None"
}

fn has_node_ports(service: &Object) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

fn needs_health_check(service: &Object) -> bool {
    kind(service) == "LoadBalancer" && service.str(&["spec", "externalTrafficPolicy"]) == "Local"
}

/// Node ports that the client names and that are no port numbers, with their places.
pub fn impossible_ports(service: &Object) -> Vec<(String, i64)> {
    let number = |value: Option<&Value>| value.and_then(Value::as_i64).filter(|port| u16::try_from(*port).is_err());
    let entries = if has_node_ports(service) { service.list(&["spec", "ports"]) } else { &[] };
    let of_entries =
        entries.iter().enumerate().filter_map(|(index, entry)| Some((format!("spec.ports[{index}].nodePort"), number(entry.get("nodePort"))?)));
    let health = number(service.get(&["spec", "healthCheckNodePort"])).filter(|_| needs_health_check(service));
    of_entries.chain(health.map(|port| ("spec.healthCheckNodePort".to_owned(), port))).collect()
}

fn strings(service: &Object, field: &str) -> Vec<String> {
    service.list(&["spec", field]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn port_at(entry: &Value, field: &str) -> Option<u16> {
    entry.get(field).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// What `service` holds of the ranges.
pub fn held(service: &Object) -> Held {
    let ips = if has_addresses(service) { strings(service, "clusterIPs").into_iter().filter(|ip| !ip.is_empty()).collect() } else { Vec::new() };
    let mut ports: Vec<u16> = service.list(&["spec", "ports"]).iter().filter_map(|entry| port_at(entry, "nodePort")).collect();
    if needs_health_check(service) {
        let check = service.int(&["spec", "healthCheckNodePort"]).and_then(|port| u16::try_from(port).ok());
        ports.extend(check.filter(|port| *port != 0));
    }
    ports.sort_unstable();
    ports.dedup();
    Held { ips, ports }
}

/// The node ports that a Service names, one twice that two of its entries of the same protocol name (the health check's is TCP).
pub fn named_ports(service: &Object) -> Vec<u16> {
    let mut seen: HashMap<u16, HashSet<&str>> = HashMap::new();
    let mut ports = Vec::new();
    for entry in service.list(&["spec", "ports"]) {
        let Some(port) = port_at(entry, "nodePort") else { continue };
        let protocols = seen.entry(port).or_default();
        let is_new = protocols.insert(entry.get("protocol").and_then(Value::as_str).unwrap_or("TCP"));
        if !is_new || protocols.len() == 1 {
            ports.push(port);
        }
    }
    let check = service.int(&["spec", "healthCheckNodePort"]).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    ports.extend(check.filter(|port| seen.get(port).is_none_or(|protocols| protocols.contains("TCP"))));
    ports
}

/// What turning `old` into `new` takes and lets go.
pub fn of(new: &Object, old: Option<&Object>) -> Needs {
    let before = old.map(held).unwrap_or_default();
    let kept = held(new);
    Needs {
        ips: if has_addresses(new) { ip_needs(new, &before.ips) } else { Vec::new() },
        ports: port_needs(new, &before.ports),
        released_ips: before.ips.iter().filter(|ip| !kept.ips.contains(ip)).cloned().collect(),
        released_ports: before.ports.iter().filter(|port| kept.ports.binary_search(port).is_err()).copied().collect(),
    }
}

fn ip_needs(new: &Object, before: &[String]) -> Vec<IpNeed> {
    let wanted = strings(new, "clusterIPs");
    let families = strings(new, "ipFamilies");
    let need = |(index, family): (usize, String)| {
        let requested = wanted.get(index).filter(|ip| !ip.is_empty()).cloned();
        let has = requested.as_ref().is_some_and(|ip| before.contains(ip));
        (!has).then_some(IpNeed { index, family, requested })
    };
    families.into_iter().enumerate().filter_map(need).collect()
}

fn port_needs(new: &Object, before: &[u16]) -> Vec<PortNeed> {
    let mut needs: Vec<PortNeed> = Vec::new();
    let allocates = kind(new) != "LoadBalancer" || new.get(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
    let entries = if has_node_ports(new) { new.list(&["spec", "ports"]) } else { &[] };
    let (mut asked, mut shared) = (HashSet::new(), HashMap::new());
    for (index, entry) in entries.iter().enumerate() {
        let Some(requested) = port_at(entry, "nodePort") else { continue };
        if before.binary_search(&requested).is_err() && asked.insert(requested) {
            needs.push(PortNeed { place: PortPlace::Ports(vec![index]), requested: Some(requested) });
        }
    }
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| allocates && port_at(entry, "nodePort").is_none()) {
        let number = entry.get("port").and_then(Value::as_i64);
        let known = number.and_then(|number| shared.get(&number)).and_then(|at: &usize| needs.get_mut(*at));
        if let Some(PortNeed { place: PortPlace::Ports(places), .. }) = known {
            places.push(index);
            continue;
        }
        if let Some(number) = number {
            shared.insert(number, needs.len());
        }
        needs.push(PortNeed { place: PortPlace::Ports(vec![index]), requested: None });
    }
    if needs_health_check(new) {
        let requested = new.int(&["spec", "healthCheckNodePort"]).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        if requested.is_none_or(|port| !before.contains(&port)) {
            needs.push(PortNeed { place: PortPlace::HealthCheck, requested });
        }
    }
    needs
}

/// Writes an address into its place.
pub fn set_ip(service: &mut Object, index: usize, ip: &str) {
    let mut ips = strings(service, "clusterIPs");
    if ips.len() <= index {
        ips.resize(index + 1, String::new());
    }
    ip.clone_into(&mut ips[index]);
    if index == 0 {
        service.set(&["spec", "clusterIP"], ip);
    }
    service.set(&["spec", "clusterIPs"], ips);
}

/// Writes a node port into its place.
pub fn set_port(service: &mut Object, need: &PortNeed, port: u16) {
    match &need.place {
        PortPlace::HealthCheck => service.set(&["spec", "healthCheckNodePort"], port),
        PortPlace::Ports(places) => {
            // In place: a Service may have thousands of them.
            let Some(entries) = service.list_mut(&["spec", "ports"]) else { return };
            for place in places {
                if let Some(entry) = entries.get_mut(*place) {
                    entry["nodePort"] = port.into();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: Value) -> Object {
        Object::from_value(json!({"spec": spec})).expect("an object")
    }

    #[test]
    fn a_port_of_several_protocols_is_named_once() {
        let ports = |ports: Value, check: u16| named_ports(&service(json!({"ports": ports, "healthCheckNodePort": check})));
        let (tcp, udp) = (json!({"nodePort": 30001, "protocol": "TCP"}), json!({"nodePort": 30001, "protocol": "UDP"}));
        assert_eq!(ports(json!([tcp, udp, {"nodePort": 30002}, {"port": 1}]), 0), [30001, 30002]);
        assert_eq!(ports(json!([tcp, udp, tcp]), 30001), [30001, 30001, 30001]);
        assert_eq!(ports(json!([udp]), 30001), [30001]);
        assert_eq!(ports(json!([]), 30003), [30003]);
    }

    #[test]
    fn a_new_service_needs_an_address_per_family_and_a_port_per_number() {
        let ports = json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "nodePort": 30080}]);
        let new = service(json!({"type": "NodePort", "ipFamilies": ["IPv4"], "ports": ports}));
        let needs = of(&new, None);
        assert_eq!(needs.ips, [IpNeed { index: 0, family: "IPv4".into(), requested: None }]);
        let places: Vec<_> = needs.ports.iter().map(|need| (need.place.clone(), need.requested)).collect();
        assert_eq!(places, [(PortPlace::Ports(vec![2]), Some(30080)), (PortPlace::Ports(vec![0, 1]), None)]);
    }

    #[test]
    fn becoming_an_external_name_lets_everything_go() {
        let old = service(json!({"type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"],
            "ports": [{"port": 80, "nodePort": 30080}]}));
        let new = service(json!({"type": "ExternalName", "externalName": "x.y"}));
        let needs = of(&new, Some(&old));
        assert_eq!(needs, Needs { released_ips: vec!["10.96.0.7".into()], released_ports: vec![30080], ..Needs::default() });
        assert_eq!(of(&old, Some(&old)), Needs::default(), "what it has it keeps");
    }

    #[test]
    fn node_ports_that_are_no_port_numbers_are_found() {
        let ports = json!([{"port": 80, "nodePort": 70_000}, {"port": 81, "nodePort": 30_000}, {"port": 82, "nodePort": -1}]);
        let new = service(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 1 << 20, "ports": ports}));
        let found = ["spec.ports[0].nodePort", "spec.ports[2].nodePort", "spec.healthCheckNodePort"].map(str::to_owned);
        assert_eq!(impossible_ports(&new), found.into_iter().zip([70_000, -1, 1 << 20]).collect::<Vec<_>>());
    }

    #[test]
    fn a_headless_service_needs_no_address() {
        let new = service(json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4"]}));
        assert_eq!(of(&new, None), Needs::default());
    }

    #[test]
    fn node_ports_are_written_where_they_stand() {
        let ports: Vec<_> = (1..=3000).map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
        let mut new = service(json!({"type": "NodePort", "ports": ports}));
        let needs = of(&new, None).ports;
        let before = new.list(&["spec", "ports"]).as_ptr();
        for (need, port) in needs.iter().zip(30_000..) {
            set_port(&mut new, need, port);
        }
        let entries = new.list(&["spec", "ports"]);
        assert_eq!(entries.as_ptr(), before, "the list is not copied for each of its ports");
        assert_eq!([&entries[0], &entries[2999]].map(|entry| entry["nodePort"].clone()), [json!(30_000), json!(32_999)]);
    }
}
