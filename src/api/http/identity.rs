//! Who calls: the client certificate of the connection or a bearer token.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, http::header};

use crate::{
    auth::{Authenticator, Credentials, peer},
    service::UserInfo,
    status::Status,
};

pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";

/// A connection's identity is asked for again after this time.
const CONNECTION_IDENTITY_TTL: Duration = Duration::from_secs(10);

/// The client certificate of a connection, with the identity it stands for.
#[derive(Debug)]
pub struct PeerCertificate {
    der: Vec<u8>,
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
pub fn authenticate(
    request: &HttpRequest,
    certificate: Option<&PeerCertificate>,
    authenticator: &dyn Authenticator,
    anonymous: bool,
) -> Result<Arc<UserInfo>, Status> {
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
            peer::note(&mut user, request.peer_addr().map(|address| address.ip()));
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
