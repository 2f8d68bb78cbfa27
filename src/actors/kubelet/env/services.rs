//! Environment variables that tell of services (`FOO_SERVICE_HOST`, docker links).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use troupe_api::meta::ObjectKey;

use crate::runtime::cache::Lister;

/// The services that pods of a namespace may be told of: its own and `default/kubernetes`. Those of others may be very many, and are not decoded.
pub fn seen_from(services: &Lister<Service>, namespace: &str) -> Vec<Arc<Service>> {
    let own = services.select_stored(namespace, |_| true);
    let master = services.stored(&ObjectKey::new("default", "kubernetes")).filter(|_| namespace != "default");
    own.iter().chain(&master).filter_map(|stored| Lister::decode_once(stored)).collect()
}

/// The variables of the services a pod sees: its namespace's when links are enabled, and always `default/kubernetes`.
pub fn service_variables<'a>(services: impl IntoIterator<Item = &'a Service>, namespace: &str, links: bool) -> Vec<(String, String)> {
    let is_master =
        |service: &Service| service.metadata.namespace.as_deref() == Some("default") && service.metadata.name.as_deref() == Some("kubernetes");
    let mut seen: Vec<&Service> = services.into_iter().filter(|service| has_cluster_ip(service)).collect();
    seen.retain(|service| is_master(service) || (links && service.metadata.namespace.as_deref() == Some(namespace)));
    // A service of the pod's own namespace hides the master of the same name.
    let hidden = seen.iter().any(|s| !is_master(s) && s.metadata.name.as_deref() == Some("kubernetes"));
    seen.retain(|service| !(hidden && is_master(service)));
    seen.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    seen.into_iter().flat_map(variables).collect()
}

fn has_cluster_ip(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    ip.is_some_and(|ip| !ip.is_empty() && ip != "None")
}

fn variables(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let name = service.metadata.name.as_deref().unwrap_or_default().to_uppercase().replace('-', "_");
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let shown = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let mut all = vec![(format!("{name}_SERVICE_HOST"), ip.to_owned())];
    let ports = spec.ports.as_deref().unwrap_or_default();
    if let Some(first) = ports.first() {
        all.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
    }
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|text| !text.is_empty()) {
            all.push((format!("{name}_SERVICE_PORT_{}", port_name.to_uppercase().replace('-', "_")), port.port.to_string()));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{shown}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            all.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
        all.push((prefix.clone(), url));
        all.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        all.push((format!("{prefix}_PORT"), port.port.to_string()));
        all.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    all
}
