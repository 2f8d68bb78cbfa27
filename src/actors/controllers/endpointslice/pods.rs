//! What endpoints show of pods: a Service may have thousands, and is looked at when any of them changes.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use troupe_addresses::is_unicast;
use troupe_api::projection::MetaProjection;
use troupe_net::iptables::Family;

use super::ports::{NamedPorts, ServesPorts};
use crate::{
    controllers::pods::{is_finished, is_ready, ready_condition},
    runtime::cache::Digest,
};

/// A pod as endpoints show it.
#[derive(Debug)]
pub struct EndpointPod {
    pub meta: Arc<MetaProjection>,
    v4: Option<Box<str>>,
    v6: Option<Box<str>>,
    /// That of its first address.
    pub family: Option<Family>,
    pub is_finished: bool,
    pub is_ready: bool,
    /// When its Ready condition became what it is.
    pub readiness_changed: Option<Timestamp>,
    pub node: Option<Box<str>>,
    hostname: Option<Box<str>>,
    subdomain: Option<Box<str>>,
    ports: Box<[NamedPort]>,
}

/// A name, a protocol and a number.
type NamedPort = (Box<str>, Box<str>, i32);

impl Digest<Pod> for EndpointPod {
    fn of(meta: &Arc<MetaProjection>, pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let ports = pod.named_ports().into_iter().map(|((name, protocol), number)| (name.into(), protocol.into(), number));
        let mut ports: Vec<NamedPort> = ports.collect();
        ports.sort_unstable();
        EndpointPod {
            meta: meta.clone(),
            v4: pod_address(pod, Family::V4).map(Into::into),
            v6: pod_address(pod, Family::V6).map(Into::into),
            family: first_family(pod),
            is_finished: is_finished(pod),
            is_ready: is_ready(pod),
            readiness_changed: ready_condition(pod).and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0),
            node: boxed(spec.and_then(|spec| spec.node_name.as_ref())),
            hostname: boxed(spec.and_then(|spec| spec.hostname.as_ref())),
            subdomain: boxed(spec.and_then(|spec| spec.subdomain.as_ref())),
            ports: ports.into(),
        }
    }
}

impl EndpointPod {
    /// It was told to go.
    pub fn is_terminating(&self) -> bool {
        self.meta.deletion_timestamp.is_some()
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
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        ObjectReference {
            kind: Some("Pod".into()),
            name: said(&self.meta.name),
            namespace: said(&self.meta.namespace),
            uid: said(&self.meta.uid),
            ..ObjectReference::default()
        }
    }

    /// One whose subdomain names the Service has a DNS name of its own.
    pub fn hostname(&self, service: &Service) -> Option<String> {
        let (name, namespace) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref());
        let same = self.subdomain.as_deref() == name && Some(&*self.meta.namespace) == namespace;
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

    use super::*;
    use crate::runtime::cache::digest_of;

    #[test]
    fn a_pod_is_read_as_it_is() {
        let tree = |status: Value| {
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": "a", "hostname": "h", "subdomain": "web", "containers": [{"name": "c", "ports": [
                    {"name": "http", "containerPort": 80}, {"name": "http", "containerPort": 81}, {"containerPort": 82}]}]}, "status": status})
        };
        let pod = |status: Value| digest_of::<Pod, EndpointPod>(&serde_json::from_value(tree(status)).expect("a pod"));
        let dual = pod(json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}));
        assert_eq!((dual.address(Family::V4), dual.address(Family::V6), dual.family), (Some("10.0.0.1"), Some("fd00::1"), Some(Family::V4)));
        assert_eq!((dual.is_finished, dual.is_terminating(), dual.is_ready, dual.node.as_deref()), (false, true, false, Some("a")));
        assert_eq!(dual.named_ports(), NamedPorts::from([(("http", "TCP"), 80)]));
        let service = |name: &str| serde_json::from_value::<Service>(json!({"metadata": {"name": name, "namespace": "n"}})).expect("a service");
        assert_eq!((dual.hostname(&service("web")), dual.hostname(&service("other"))), (Some("h".to_owned()), None));
        assert_eq!(json!(dual.target()), json!({"kind": "Pod", "name": "p", "namespace": "n", "uid": "u"}));
        let ended = pod(json!({"phase": "Succeeded", "conditions": [{"type": "Ready", "status": "True"}]}));
        assert_eq!((ended.address(Family::V4), ended.family, ended.is_finished, ended.is_ready), (None, None, true, true));
        let zones = zones(&[dual, ended], |node| Some(format!("zone of {node}")));
        assert_eq!(zones, BTreeMap::from([("a".to_owned(), "zone of a".to_owned())]));
    }
}
