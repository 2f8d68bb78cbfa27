//! External addresses that are no Service's to take.
//!
//! Every node catches packets for a Service's external addresses, also its own packets. So none of them may be an address that
//! the cluster uses itself: another Service's, a pod's, or one at whose port an API server or a kubelet listens. Upstream takes
//! any (CVE-2020-8554), and leaves it to an admission plugin to forbid all. Pure but for [`InUse::read`].

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;
use serde_json::Value;
use troupe_api::{
    meta::{GroupResource, Object, ObjectKey},
    service::Listers,
    status::FieldError,
};

/// The kubelet of nodes that do not tell their port.
const KUBELET_PORT: u64 = 10250;

/// What the cluster uses itself.
#[derive(Clone, Debug, Default)]
pub struct InUse {
    /// Ranges of Services' and of pods' addresses.
    pub ranges: Vec<IpNetwork>,
    /// Where API servers and kubelets listen.
    pub listening: BTreeSet<(IpAddr, u64)>,
}

impl InUse {
    /// As the cluster's objects tell it, beside the `service_ranges`.
    pub fn read(listers: &dyn Listers, service_ranges: &[IpNetwork]) -> Self {
        let mut used = InUse { ranges: service_ranges.to_vec(), ..InUse::default() };
        if let Some(servers) = listers.get(&GroupResource::new("", "endpoints"), &ObjectKey::new("default", "kubernetes")) {
            used.add_servers(&servers.to_object());
        }
        for node in listers.list(&GroupResource::new("", "nodes"), "") {
            used.add_node(&node.to_object());
        }
        used
    }

    fn add_servers(&mut self, endpoints: &Object) {
        for subset in endpoints.list(&["subsets"]) {
            let ports: Vec<u64> = entries(subset, "ports").filter_map(|port| port["port"].as_u64()).collect();
            for ip in entries(subset, "addresses").filter_map(|address| parse(address["ip"].as_str()?)) {
                self.listening.extend(ports.iter().map(|port| (ip, *port)));
            }
        }
    }

    fn add_node(&mut self, node: &Object) {
        let ranges = node.list(&["spec", "podCIDRs"]).iter().filter_map(Value::as_str).chain([node.str(&["spec", "podCIDR"])]);
        self.ranges.extend(ranges.filter_map(|range| range.parse::<IpNetwork>().ok()));
        let port = node.int(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(|port| u64::try_from(port).ok());
        let port = port.filter(|port| *port != 0).unwrap_or(KUBELET_PORT);
        let ips = node.list(&["status", "addresses"]).iter().filter_map(|address| parse(address["address"].as_str()?));
        self.listening.extend(ips.map(|ip| (ip, port)));
    }
}

/// What the Service `new` takes beyond `old` that is in use.
pub fn check(new: &Object, old: Option<&Object>, used: &InUse) -> Vec<FieldError> {
    let (before, ports_before) = old.map(|old| (addresses(old), ports(old))).unwrap_or_default();
    let (now, ports_now) = (addresses(new), ports(new));
    let mut errors = Vec::new();
    for (index, ip) in now.iter().enumerate() {
        let Some(ip) = ip else { continue };
        let field = || format!("spec.externalIPs[{index}]");
        let was_there = before.contains(&Some(*ip));
        if !was_there && used.ranges.iter().any(|range| range.contains(*ip)) {
            errors.push(FieldError::invalid(field(), ip.to_string(), "must not be in a range of the cluster's services or pods"));
        }
        let mut added = ports_now.iter().filter(|port| !was_there || !ports_before.contains(port));
        if let Some(port) = added.find(|port| used.listening.contains(&(*ip, **port))) {
            errors.push(FieldError::invalid(field(), ip.to_string(), format!("the cluster's own server listens at port {port} of this address")));
        }
    }
    errors
}

/// Whether it has external addresses at all.
pub fn has_any(service: &Object) -> bool {
    !service.list(&["spec", "externalIPs"]).is_empty()
}

fn addresses(service: &Object) -> Vec<Option<IpAddr>> {
    service.list(&["spec", "externalIPs"]).iter().map(|ip| parse(ip.as_str()?)).collect()
}

fn ports(service: &Object) -> BTreeSet<u64> {
    service.list(&["spec", "ports"]).iter().filter_map(|port| port["port"].as_u64()).collect()
}

fn entries<'a>(value: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    value[list].as_array().into_iter().flatten()
}

fn parse(text: &str) -> Option<IpAddr> {
    text.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    fn used() -> InUse {
        let mut used = InUse { ranges: vec!["10.96.0.0/16".parse().expect("a range")], ..InUse::default() };
        let subset = json!({"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 6443}]});
        used.add_servers(&object(json!({"subsets": [subset]})));
        used.add_node(&object(json!({"spec": {"podCIDR": "10.244.0.0/24"}, "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.2"}, {"type": "Hostname", "address": "two"}]}})));
        used
    }

    fn service(ips: &[&str], port: u16) -> Object {
        object(json!({"spec": {"externalIPs": ips, "ports": [{"port": 80}, {"port": port}]}}))
    }

    #[test]
    fn no_service_takes_what_the_cluster_uses_itself() {
        for (ip, port) in [("10.96.0.10", 53), ("10.244.0.2", 53), ("192.0.2.1", 6443), ("192.0.2.2", 10250), ("::ffff:192.0.2.1", 6443)] {
            let errors = check(&service(&["203.0.113.9", ip], port), None, &used());
            assert_eq!(errors.len(), 1, "{ip}:{port} {errors:?}");
            assert_eq!(errors[0].field, "spec.externalIPs[1]");
        }
    }

    #[test]
    fn other_addresses_and_other_ports_of_nodes_are_free_and_what_stands_may_stay() {
        for (ip, port) in [("203.0.113.9", 6443), ("192.0.2.1", 443), ("192.0.2.2", 6443)] {
            assert_eq!(check(&service(&[ip], port), None, &used()), Vec::new(), "{ip}:{port}");
        }
        let old = service(&["10.96.0.10", "192.0.2.1"], 6443);
        assert_eq!(check(&old, Some(&old), &used()), Vec::new());
        assert_eq!(check(&service(&["192.0.2.1"], 6443), Some(&service(&["192.0.2.1"], 81)), &used()).len(), 1, "a new port");
    }
}
