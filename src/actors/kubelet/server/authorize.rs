//! Whether who asks the kubelet may: every path is a subresource of the node.

use hyper::{Method, Request};
use troupe_api::auth::Attributes;

use super::route::{subresources, verb};
use crate::serving::{Gate, Refused, identify};

/// What an authorizer is asked about an access to the kubelet.
fn attributes<'a>(node: &'a str, verb: &'a str, subresource: &'a str) -> Attributes<'a> {
    Attributes { verb, resource: "nodes", subresource, version: "v1", name: node, ..Attributes::default() }
}

/// Lets a request in that is authenticated and allowed to access the node so.
///
/// # Errors
/// 401 or 403 in upstream's words.
pub async fn admit<B>(request: &Request<B>, certificate: Option<&[u8]>, node: &str, gate: &dyn Gate) -> Result<(), Refused> {
    let user = identify(request, certificate, gate).await?;
    let (verb, wanted) = (verb(request.method()), subresources(request.uri().path()));
    for subresource in &wanted {
        if gate.allows(&user, &attributes(node, verb, subresource)).await {
            return Ok(());
        }
    }
    let text = format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n", user.name, wanted.join(" "));
    Err(Refused { code: 403, text })
}

/// Only these are served.
pub fn takes(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::POST | Method::HEAD)
}
