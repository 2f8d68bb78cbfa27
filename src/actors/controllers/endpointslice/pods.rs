//! What endpoints show of pods: it is read once of each version of a pod, however often a Service with many pods is looked at.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use parking_lot::Mutex;
use troupe_addresses::is_unicast;
use troupe_api::{
    meta::{ObjectKey, Revision},
    stored::StoredObject,
};
use troupe_net::iptables::Family;

use super::ports::{NamedPorts, ServesPorts};
use crate::{
    controllers::pods::{is_finished, is_ready},
    runtime::cache::Cache,
};

/// A pod as endpoints show it.
#[derive(Debug, PartialEq, Eq)]
pub struct EndpointPod {
    name: Option<Box<str>>,
    namespace: Option<Box<str>>,
    pub uid: Option<Box<str>>,
    v4: Option<Box<str>>,
    v6: Option<Box<str>>,
    /// That of its first address.
    pub family: Option<Family>,
    pub is_finished: bool,
    pub is_terminating: bool,
    pub is_ready: bool,
    pub node: Option<Box<str>>,
    hostname: Option<Box<str>>,
    subdomain: Option<Box<str>>,
    ports: Box<[NamedPort]>,
}

/// A name, a protocol and a number.
type NamedPort = (Box<str>, Box<str>, i32);

impl EndpointPod {
    pub fn of(pod: &Pod) -> Self {
        let (metadata, spec) = (&pod.metadata, pod.spec.as_ref());
        let ports = pod.named_ports().into_iter().map(|((name, protocol), number)| (name.into(), protocol.into(), number));
        let mut ports: Vec<NamedPort> = ports.collect();
        ports.sort_unstable();
        EndpointPod {
            name: boxed(metadata.name.as_ref()),
            namespace: boxed(metadata.namespace.as_ref()),
            uid: boxed(metadata.uid.as_ref()),
            v4: pod_address(pod, Family::V4).map(Into::into),
            v6: pod_address(pod, Family::V6).map(Into::into),
            family: first_family(pod),
            is_finished: is_finished(pod),
            is_terminating: metadata.deletion_timestamp.is_some(),
            is_ready: is_ready(pod),
            node: boxed(spec.and_then(|spec| spec.node_name.as_ref())),
            hostname: boxed(spec.and_then(|spec| spec.hostname.as_ref())),
            subdomain: boxed(spec.and_then(|spec| spec.subdomain.as_ref())),
            ports: ports.into(),
        }
    }

    /// Its address of a family.
    pub fn address(&self, family: Family) -> Option<&str> {
        match family {
            Family::V4 => self.v4.as_deref(),
            Family::V6 => self.v6.as_deref(),
        }
    }

    /// What an endpoint's `targetRef` says about it.
    pub fn target(&self) -> ObjectReference {
        let owned = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        ObjectReference {
            kind: Some("Pod".into()),
            name: owned(&self.name),
            namespace: owned(&self.namespace),
            uid: owned(&self.uid),
            ..ObjectReference::default()
        }
    }

    /// One whose subdomain names the Service has a DNS name of its own.
    pub fn hostname(&self, service: &Service) -> Option<String> {
        let (name, namespace) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref());
        let same = self.subdomain.as_deref() == name && self.namespace.as_deref() == namespace;
        self.hostname.as_deref().filter(|hostname| same && !hostname.is_empty()).map(str::to_owned)
    }
}

impl ServesPorts for EndpointPod {
    fn named_ports(&self) -> NamedPorts<'_> {
        self.ports.iter().map(|(name, protocol, number)| ((&**name, &**protocol), *number)).collect()
    }
}

fn boxed(text: Option<&String>) -> Option<Box<str>> {
    text.map(|text| text.as_str().into())
}

/// The family of a pod's first address.
fn first_family(pod: &Pod) -> Option<Family> {
    pod.status.as_ref()?.pod_ip.as_deref()?.parse::<IpAddr>().ok().map(Family::of)
}

/// The pod's address of a family, if it is one that a pod can have.
fn pod_address(pod: &Pod, family: Family) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).chain(status.pod_ip.as_deref());
    all.into_iter().find(|ip| ip.parse().is_ok_and(|ip| family.has(ip) && is_unicast(ip))).map(str::to_owned)
}

/// A version of a pod that was read.
#[derive(Debug)]
struct Read {
    key: ObjectKey,
    revision: Revision,
    pod: Arc<EndpointPod>,
}

/// What was read of the pods of large Services when they were looked at last. Whatever it holds, [`EndpointPods::read`] tells what the pods are
/// now: a version is what it is.
#[derive(Debug, Default)]
pub struct EndpointPods {
    /// By Service, in the order of their keys.
    known: Mutex<HashMap<ObjectKey, Vec<Read>>>,
}

impl EndpointPods {
    /// The pods of smaller Services are decoded each time.
    const FEW: usize = 100;
    /// Of no more pods than this together something is kept, at some 500 bytes each.
    const MOST: usize = 20_000;

    /// The pods of a Service, which are in the order of their keys. What does not decode is left out.
    pub fn read(&self, service: &ObjectKey, pods: &[Arc<StoredObject>]) -> Vec<Arc<EndpointPod>> {
        let mut before = self.known.lock().remove(service).unwrap_or_default().into_iter().peekable();
        let mut read = Vec::with_capacity(pods.len());
        for stored in pods {
            while before.next_if(|old| old.key < stored.key).is_some() {}
            let same = before.next_if(|old| old.key == stored.key && old.revision == stored.revision);
            let decoded = || -> Option<Read> {
                let pod = Cache::<Pod>::decode(stored)?;
                Some(Read { key: stored.key.clone(), revision: stored.revision, pod: Arc::new(EndpointPod::of(&pod)) })
            };
            read.extend(same.or_else(decoded));
        }
        let pods = read.iter().map(|read| read.pod.clone()).collect();
        self.keep(service, read);
        pods
    }

    /// A Service has no pods any more that concern anybody.
    pub fn forget(&self, service: &ObjectKey) {
        self.known.lock().remove(service);
    }

    fn keep(&self, service: &ObjectKey, read: Vec<Read>) {
        if read.len() < Self::FEW || read.len() > Self::MOST {
            return;
        }
        let mut known = self.known.lock();
        // Those that are looked at again are read again.
        let others: usize = known.values().map(Vec::len).sum();
        if others + read.len() > Self::MOST {
            known.clear();
        }
        known.insert(service.clone(), read);
    }
}

/// The zones of the pods' nodes, by the nodes' names.
pub fn zones(pods: &[Arc<EndpointPod>], zone_of: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let mut zones: BTreeMap<&str, Option<String>> = BTreeMap::new();
    for node in pods.iter().filter_map(|pod| pod.node.as_deref()) {
        zones.entry(node).or_insert_with(|| zone_of(node));
    }
    zones.into_iter().filter_map(|(node, zone)| Some((node.to_owned(), zone?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use troupe_api::{decoding::decoded_here, meta::Object};

    use super::*;

    fn stored(number: usize, revision: u64, phase: &str) -> Arc<StoredObject> {
        let tree = json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": format!("p{number:04}"), "namespace": "n", "uid": format!("u{number}")},
            "spec": {"containers": [{"name": "c"}]}, "status": {"phase": phase}});
        let stored = StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed");
        Arc::new(stored.at_revision(Revision(revision)))
    }

    fn phases(pods: &[Arc<EndpointPod>]) -> Vec<(&str, bool)> {
        pods.iter().map(|pod| (pod.name.as_deref().unwrap_or_default(), pod.is_finished)).collect()
    }

    #[test]
    fn only_versions_that_are_new_are_decoded() {
        let (known, service) = (EndpointPods::default(), ObjectKey::new("n", "web"));
        let mut pods: Vec<Arc<StoredObject>> = (0..300).map(|number| stored(number, 10, "Running")).collect();
        assert_eq!(known.read(&service, &pods).len(), 300);
        let before = decoded_here().objects;
        // One is another version, one is gone, and one came.
        pods[7] = stored(7, 11, "Failed");
        drop(pods.remove(100));
        pods.push(stored(300, 12, "Running"));
        let read = known.read(&service, &pods);
        assert_eq!(decoded_here().objects - before, 2);
        let expected: Vec<Arc<EndpointPod>> = EndpointPods::default().read(&service, &pods);
        assert_eq!(read, expected, "as if all were read now");
        assert_eq!(phases(&read)[7], ("p0007", true));
        assert_eq!(read.iter().filter(|pod| pod.is_finished).count(), 1);
        known.forget(&service);
        assert!(known.known.lock().is_empty());
    }

    #[test]
    fn little_is_kept_of_small_services_and_of_very_many_pods() {
        let known = EndpointPods::default();
        let few: Vec<Arc<StoredObject>> = (0..EndpointPods::FEW - 1).map(|number| stored(number, 10, "Running")).collect();
        assert_eq!(known.read(&ObjectKey::new("n", "small"), &few).len(), few.len());
        assert!(known.known.lock().is_empty());
        let kept = |number: usize| Read {
            key: ObjectKey::new("n", format!("p{number}")),
            revision: Revision(1),
            pod: Arc::new(EndpointPod::of(&Pod::default())),
        };
        for service in ["one", "two", "three"] {
            known.keep(&ObjectKey::new("n", service), (0..EndpointPods::MOST / 2).map(kept).collect());
            assert!(known.known.lock().values().map(Vec::len).sum::<usize>() <= EndpointPods::MOST);
        }
        assert!(known.known.lock().contains_key(&ObjectKey::new("n", "three")));
    }

    #[test]
    fn a_pod_is_read_as_it_is() {
        let tree = |status: Value| {
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": "a", "hostname": "h", "subdomain": "web", "containers": [{"name": "c", "ports": [
                    {"name": "http", "containerPort": 80}, {"name": "http", "containerPort": 81}, {"containerPort": 82}]}]}, "status": status})
        };
        let pod = |status: Value| EndpointPod::of(&serde_json::from_value::<Pod>(tree(status)).expect("a pod"));
        let dual = pod(json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}));
        assert_eq!((dual.address(Family::V4), dual.address(Family::V6), dual.family), (Some("10.0.0.1"), Some("fd00::1"), Some(Family::V4)));
        assert_eq!((dual.is_finished, dual.is_terminating, dual.is_ready, dual.node.as_deref()), (false, true, false, Some("a")));
        assert_eq!(dual.named_ports(), NamedPorts::from([(("http", "TCP"), 80)]));
        let service = |name: &str| serde_json::from_value::<Service>(json!({"metadata": {"name": name, "namespace": "n"}})).expect("a service");
        assert_eq!((dual.hostname(&service("web")), dual.hostname(&service("other"))), (Some("h".to_owned()), None));
        assert_eq!(json!(dual.target()), json!({"kind": "Pod", "name": "p", "namespace": "n", "uid": "u"}));
        let ended = pod(json!({"phase": "Succeeded", "conditions": [{"type": "Ready", "status": "True"}]}));
        assert_eq!((ended.address(Family::V4), ended.family, ended.is_finished, ended.is_ready), (None, None, true, true));
        let zones = zones(&[Arc::new(dual), Arc::new(ended)], |node| Some(format!("zone of {node}")));
        assert_eq!(zones, BTreeMap::from([("a".to_owned(), "zone of a".to_owned())]));
    }
}
