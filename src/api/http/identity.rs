//! Who calls: the client certificate of the connection or a bearer token, then impersonation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, http::header};

use super::{authorize::authorize, query::percent_decode};
use crate::{
    auth::{Attributes, Authenticator, Authorizer, Credentials},
    service::UserInfo,
    status::Status,
};

const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// A connection's identity is asked for again after this time.
const CONNECTION_IDENTITY_TTL: Duration = Duration::from_secs(10);

/// The client certificate of a connection, with the identity it stands for.
pub struct PeerCertificate {
    pub der: Vec<u8>,
    known: Mutex<Option<(Instant, Arc<UserInfo>)>>,
}

impl PeerCertificate {
    pub fn new(der: Vec<u8>) -> Self {
        PeerCertificate { der, known: Mutex::new(None) }
    }

    fn remembered(&self) -> Option<Arc<UserInfo>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(since, _)| since.elapsed() < CONNECTION_IDENTITY_TTL).map(|(_, user)| user.clone())
    }

    fn remember(&self, user: Arc<UserInfo>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), user));
    }
}

/// Finds out who calls, without impersonation.
///
/// # Errors
/// 401 when a credential is wrong, or there is none and anonymous requests are not taken.
pub fn authenticate(request: &HttpRequest, authenticator: &dyn Authenticator, anonymous: bool) -> Result<Arc<UserInfo>, Status> {
    let certificate = request.conn_data::<PeerCertificate>();
    let bearer = bearer_token(request);
    if bearer.is_none()
        && let Some(user) = certificate.and_then(PeerCertificate::remembered)
    {
        return Ok(user);
    }
    let credentials = Credentials { client_certificate: certificate.map(|certificate| certificate.der.as_slice()), bearer };
    match authenticator.authenticate(&credentials)? {
        Some(mut user) => {
            if user.name != ANONYMOUS && !user.groups.iter().any(|group| group == AUTHENTICATED) {
                user.groups.push(AUTHENTICATED.to_owned());
            }
            let user = Arc::new(user);
            if let (None, Some(certificate)) = (bearer, certificate) {
                certificate.remember(user.clone());
            }
            Ok(user)
        }
        None if anonymous && bearer.is_none() => {
            Ok(Arc::new(UserInfo { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..UserInfo::default() }))
        }
        None => Err(Status::unauthorized()),
    }
}

/// The bearer token of the Authorization header, or of the WebSocket protocol that browsers use for it.
fn bearer_token(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// One thing a caller wants to be.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    group: &'static str,
    resource: &'static str,
    subresource: String,
    namespace: String,
    name: String,
}

/// Applies the `Impersonate-*` headers.
///
/// # Errors
/// 403 unless the caller may impersonate all it asks for; 400 for groups without a user.
pub fn impersonate(request: &HttpRequest, caller: Arc<UserInfo>, authorizer: &dyn Authorizer) -> Result<Arc<UserInfo>, Status> {
    let mut headers = request.headers().iter().filter(|(name, _)| name.as_str().starts_with("impersonate-")).peekable();
    if headers.peek().is_none() {
        return Ok(caller);
    }
    let headers: Vec<(String, String)> =
        headers.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
    let (claims, user) = wanted(&headers)?;
    for claim in &claims {
        let attributes = Attributes {
            verb: "impersonate",
            resource: claim.resource,
            subresource: &claim.subresource,
            group: claim.group,
            version: "v1",
            namespace: &claim.namespace,
            name: &claim.name,
            path: None,
        };
        authorize(authorizer, &caller, &attributes)?;
    }
    Ok(Arc::new(user))
}

/// What the headers ask for, and the user that comes of it. Header names are lower case.
fn wanted(headers: &[(String, String)]) -> Result<(Vec<Claim>, UserInfo), Status> {
    let values = |name: &'static str| headers.iter().filter(move |(header, _)| header == name).map(|(_, value)| value.clone());
    let claim = |group, resource, name: &str| Claim { group, resource, subresource: String::new(), namespace: String::new(), name: name.into() };
    let Some(name) = values("impersonate-user").next().filter(|name| !name.is_empty()) else {
        return Err(Status::bad_request("requested groups, extra or uid without impersonating a user"));
    };
    let mut groups: Vec<String> = values("impersonate-group").collect();
    let mut claims = Vec::new();
    match name.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|account| account.split_once(':')) {
        Some((namespace, account)) => {
            claims.push(Claim { namespace: namespace.into(), ..claim("", "serviceaccounts", account) });
            if groups.is_empty() {
                groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        None => claims.push(claim("", "users", &name)),
    }
    claims.extend(values("impersonate-group").map(|group| claim("", "groups", &group)));
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let Some(key) = header.strip_prefix(EXTRA_PREFIX) {
            let key = percent_decode(key).into_owned();
            claims.push(Claim { subresource: key.clone(), ..claim("authentication.k8s.io", "userextras", value) });
            extra.entry(key).or_default().push(value.clone());
        }
    }
    let uid = values("impersonate-uid").next().unwrap_or_default();
    if !uid.is_empty() {
        claims.push(claim("authentication.k8s.io", "uids", &uid));
    }
    let stands_for_all = |group: &String| group == UNAUTHENTICATED || name != ANONYMOUS && group == AUTHENTICATED;
    if !groups.iter().any(stands_for_all) {
        groups.push(if name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED }.to_owned());
    }
    Ok((claims, UserInfo { name, uid, groups, extra }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn impersonating_a_service_account_brings_its_groups() {
        let (claims, user) = wanted(&headers(&[("impersonate-user", "system:serviceaccount:a:b")])).expect("well formed");
        assert_eq!((claims[0].resource, claims[0].namespace.as_str(), claims[0].name.as_str()), ("serviceaccounts", "a", "b"));
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
    }

    #[test]
    fn every_group_extra_and_uid_is_a_claim_of_its_own() {
        let asked = [("impersonate-user", "bob"), ("impersonate-group", "g"), ("impersonate-extra-acme.com%2fx", "1"), ("impersonate-uid", "u")];
        let (claims, user) = wanted(&headers(&asked)).expect("well formed");
        let resources: Vec<_> = claims.iter().map(|claim| claim.resource).collect();
        assert_eq!(resources, ["users", "groups", "userextras", "uids"]);
        assert_eq!(claims[2].subresource, "acme.com/x");
        assert_eq!(user.groups, ["g", "system:authenticated"]);
        assert!(wanted(&headers(&[("impersonate-group", "g")])).is_err());
    }
}
