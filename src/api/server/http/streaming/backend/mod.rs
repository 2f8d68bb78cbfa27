//! `pods/proxy`, `services/proxy` and `nodes/proxy`: requests of any method, and upgrades, passed on to what serves behind the object.
//!
//! `locate` finds the address, `rewrite` and `links` turn the backend's URLs into ones that lead through the proxy, and
//! `exchange` talks to it. Only addresses that a cluster may have are dialled: no loopback, no link-local.

mod exchange;
mod links;
pub(crate) mod passing;
mod rewrite;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    http::{Method, header},
};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use troupe_api::{
    meta::{GroupResource, ObjectKey},
    service::Target,
    status::Status,
    stored::KubeObject,
};

use super::places::Places;
use crate::{
    backends::locate::{self, Backend, Wanted},
    http::connect::ConnectRequest,
};

use rewrite::Rewrite;

/// Answers a proxy request.
///
/// # Errors
/// 400, 404 and 503 in upstream's words.
pub async fn serve(places: &Places, request: ConnectRequest) -> Result<HttpResponse, Status> {
    let backend = locate(places, &request.target)?.checked(places.loopback)?;
    let path = rewrite::backend_path(&request.proxy_path, request.request.path());
    let upgrade = passing::wants_upgrade(request.request.headers());
    if upgrade {
        return exchange::upgrade(places, request, backend, &path).await;
    }
    if path.is_empty() && matches!(*request.request.method(), Method::GET | Method::HEAD) {
        return Ok(with_slash(&request));
    }
    let rewrite = Rewrite::new(request.request.path(), &path, &backend.authority(), request.request.connection_info().host());
    exchange::forward(places, request, backend, &path, &rewrite).await
}

/// Relative links of a root page need its trailing slash.
fn with_slash(request: &ConnectRequest) -> HttpResponse {
    let query = request.request.query_string();
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    HttpResponse::MovedPermanently().insert_header((header::LOCATION, format!("{}/{query}", request.request.path()))).finish()
}

fn locate(places: &Places, target: &Target) -> Result<Backend, Status> {
    let name = &*target.name;
    match &*target.resource.plural {
        "pods" => {
            let wanted = Wanted::parse(name).ok_or_else(|| Status::bad_request(format!("invalid pod request {name:?}")))?;
            locate::of_pod(&wanted, &*read::<Pod>(places, "pods", target, wanted.name)?)
        }
        "services" => {
            let wanted = Wanted::parse(name).ok_or_else(|| Status::bad_request(format!("invalid service request {name:?}")))?;
            let port = match wanted.port.parse::<i32>() {
                Ok(number) => locate::port_name(&*read::<Service>(places, "services", target, wanted.name)?, number, wanted.name)?,
                Err(_) => wanted.port.to_owned(),
            };
            // Whoever asks for a service is told of services.
            let missing = |status: Status| if status.is_not_found() { Status::not_found(&target.group_resource(), wanted.name) } else { status };
            let endpoints = read::<Endpoints>(places, "endpoints", target, wanted.name).map_err(missing)?;
            let is_pod = |name: &str, ip: &str| {
                let found = read::<Pod>(places, "pods", target, name).ok();
                found.is_some_and(|pod| locate::pod_ips(&pod).any(|known| known == ip))
            };
            locate::of_endpoints(&wanted, &port, &endpoints, is_pod, name)
        }
        _ => {
            let wanted = Wanted::parse(name).ok_or_else(|| Status::bad_request(format!("invalid node request {name:?}")))?;
            locate::of_node(&wanted, places.kubelet(wanted.name)?)
        }
    }
}

fn read<K: KubeObject>(places: &Places, plural: &str, target: &Target, name: &str) -> Result<Arc<K>, Status> {
    let resource = GroupResource::new("", plural);
    let stored = places.listers.get(&resource, &ObjectKey::new(target.namespace.clone(), name));
    let stored = stored.ok_or_else(|| Status::not_found(&resource, name))?;
    stored.typed::<K>().map_err(Status::internal)
}
