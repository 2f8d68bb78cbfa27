//! Who asks the kubelet, and may they.

use hyper::{Method, Request, header};
use troupe_api::auth::{Attributes, Authenticator, Authorizer, Credentials, Decision};

use super::route::{subresources, verb};

/// Why a request is not served, with its HTTP code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: u16,
    pub text: String,
}

/// Lets a request in that is authenticated and allowed to access the node so.
///
/// # Errors
/// 401 or 403 in upstream's words.
pub fn admit<B>(
    request: &Request<B>,
    certificate: Option<&[u8]>,
    node: &str,
    authenticator: &dyn Authenticator,
    authorizer: &dyn Authorizer,
) -> Result<(), Refused> {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer_of);
    let unauthorized = || Refused { code: 401, text: "Unauthorized".into() };
    let found = authenticator.authenticate(&Credentials { client_certificate: certificate, bearer }).map_err(|_| unauthorized())?;
    let user = found.ok_or_else(unauthorized)?;
    let (verb, wanted) = (verb(request.method()), subresources(request.uri().path()));
    let allowed = |subresource: &&str| {
        let attributes = Attributes { verb, resource: "nodes", subresource, version: "v1", name: node, ..Attributes::default() };
        authorizer.authorize(&user, &attributes) == Decision::Allow
    };
    if wanted.iter().any(allowed) {
        return Ok(());
    }
    let text = format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n", user.name, wanted.join(" "));
    Err(Refused { code: 403, text })
}

fn bearer_of(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

/// Only these are served.
pub fn takes(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::POST | Method::HEAD)
}
