//! To which addresses no domain name leads on this node, whatever a DNS server tells: those of nodes, Services, API servers and DNS servers, from
//! their objects. Followed once a policy that is about a pod of this node has a domain name.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ipnetwork::IpNetwork;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
};
use parking_lot::RwLock;
use troupe_api::{
    meta::{Cause, ObjectKey},
    projection::MetaProjection,
};
use troupe_net::dns::cluster_addresses::{ClusterAddresses, Source, SourceKind, is_of_servers};

use super::Followed;
use crate::runtime::cache::{Lister, Subscription};

/// The label that names the Service of a slice.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// How much is known of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It will be soon.
    Waiting,
    /// It takes long: until then no name leads anywhere.
    Late,
    Whole,
}

/// See the module.
pub struct Inside {
    known: Arc<RwLock<ClusterAddresses>>,
    is_late: AtomicBool,
    is_whole: Arc<AtomicBool>,
    nodes: Subscription<Node>,
    services: Subscription<Service>,
    slices: Subscription<EndpointSlice>,
    ranges: Subscription<ServiceCIDR>,
}

impl Inside {
    /// Follows what there is; `fixed` are the ranges of all pods. `touched` hears when something changes after all is known.
    pub fn new(followed: &Followed, fixed: &[IpNetwork], touched: impl Fn(&Cause) + Send + Sync + 'static) -> Self {
        let mut known = ClusterAddresses::default();
        known.set(Source::new(SourceKind::Pods, ""), fixed.iter().map(IpNetwork::to_string));
        let (known, is_whole) = (Arc::new(RwLock::new(known)), Arc::<AtomicBool>::default());
        let (target, whole) = (known.clone(), is_whole.clone());
        let tell = Arc::new(move |source: Source, told: Vec<String>, cause: &Cause| {
            if target.write().set(source, told) && whole.load(Ordering::Acquire) {
                touched(cause);
            }
        });
        let told = tell.clone();
        let nodes = followed.nodes.subscribe(move |change| {
            let of = change.after().map(|node| of_node(node)).unwrap_or_default();
            told(source(SourceKind::Node, &change.key), of, &change.cause);
        });
        let told = tell.clone();
        let services = followed.services.subscribe(move |change| {
            // There may be very many, and most have none.
            let service = change.stored_after().and_then(|stored| Lister::<Service>::decode_once(stored));
            told(source(SourceKind::Service, &change.key), service.map(|service| of_service(&service)).unwrap_or_default(), &change.cause);
        });
        let told = tell.clone();
        let slices = followed.slices.subscribe(move |change| {
            if !change.meta_before().is_some_and(is_of_server) && !change.meta_after().is_some_and(is_of_server) {
                return;
            }
            let slice = change.after().filter(|_| change.meta_after().is_some_and(is_of_server));
            told(source(SourceKind::Servers, &change.key), slice.map(|slice| of_slice(slice)).unwrap_or_default(), &change.cause);
        });
        let ranges = followed.ranges.subscribe(move |change| {
            let of = change.after().map(|range| of_range(range)).unwrap_or_default();
            tell(source(SourceKind::ServiceRange, &change.key), of, &change.cause);
        });
        Inside { known, is_late: AtomicBool::new(false), is_whole, nodes, services, slices, ranges }
    }

    /// Resolves when everything is known; somebody awaits it, and says so with [`Self::set_whole`].
    pub fn filled(&self) -> impl Future<Output = ()> + Send + use<> {
        let (nodes, services) = (self.nodes.filled(), self.services.filled());
        let (slices, ranges) = (self.slices.filled(), self.ranges.filled());
        async move {
            nodes.await;
            services.await;
            slices.await;
            ranges.await;
        }
    }

    /// Everything is known from now on.
    pub fn set_whole(&self) {
        self.is_whole.store(true, Ordering::Release);
    }

    /// Nobody waits for the rest any longer.
    pub fn set_late(&self) {
        self.is_late.store(true, Ordering::Release);
    }

    pub fn knowledge(&self) -> Knowledge {
        match (self.is_whole.load(Ordering::Acquire), self.is_late.load(Ordering::Acquire)) {
            (true, _) => Knowledge::Whole,
            (false, true) => Knowledge::Late,
            (false, false) => Knowledge::Waiting,
        }
    }

    /// Why no domain name leads to an address; `None` where one may.
    pub fn refuses(&self, ip: IpAddr) -> Option<String> {
        self.known.read().refuses(ip)
    }
}

fn source(kind: SourceKind, key: &ObjectKey) -> Source {
    Source::new(kind, key.to_string())
}

fn is_of_server(slice: &MetaProjection) -> bool {
    slice.labels.get(SERVICE_LABEL).is_some_and(|service| is_of_servers(&slice.namespace, service))
}

/// What a node tells of: its addresses, and the ranges of its pods.
pub fn of_node(node: &Node) -> Vec<String> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten()).map(|address| address.address.clone());
    let ranges = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr)).cloned();
    addresses.chain(ranges).collect()
}

/// The external addresses of a Service, and those of its load balancers.
pub fn of_service(service: &Service) -> Vec<String> {
    let external = service.spec.iter().flat_map(|spec| spec.external_ips.iter().flatten()).cloned();
    let balancers = service.status.iter().flat_map(|status| &status.load_balancer).flat_map(|balancer| balancer.ingress.iter().flatten());
    external.chain(balancers.filter_map(|ingress| ingress.ip.clone())).collect()
}

/// The addresses of a slice's endpoints.
pub fn of_slice(slice: &EndpointSlice) -> Vec<String> {
    slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect()
}

/// The ranges of a ServiceCIDR, Ready or not.
pub fn of_range(range: &ServiceCIDR) -> Vec<String> {
    range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_tell_all_their_addresses() {
        let node = json!({"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00::/64"]}, "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.2"}, {"type": "ExternalIP", "address": "198.51.100.2"}, {"type": "Hostname", "address": "two"}]}});
        let told = of_node(&serde_json::from_value(node).expect("a node"));
        assert_eq!(told, ["192.0.2.2", "198.51.100.2", "two", "10.244.1.0/24", "fd00::/64", "10.244.1.0/24"]);
        let service = json!({"spec": {"clusterIP": "10.96.0.9", "externalIPs": ["198.51.100.20"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}, {"hostname": "lb.example.com"}]}}});
        assert_eq!(of_service(&serde_json::from_value(service).expect("a service")), ["198.51.100.20", "203.0.113.9"]);
        let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}, {"addresses": ["192.0.2.3"]}]});
        assert_eq!(of_slice(&serde_json::from_value(slice).expect("a slice")), ["192.0.2.1", "192.0.2.3"]);
        let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00:10:96::/112"]}});
        assert_eq!(of_range(&serde_json::from_value(range).expect("a range")), ["10.96.0.0/16", "fd00:10:96::/112"]);
    }
}
