//! External addresses that are no Service's to take.
//!
//! Every node catches packets for a Service's external addresses, also its own packets. So none of them may be an address that
//! the cluster uses itself: a Service's or a pod's, or that of a machine at a port at which the cluster's daemons listen or node ports
//! answer. What a Service of another namespace has, at the same port, is that one's. Upstream takes any (CVE-2020-8554), and leaves it to
//! an admission plugin to forbid all. An address is judged by what it stands for. Pure.

use std::collections::BTreeSet;

use troupe_addresses::{Kind, kind};
use troupe_api::{meta::Object, status::FieldError};

use super::in_use::{Held, InUse, Port, balancer_ip, external_ips, ports};

/// What the Service `new` takes beyond `old` that is in use.
pub fn check(new: &Object, old: Option<&Object>, used: &InUse) -> Vec<FieldError> {
    let (before, ports_before) = old.map(|old| (external_ips(old), ports(old))).unwrap_or_default();
    let (ports_now, own) = (ports(new), own_node_ports(new));
    let mut errors = Vec::new();
    for (index, ip) in external_ips(new).into_iter().enumerate() {
        let Some(ip) = ip else { continue };
        let shown = new.list(&["spec", "externalIPs"])[index].clone();
        let mut refuse = |why: String| errors.push(FieldError::invalid(format!("spec.externalIPs[{index}]"), shown.clone(), why));
        let was_there = before.contains(&Some(ip));
        if !was_there && matches!(kind(ip), Kind::Multicast | Kind::Broadcast) {
            refuse("may not be a multicast or broadcast address".to_owned());
        }
        if !was_there && used.ranges.iter().any(|range| range.contains(ip)) {
            refuse("must not be in a range of the cluster's services or pods".to_owned());
        }
        let added: BTreeSet<Port> = ports_now.iter().filter(|port| !was_there || !ports_before.contains(*port)).copied().collect();
        if let Some(port) = added.iter().find(|port| used.is_listening(ip, **port)) {
            refuse(format!("the cluster's own server listens at port {} of this address", port.number));
        }
        let is_node_port = |port: &&Port| u16::try_from(port.number).is_ok_and(|number| used.node_ports.contains(&number)) && !own.contains(*port);
        if let Some(port) = added.iter().find(is_node_port).filter(|_| used.is_machine(ip)) {
            refuse(format!("port {} of this machine's address is in the range of node ports", port.number));
        }
        let theirs = |held: &Held| held.external.contains(&ip) || held.balancer.contains(&ip);
        if let Some(port) = rival(used, &added, theirs) {
            refuse(taken(port));
        }
    }
    errors.extend(check_balancer(new, old, used));
    errors
}

/// What load balancers have among themselves is for whoever gives the addresses out; external ones were taken without asking anybody.
fn check_balancer(new: &Object, old: Option<&Object>, used: &InUse) -> Option<FieldError> {
    let ip = balancer_ip(new)?;
    let ports_before = old.filter(|old| balancer_ip(old) == Some(ip)).map(ports).unwrap_or_default();
    let added: BTreeSet<Port> = ports(new).difference(&ports_before).copied().collect();
    let port = rival(used, &added, |held| held.external.contains(&ip))?;
    Some(FieldError::invalid("spec.loadBalancerIP", new.str(&["spec", "loadBalancerIP"]), taken(port)))
}

/// The port of those wanted that a Service of another namespace has, which has the address.
fn rival(used: &InUse, wanted: &BTreeSet<Port>, has_address: impl Fn(&Held) -> bool) -> Option<Port> {
    used.others.iter().filter(|held| has_address(held)).find_map(|held| held.ports.intersection(wanted).next().copied())
}

/// Names no Service: who may not read a namespace does not learn what is in it.
fn taken(Port { protocol, number }: Port) -> String {
    format!("a Service of another namespace has port {number}/{protocol} of this address")
}

/// Ports that are the Service's node ports, too: nobody else's.
fn own_node_ports(service: &Object) -> BTreeSet<Port> {
    let mut own = ports(service);
    let held: BTreeSet<u64> = service.list(&["spec", "ports"]).iter().filter_map(|port| port["nodePort"].as_u64()).collect();
    own.retain(|port| held.contains(&port.number));
    own
}

/// Whether it asks for addresses at all.
pub fn has_any(service: &Object) -> bool {
    !service.list(&["spec", "externalIPs"]).is_empty() || balancer_ip(service).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    fn used() -> InUse {
        let mut used = InUse::new(&["10.96.0.0/16".parse().expect("a range")], 30000..=32767);
        let subset = json!({"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 6443}]});
        used.add_servers(&object(json!({"subsets": [subset]})));
        used.add_node(&object(json!({"spec": {"podCIDR": "10.244.0.0/24"}, "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.2"}, {"type": "ExternalIP", "address": "2001:db8::2"},
            {"type": "Hostname", "address": "two"}]}})));
        used
    }

    /// At port 80, and one more.
    fn service(ips: &[&str], port: u16) -> Object {
        of_protocol(ips, port, "TCP")
    }

    fn of_protocol(ips: &[&str], port: u16, protocol: &str) -> Object {
        object(json!({"metadata": {"namespace": "mine", "name": "s"},
            "spec": {"externalIPs": ips, "ports": [{"port": 80}, {"port": port, "protocol": protocol}]}}))
    }

    #[test]
    fn no_service_takes_what_the_cluster_uses_itself() {
        let tcp = [
            ("10.96.0.10", 53),
            ("10.244.0.2", 53),
            ("192.0.2.1", 6443),
            ("192.0.2.2", 6443),
            ("192.0.2.2", 10250),
            ("192.0.2.2", 10249),
            ("192.0.2.2", 10256),
            ("2001:db8::2", 10250),
            ("192.0.2.1", 10250),
            ("192.0.2.1", 2379),
            ("192.0.2.2", 30080),
            ("::ffff:192.0.2.1", 6443),
            // By way of a translator.
            ("64:ff9b::a60:1", 443),
            ("64:ff9b::c000:202", 10250),
            ("255.255.255.255", 443),
            ("239.1.2.3", 443),
        ];
        let udp = [("192.0.2.2", 8472), ("2001:db8::2", 8472), ("192.0.2.1", 8472)];
        for ((ip, port), protocol) in tcp.map(|at| (at, "TCP")).into_iter().chain(udp.map(|at| (at, "UDP"))) {
            let errors = check(&of_protocol(&["203.0.113.9", ip], port, protocol), None, &used());
            assert_eq!(errors.len(), 1, "{ip}:{port} {errors:?}");
            assert_eq!(errors[0].field, "spec.externalIPs[1]");
        }
    }

    #[test]
    fn other_addresses_and_other_ports_of_nodes_are_free_and_what_stands_may_stay() {
        for (ip, port) in [("203.0.113.9", 6443), ("203.0.113.9", 30080), ("192.0.2.1", 443), ("192.0.2.2", 8472), ("192.0.2.2", 2379)] {
            assert_eq!(check(&service(&[ip], port), None, &used()), Vec::new(), "{ip}:{port}");
        }
        assert_eq!(check(&of_protocol(&["203.0.113.9"], 8472, "UDP"), None, &used()), Vec::new());
        let old = service(&["10.96.0.10", "192.0.2.1"], 6443);
        assert_eq!(check(&old, Some(&old), &used()), Vec::new());
        assert_eq!(check(&service(&["192.0.2.1"], 6443), Some(&service(&["192.0.2.1"], 81)), &used()).len(), 1, "a new port");
        let own = object(json!({"spec": {"externalIPs": ["192.0.2.2"], "ports": [{"port": 30080, "nodePort": 30080}]}}));
        assert_eq!(check(&own, None, &used()), Vec::new(), "its own node port");
    }

    /// What is in use when `mine` asks, and another namespace has a Service.
    fn beside(theirs: Value, mine: &Object) -> InUse {
        let mut used = used();
        let asked: BTreeSet<_> = external_ips(mine).into_iter().flatten().chain(balancer_ip(mine)).collect();
        used.add_service(&object(theirs), &asked);
        used
    }

    #[test]
    fn what_a_service_of_another_namespace_has_is_its_own() {
        let held = |spec: Value, status: Value| json!({"metadata": {"namespace": "theirs", "name": "web"}, "spec": spec, "status": status});
        let ports = json!([{"port": 443, "protocol": "TCP"}]);
        let theirs = [
            held(json!({"externalIPs": ["203.0.113.9"], "ports": ports}), json!({})),
            held(json!({"type": "LoadBalancer", "loadBalancerIP": "203.0.113.9", "ports": ports}), json!({})),
            held(json!({"type": "LoadBalancer", "ports": ports}), json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}})),
        ];
        for theirs in theirs {
            let refused = |mine: &Object, old: Option<&Object>| check(mine, old, &beside(theirs.clone(), mine));
            let errors = refused(&service(&["203.0.113.9"], 443), None);
            assert_eq!(errors.len(), 1, "{theirs}");
            assert_eq!(errors[0].detail, "a Service of another namespace has port 443/TCP of this address");
            assert_eq!(refused(&service(&["64:ff9b::cb00:7109"], 443), None).len(), 1, "the same, written otherwise");
            for free in [service(&["203.0.113.9"], 444), of_protocol(&["203.0.113.9"], 443, "UDP"), service(&["203.0.113.10"], 443)] {
                assert_eq!(refused(&free, None), Vec::new());
            }
            let stands = service(&["203.0.113.9"], 443);
            assert_eq!(refused(&stands, Some(&stands)), Vec::new(), "what is stored stays");
        }
    }

    #[test]
    fn a_load_balancer_asks_for_no_external_address_of_another_namespace() {
        let asks = object(json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": "203.0.113.9", "ports": [{"port": 443}]}}));
        let has = |spec: Value| check(&asks, None, &beside(json!({"metadata": {"namespace": "theirs", "name": "web"}, "spec": spec}), &asks));
        let errors = has(json!({"externalIPs": ["203.0.113.9"], "ports": [{"port": 443}]}));
        assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), ["spec.loadBalancerIP"]);
        assert_eq!(has(json!({"type": "LoadBalancer", "loadBalancerIP": "203.0.113.9", "ports": [{"port": 443}]})), Vec::new());
        assert_eq!(has(json!({"externalIPs": ["203.0.113.9"], "ports": [{"port": 80}]})), Vec::new());
    }
}
