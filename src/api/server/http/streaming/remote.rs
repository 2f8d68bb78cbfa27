//! `pods/exec`, `pods/attach` and `pods/portforward`: finds the place and picks the way of carrying bytes.

use actix_web::HttpResponse;
use troupe_api::status::Status;

use super::{channels, kind::StreamKind, places::Places, proxy, tunnel, upgrade::StreamPlace};
use crate::{backends::place, http::connect::ConnectRequest};

/// Answers an upgrade request.
///
/// # Errors
/// 400 and 404 in upstream's words; 500 when the kubelet cannot be reached.
pub async fn serve(places: &Places, request: ConnectRequest) -> Result<HttpResponse, Status> {
    let pod = places.pod(&request.target)?;
    let (namespace, name, subresource) = (&request.target.namespace, &request.target.name, &*request.target.subresource);
    let mut options = request.options.stream.clone();
    let path = if subresource == "portforward" {
        let ports = request.options.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        format!("/portForward/{namespace}/{name}{}", if ports.is_empty() { String::new() } else { format!("?port={ports}") })
    } else {
        let container = place::choose_container(&pod, &options.container)?;
        options = options.checked()?;
        format!("/{subresource}/{namespace}/{name}/{container}?{}", options.to_kubelet_query())
    };
    let node = place::node_name(&pod);
    if node.is_empty() {
        return Err(place::no_host(name));
    }
    let place = StreamPlace { dialer: places.dialer.clone(), kubelet: places.kubelet(node)?, path };
    match StreamKind::of(request.request.headers(), subresource)? {
        StreamKind::Channels => channels::serve(request, place, options).await,
        StreamKind::Tunnel(protocols) => tunnel::serve(request, place, &protocols).await,
        StreamKind::WebSocket => proxy::serve(request, place, "websocket").await,
        StreamKind::Spdy => proxy::serve(request, place, "SPDY/3.1").await,
    }
}
