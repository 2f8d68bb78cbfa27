//! What repair finds wrong with addresses and node ports of Services, as events in upstream's words. Pure.

use std::{
    collections::{BTreeSet, HashSet},
    ops::RangeInclusive,
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use troupe_api::{
    meta::{Object, ObjectKey, time::format_time},
    stored::StoredObject,
};
use uuid::Uuid;

/// Who tells of addresses and of ports, by upstream's names.
const OF_ADDRESSES: &str = "ipallocator-repair-controller";
const OF_PORTS: &str = "portallocator-repair-controller";

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A Service has an address that is in no range.
    OutOfRange,
    /// A Service has an address that is not taken.
    NotAllocated,
    /// A Service has an address that is taken for one that does not have it.
    WrongReference,
    /// Two Services have the same address.
    Shared,
    /// An address is taken for something else than a Service.
    NoService,
    /// An address is taken for a Service that does not have it.
    NotHeld,
    /// An address is taken for a Service that is not there.
    Leaked,
}

/// A flaw of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    kind: &'static str,
    api_version: &'static str,
    key: ObjectKey,
    uid: String,
    reason: &'static str,
    pub message: String,
    component: &'static str,
}

impl Finding {
    /// A flaw of an address that a Service has.
    pub fn of_service(service: &StoredObject, ip: &str, family: &str, flaw: Flaw) -> Self {
        let (namespace, name) = (&service.key.namespace, &service.key.name);
        let (reason, message) = match flaw {
            Flaw::OutOfRange => {
                ("ClusterIPOutOfRange", format!("Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service"))
            }
            Flaw::Shared => {
                ("ClusterIPAlreadyAllocated", format!("Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service"))
            }
            Flaw::WrongReference => {
                ("ClusterIPNotAllocated", format!("the ClusterIP [{family}]: {ip} for Service {namespace}/{name} has a wrong reference; repairing"))
            }
            _ => ("ClusterIPNotAllocated", format!("Cluster IP [{family}]: {ip} is not allocated; repairing")),
        };
        Finding::about_service(service, reason, message, OF_ADDRESSES)
    }

    fn about_service(service: &StoredObject, reason: &'static str, message: String, component: &'static str) -> Self {
        let (key, uid) = (service.key.clone(), service.meta().uid.to_string());
        Finding { kind: "Service", api_version: "v1", key, uid, reason, message, component }
    }

    /// Flaws of the node ports that Services name (each with its Service's, see [`super::needs::named_ports`]). Of a port that several have
    /// the first in this order has it rightly. `unmarked` are those that were not taken in the bitmap.
    pub fn of_ports(holders: &[(Arc<StoredObject>, Vec<u16>)], range: &RangeInclusive<u16>, unmarked: &BTreeSet<u16>) -> Vec<Self> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for (service, ports) in holders {
            for port in ports {
                let (reason, message) = if !range.contains(port) {
                    let (first, last) = (range.start(), range.end());
                    ("PortOutOfRange", format!("Port {port} is not within the port range {first}-{last}; please recreate service"))
                } else if !seen.insert(*port) {
                    ("PortAlreadyAllocated", format!("Port {port} was assigned to multiple services; please recreate service"))
                } else if unmarked.contains(port) {
                    ("PortNotAllocated", format!("Port {port} is not allocated; repairing"))
                } else {
                    continue;
                };
                found.push(Finding::about_service(service, reason, message, OF_PORTS));
            }
        }
        found
    }

    /// A flaw of an address that is taken.
    pub fn of_address(address: &StoredObject, holder: Option<ObjectKey>, flaw: Flaw) -> Self {
        let ip = &address.key.name;
        let service = holder.map(|holder| holder.to_string()).unwrap_or_default();
        let (reason, message) = match flaw {
            Flaw::NotHeld => ("IPAddressWrongReference", format!("IPAddress: {ip} for Service {service} has a wrong reference; cleaning up")),
            Flaw::Leaked => ("IPAddressNotAllocated", format!("IPAddress: {ip} for Service {service} appears to have leaked: cleaning up")),
            _ => ("IPAddressNotAllocated", format!("IPAddress {ip} appears to have been modified, not referencing a Service: cleaning up")),
        };
        let (key, uid) = (address.key.clone(), address.meta().uid.to_string());
        Finding { kind: "IPAddress", api_version: "networking.k8s.io/v1", key, uid, reason, message, component: OF_ADDRESSES }
    }

    /// The event that tells it.
    pub fn event(&self, now: Timestamp) -> Value {
        let namespace = if self.key.namespace.is_empty() { "default" } else { &*self.key.namespace };
        // An IPv6 address is no part of a name.
        let (name, time) = (self.key.name.replace(':', "-"), format_time(now));
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("{}.{}", name.trim_matches('-'), Uuid::new_v4().simple()), "namespace": namespace},
            "involvedObject": {
                "apiVersion": self.api_version, "kind": self.kind, "name": &*self.key.name, "namespace": &*self.key.namespace, "uid": self.uid,
            },
            "type": "Warning", "reason": self.reason, "message": self.message, "count": 1,
            "firstTimestamp": time, "lastTimestamp": time, "source": {"component": self.component}, "reportingComponent": self.component,
        })
    }
}

/// The Service that an address is taken for; `None` where it is none.
pub fn parent(address: &Object) -> Option<ObjectKey> {
    let of = |field: &str| address.str(&["spec", "parentRef", field]);
    let is_service = of("group").is_empty() && of("resource") == "services";
    is_service.then(|| ObjectKey::new(of("namespace"), of("name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(value: Value) -> StoredObject {
        StoredObject::from_object(&Object::from_value(value).expect("a map")).expect("well formed")
    }

    #[test]
    fn events_say_what_upstream_says() {
        let service = stored(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "n", "uid": "u"}}));
        let finding = Finding::of_service(&service, "10.96.0.7", "IPv4", Flaw::NotAllocated);
        let event = finding.event(Timestamp::UNIX_EPOCH);
        assert_eq!(event["message"], "Cluster IP [IPv4]: 10.96.0.7 is not allocated; repairing");
        assert_eq!((&event["reason"], &event["metadata"]["namespace"]), (&json!("ClusterIPNotAllocated"), &json!("n")));
        assert_eq!(event["involvedObject"]["uid"], "u");
        let address = |parent: Value| {
            stored(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "fd00::1", "uid": "a"}, "spec": {"parentRef": parent},
            }))
        };
        let leaked = address(json!({"resource": "services", "namespace": "n", "name": "web"}));
        let holder = parent(&leaked.to_object());
        assert_eq!(holder, Some(ObjectKey::new("n", "web")));
        let finding = Finding::of_address(&leaked, holder, Flaw::Leaked);
        assert_eq!(finding.message, "IPAddress: fd00::1 for Service n/web appears to have leaked: cleaning up");
        let event = finding.event(Timestamp::UNIX_EPOCH);
        assert_eq!((&event["metadata"]["namespace"], &event["involvedObject"]["name"]), (&json!("default"), &json!("fd00::1")));
        assert!(!event["metadata"]["name"].as_str().expect("a name").contains(':'));
        assert_eq!(parent(&address(json!({"group": "x", "resource": "services", "name": "web"})).to_object()), None);
    }
    #[test]
    fn node_ports_are_told_of_as_upstream_tells_them() {
        let service =
            |name: &str| Arc::new(stored(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "n", "uid": name}})));
        let holders = [(service("a"), vec![30001, 30002]), (service("b"), vec![30001, 80]), (service("c"), vec![30003, 30003])];
        let found = Finding::of_ports(&holders, &(30000..=30009), &BTreeSet::from([30001, 30002]));
        let told: Vec<_> = found.iter().map(|finding| (&*finding.key.name, finding.reason, &*finding.message)).collect();
        let expected = [
            ("a", "PortNotAllocated", "Port 30001 is not allocated; repairing"),
            ("a", "PortNotAllocated", "Port 30002 is not allocated; repairing"),
            ("b", "PortAlreadyAllocated", "Port 30001 was assigned to multiple services; please recreate service"),
            ("b", "PortOutOfRange", "Port 80 is not within the port range 30000-30009; please recreate service"),
            ("c", "PortAlreadyAllocated", "Port 30003 was assigned to multiple services; please recreate service"),
        ];
        assert_eq!(told, expected);
        let event = found[0].event(Timestamp::UNIX_EPOCH);
        assert_eq!((&event["source"]["component"], &event["involvedObject"]["kind"]), (&json!(OF_PORTS), &json!("Service")));
    }
}
