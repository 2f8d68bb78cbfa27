//! Servers at the health-check node ports of Services.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix::Message;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::Family;

use super::{HealthOptions, RETRY, document::Document, server::Server};
use crate::{
    proxy::{index::SliceIndex, sync_state::State},
    runtime::{
        cache::{Lister, Subscription},
        controller::ReconcileContext,
        envelope::Reply,
        host::{On, Unit, UnitContext},
    },
    zpages::Asked,
};

/// A Service or one of its slices changed.
#[derive(Message)]
#[rtype(result = "()")]
struct Touched(ObjectKey);

/// What listens for one Service.
struct Check {
    port: u16,
    local: Arc<AtomicUsize>,
    /// `None` while the port cannot be had.
    server: Option<Server>,
}

/// The unit that has all of them.
pub struct HealthChecks {
    options: HealthOptions,
    index: Option<Arc<SliceIndex>>,
    subscription: Option<Subscription<Service>>,
    checks: BTreeMap<ObjectKey, Check>,
}

impl HealthChecks {
    pub fn new(options: HealthOptions) -> Self {
        HealthChecks { options, index: None, subscription: None, checks: BTreeMap::new() }
    }

    fn look(&mut self, key: &ObjectKey) {
        let stored = self.options.services.stored(key).filter(|stored| may_have_port(&stored.encoded()));
        let service = stored.and_then(|stored| Lister::<Service>::decode_once(&stored));
        let Some(port) = service.and_then(|service| check_port(&service)) else {
            self.checks.remove(key);
            return;
        };
        let slices = self.index.as_ref().map_or_else(Vec::new, |index| index.of(key));
        let count = local_endpoints(&slices, &self.options.node_name);
        if self.checks.get(key).is_none_or(|check| check.port != port) {
            // First the old port is given back.
            self.checks.remove(key);
            let local = Arc::new(AtomicUsize::new(count));
            let server = self.listen(key, port, &local);
            self.checks.insert(key.clone(), Check { port, local, server });
        }
        if let Some(check) = self.checks.get(key) {
            check.local.store(count, Ordering::Relaxed);
        }
    }

    fn listen(&self, key: &ObjectKey, port: u16, local: &Arc<AtomicUsize>) -> Option<Server> {
        match start(self.options.listen, key, port, local) {
            Ok(server) => Some(server),
            Err(error) => {
                let node = &self.options.node_name;
                tracing::warn!(service = %key, port, %error, "a health-check node port is not served, will retry");
                if let (Some(events), Some(service)) = (&self.options.events, self.options.services.get(key)) {
                    let message = format!("node {node} failed to start healthcheck \"{key}\" on port {port}: {error}");
                    events.warning(&ReconcileContext::reference(&*service.object), "FailedToStartServiceHealthcheck", message);
                }
                None
            }
        }
    }

    /// Tries the ports again that could not be had.
    fn retry(&mut self) {
        let listen = self.options.listen;
        for (key, check) in self.checks.iter_mut().filter(|(_, check)| check.server.is_none()) {
            check.server = start(listen, key, check.port, &check.local).ok();
        }
    }
}

fn start(listen: IpAddr, key: &ObjectKey, port: u16, local: &Arc<AtomicUsize>) -> std::io::Result<Server> {
    let (key, local) = (key.clone(), local.clone());
    let answer = move |_: &Asked<'_>| {
        let healthy = State::now().is_healthy(jiff::Timestamp::now());
        Some(Document::of_service(&key, local.load(Ordering::Relaxed), healthy))
    };
    Server::start(SocketAddr::new(listen, port), Arc::new(answer))
}

/// Whether it is worth decoding a Service to look for its port: next to none has one, and there are very many.
fn may_have_port(encoded: &[u8]) -> bool {
    const FIELD: &[u8] = b"\"healthCheckNodePort\"";
    encoded.windows(FIELD.len()).any(|window| window == FIELD)
}

/// The port at which load balancers ask for a Service, if they do.
fn check_port(service: &Service) -> Option<u16> {
    let spec = service.spec.as_ref()?;
    let asked = spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local");
    spec.health_check_node_port.filter(|_| asked).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// How many ready endpoints of a Service are on a node; a pod with addresses of both families counts once.
fn local_endpoints(slices: &[Arc<EndpointSlice>], node: &str) -> usize {
    Family::ALL.into_iter().map(|family| local_endpoints_of(slices, node, family)).max().unwrap_or_default()
}

fn local_endpoints_of(slices: &[Arc<EndpointSlice>], node: &str, family: Family) -> usize {
    let endpoints = slices.iter().filter(|slice| slice.address_type == family.name()).flat_map(|slice| slice.endpoints.iter().flatten());
    let here = endpoints.filter(|endpoint| {
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        ready && endpoint.node_name.as_deref() == Some(node)
    });
    let addresses: BTreeSet<IpAddr> = here.filter_map(|endpoint| endpoint.addresses.first()?.parse().ok()).collect();
    addresses.len()
}

impl Unit for HealthChecks {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (own, of_slices) = (cx.address(), cx.address());
        let index = SliceIndex::new(&self.options.slices, move |service, change| of_slices.wake(Touched(service), change.cause.clone()));
        let slices = index.filled();
        self.index = Some(Arc::new(index));
        let subscription = self.options.services.subscribe(move |change| own.wake(Touched(change.key.clone()), change.cause.clone()));
        let services = subscription.filled();
        self.subscription = Some(subscription);
        cx.spawn(async move {
            slices.await;
            services.await;
        });
        cx.every(RETRY, |unit, _| unit.retry());
    }

    fn observe(&self) -> Value {
        let ports: BTreeMap<String, u16> = self.checks.iter().map(|(key, check)| (key.to_string(), check.port)).collect();
        json!({"checks": ports, "waiting": self.checks.values().filter(|check| check.server.is_none()).count()})
    }
}

impl On<Touched> for HealthChecks {
    fn on(&mut self, Touched(key): Touched, _cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.look(&key);
        Reply::Now(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_balanced_services_with_the_local_policy_are_asked_for() {
        let port = |kind: &str, policy: &str| {
            let spec = json!({"type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": 32_000});
            check_port(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a service"))
        };
        assert_eq!((port("LoadBalancer", "Local"), port("LoadBalancer", "Cluster"), port("NodePort", "Local")), (Some(32_000), None, None));
    }

    #[test]
    fn a_service_with_a_port_is_decoded_and_one_whose_managers_name_the_field_alone_is_not() {
        let encoded = |spec: Value| serde_json::to_vec(&json!({"kind": "Service", "spec": spec})).expect("encodes");
        assert!(may_have_port(&encoded(json!({"healthCheckNodePort": 32_000}))));
        assert!(!may_have_port(&encoded(json!({"f:healthCheckNodePort": {}, "type": "ClusterIP"}))));
    }

    #[test]
    fn an_endpoint_counts_once_where_it_is_ready() {
        let slice = |endpoints: Value| {
            Arc::new(serde_json::from_value::<EndpointSlice>(json!({"addressType": "IPv4", "endpoints": endpoints})).expect("a slice"))
        };
        let one = json!({"addresses": ["10.0.0.1"], "nodeName": "here"});
        let ended = json!({"addresses": ["10.0.0.2"], "nodeName": "here", "conditions": {"ready": false}});
        let other = json!({"addresses": ["10.0.0.3"], "nodeName": "there"});
        let slices = [slice(json!([one, ended, other])), slice(json!([one]))];
        assert_eq!((local_endpoints(&slices, "here"), local_endpoints(&slices, "nowhere")), (1, 0));
    }
}
