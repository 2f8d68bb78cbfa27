//! The seam of connect subresources: exec, attach, portforward, log and proxy take over the connection's bytes.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, dev::Payload, http::Method};
use futures::future::LocalBoxFuture;
use troupe_api::{
    meta::Cause,
    service::{Target, UserInfo},
    status::Status,
};

use super::connect_options::ConnectOptions;

/// Subresources that are connected to, not read or written as objects.
pub const CONNECT_SUBRESOURCES: [&str; 5] = ["exec", "attach", "portforward", "log", "proxy"];

/// A connect request after authentication and authorization.
pub struct ConnectRequest {
    pub user: Arc<UserInfo>,
    /// `target.subresource` is one of [`CONNECT_SUBRESOURCES`].
    pub target: Target,
    /// As admission left them.
    pub options: ConnectOptions,
    /// What follows `proxy` in the path, or what admission made of it, undecoded and without leading slash; empty elsewhere.
    pub proxy_path: String,
    pub cause: Cause,
    /// Headers, query string and connection data.
    pub request: HttpRequest,
    /// The body, or the bytes after an upgrade.
    pub payload: Payload,
}

/// Answers connect requests. Runs on the HTTP worker that took the connection.
pub trait Connect: Send + Sync + 'static {
    fn connect(&self, request: ConnectRequest) -> LocalBoxFuture<'static, Result<HttpResponse, Status>>;
}

/// Whether `subresource` is connected to.
pub fn is_connect(subresource: &str) -> bool {
    CONNECT_SUBRESOURCES.contains(&subresource)
}

/// The verbs that authorizers are asked about, all of which must be allowed: what the method says, and `create`
/// for a WebSocket upgrade, which arrives as GET yet executes, attaches or forwards ports, unless upgrades need no such right.
pub fn connect_verbs(method: &Method, subresource: &str, upgrades_create: bool) -> &'static [&'static str] {
    match (method.as_str(), subresource) {
        ("GET", "exec" | "attach" | "portforward") if upgrades_create => &["get", "create"],
        ("POST", _) => &["create"],
        ("PUT", _) => &["update"],
        ("PATCH", _) => &["patch"],
        ("DELETE", _) => &["delete"],
        _ => &["get"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrades_need_the_right_to_create_unless_that_is_off() {
        assert_eq!(connect_verbs(&Method::GET, "exec", true), ["get", "create"]);
        assert_eq!(connect_verbs(&Method::GET, "exec", false), ["get"]);
        assert_eq!(connect_verbs(&Method::GET, "log", true), ["get"]);
        assert_eq!(connect_verbs(&Method::POST, "exec", false), ["create"]);
    }
}
