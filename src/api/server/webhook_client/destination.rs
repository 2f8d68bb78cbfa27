//! Where a webhook is: the addresses behind a URL or a Service.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use tokio::net::lookup_host;
use troupe_api::{
    meta::{GroupResource, ObjectKey},
    resources::webhook_config::Address,
    service::Listers,
    stored::KubeObject,
};

use crate::backends::{
    locate::{self, Wanted},
    may_reach,
};

/// The host and port to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// An IP or a name.
    pub host: String,
    pub port: u16,
}

/// Finds the host of an address: of a Service a pod that is ready behind it, or what else it stands for.
///
/// # Errors
/// In upstream's words, why there is none.
pub fn find(address: &Address, listers: &dyn Listers) -> Result<Destination, String> {
    match address {
        Address::Url(url) => {
            let url: http::Uri = url.parse().map_err(|error| format!("Unparsable URL: {error}"))?;
            let host = url.host().ok_or("webhook configuration must have either service or URL")?;
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Ok(Destination { host, port: url.port_u16().unwrap_or(443) })
        }
        Address::Service { namespace, name, port, .. } => of_service(listers, namespace, name, *port),
    }
}

fn of_service(listers: &dyn Listers, namespace: &str, name: &str, port: u16) -> Result<Destination, String> {
    let service = read::<Service>(listers, "services", namespace, name).ok_or_else(|| format!("service {name:?} not found"))?;
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Ok(Destination { host: spec.external_name.unwrap_or_default(), port });
    }
    let port_name = locate::port_name(&service, i32::from(port), name).map_err(|status| status.message)?;
    let none = || format!("no endpoints available for service {name:?}");
    let endpoints = read::<Endpoints>(listers, "endpoints", namespace, name).ok_or_else(none)?;
    let is_pod = |name: &str, ip: &str| {
        let pod = read::<Pod>(listers, "pods", namespace, name);
        pod.is_some_and(|pod| locate::pod_ips(&pod).any(|known| known == ip))
    };
    let wanted = Wanted { scheme: "https", name, port: &port_name };
    if let Ok(backend) = locate::of_endpoints(&wanted, &port_name, &endpoints, is_pod, name) {
        return Ok(Destination { host: backend.address.host, port: backend.address.port });
    }
    // What is behind it is no pod: only the service proxy leads there.
    let is_ready = endpoints.subsets.iter().flatten().any(|subset| subset.addresses.as_ref().is_some_and(|addresses| !addresses.is_empty()));
    match spec.cluster_ip.filter(|ip| is_ready && ip.parse::<IpAddr>().is_ok()) {
        Some(ip) => Ok(Destination { host: ip, port }),
        None => Err(none()),
    }
}

fn read<K: KubeObject>(listers: &dyn Listers, plural: &str, namespace: &str, name: &str) -> Option<std::sync::Arc<K>> {
    listers.get(&GroupResource::new("", plural), &ObjectKey::new(namespace, name))?.typed::<K>().ok()
}

/// The addresses of a host that this server may connect to. A name may lead anywhere, so what it resolves to is judged.
///
/// # Errors
/// As a client that dials tells it.
pub async fn resolve(destination: &Destination, loopback: bool) -> Result<Vec<SocketAddr>, String> {
    let Destination { host, port } = destination;
    let found = lookup_host((host.as_str(), *port)).await.map_err(|error| format!("dial tcp: lookup {host}: {error}"))?;
    let allowed: Vec<SocketAddr> = found.filter(|found| may_reach(found.ip(), loopback)).collect();
    if allowed.is_empty() { Err(format!("dial tcp {host}:{port}: address not allowed")) } else { Ok(allowed) }
}
