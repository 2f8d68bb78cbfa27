//! Health as load balancers ask for it: of the proxy itself (`/healthz` and `/livez` at port 10256), and at the health-check
//! node port of each Service with `externalTrafficPolicy: Local`, whether this node has endpoints of it; and beside it, for those on the
//! node, what the proxy counts and how it works (port 10249 of the loopback).
//!
//! Paths, bodies and codes are upstream's (`pkg/proxy/healthcheck`).

mod checks;
mod document;
mod plain;
mod proxy;
mod server;
mod status;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use troupe_api::{meta::ObjectKey, metrics::Collect};

use self::{checks::HealthChecks, server::Server};
pub use self::{plain::PlainHealth, status::PATHS};
use crate::{
    runtime::{
        cache::Lister,
        events::EventRecorder,
        host::UnitAddr,
        system::{System, TaskHandle},
        unit::Policy,
    },
    zpages::{Asked, Zpages},
};

/// What the proxy counts of those who ask.
pub static COLLECTORS: [&dyn Collect; 2] = [&proxy::HEALTHZ, &proxy::LIVEZ];

const HEALTH: (&str, &str) = ("health is", "--proxy-healthz-bind-address");
const METRICS: (&str, &str) = ("metrics are", "--proxy-metrics-bind-address");

/// Between two tries to listen, as upstream.
const RETRY: Duration = Duration::from_secs(5);

/// What health is told from.
#[derive(Clone)]
pub struct HealthOptions {
    pub node_name: String,
    /// Where the proxy's own health is told; `None` nowhere.
    pub bind_address: Option<SocketAddr>,
    /// Where its metrics and its mode are told; `None` nowhere.
    pub metrics_bind_address: Option<SocketAddr>,
    /// What is told beside its metrics.
    pub zpages: Arc<Zpages>,
    /// Where health-check node ports listen: all addresses of the node.
    pub listen: IpAddr,
    pub services: Lister<Service>,
    pub slices: Lister<EndpointSlice>,
    pub nodes: Lister<Node>,
    /// Tells of ports that cannot be listened on.
    pub events: Option<EventRecorder>,
}

/// Running servers.
pub struct ProxyHealth {
    _checks: UnitAddr<HealthChecks>,
    _own: [Option<TaskHandle>; 2],
}

impl ProxyHealth {
    /// Starts serving. A port that is taken is told, and tried again.
    pub fn start(options: HealthOptions, system: &System) -> Self {
        let own = options.bind_address.map(|address| {
            let (nodes, node, clock) = (options.nodes.clone(), ObjectKey::cluster(options.node_name.as_str()), system.clock().clone());
            let answer: server::Answer = Arc::new(move |asked: &Asked<'_>| {
                proxy::answer(asked.path, nodes.get(&node).map(|node| node.object.clone()).as_deref(), clock.now())
            });
            system.spawn_task("proxy-health", move || keep(HEALTH, address, answer.clone()))
        });
        let metrics = options.metrics_bind_address.map(|address| {
            let zpages = options.zpages.clone();
            let answer: server::Answer = Arc::new(move |asked: &Asked<'_>| status::answer(asked, &zpages));
            system.spawn_task("proxy-metrics", move || keep(METRICS, address, answer.clone()))
        });
        let path = format!("{}/health-checks", super::Proxy::PATH);
        let checks = system.spawn(path, Policy::default(), move |_| HealthChecks::new(options.clone()));
        ProxyHealth { _checks: checks, _own: [own, metrics] }
    }
}

/// Serves what the proxy tells of itself for ever; `what` is told, and by which flag it has another place.
async fn keep((what, flag): (&'static str, &'static str), address: SocketAddr, answer: server::Answer) {
    let mut told = false;
    loop {
        match Server::start(address, answer.clone()) {
            Ok(_server) => return std::future::pending().await,
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::warn!(%address, %error, "the service proxy's {what} not told, will retry; {flag} names another place");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}
