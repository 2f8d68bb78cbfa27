//! Who calls: the client certificate of the connection or a bearer token.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, http::header};
use rustls::pki_types::CertificateDer;
use troupe_api::{
    auth::{
        Authenticator, Credentials, identify, peer,
        request_header::{RequestHeaders, Shown},
    },
    notices::Notices,
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
    /// The certificate itself, then those that lead to its authority.
    chain: Vec<CertificateDer<'static>>,
    shown: OnceLock<Shown>,
    known: Mutex<Option<(Instant, Arc<UserInfo>)>>,
}

impl PeerCertificate {
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        PeerCertificate { chain, shown: OnceLock::new(), known: Mutex::new(None) }
    }

    fn der(&self) -> Option<&[u8]> {
        self.chain.first().map(AsRef::as_ref)
    }

    /// Whom it speaks for.
    fn shown(&self, proxies: Option<&RequestHeaders>) -> Shown {
        proxies.map_or(Shown::Client, |proxies| *self.shown.get_or_init(|| proxies.judge(&self.chain)))
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
pub async fn authenticate(
    request: &HttpRequest,
    certificate: Option<&PeerCertificate>,
    (authenticator, proxies): (&dyn Authenticator, Option<&RequestHeaders>),
    anonymous: bool,
    notices: &Notices,
) -> Result<Arc<UserInfo>, Status> {
    let shown = certificate.map_or(Shown::Client, |certificate| certificate.shown(proxies));
    if shown == Shown::FrontProxy
        && let Some(proxies) = proxies
        && let Some(mut user) = proxies.user_of(request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
    {
        in_authenticated(&mut user);
        peer::note(&mut user, request.peer_addr().map(|address| address.ip()));
        return Ok(Arc::new(user));
    }
    // Of the certificate of a front proxy nothing else is believed.
    let certificate = certificate.filter(|_| shown == Shown::Client);
    let bearer = bearer_token(request);
    if shown != Shown::Client && bearer.is_none() {
        return Err(Status::unauthorized());
    }
    if bearer.is_none()
        && let Some(user) = certificate.and_then(PeerCertificate::remembered)
    {
        return Ok(user);
    }
    let credentials = Credentials { client_certificate: certificate.and_then(PeerCertificate::der), bearer, notices: Some(notices) };
    match identify(authenticator, &credentials).await? {
        // The chain lets anybody in; the path may not.
        Some(user) if user.name == ANONYMOUS && !anonymous => Err(Status::unauthorized()),
        Some(mut user) => {
            in_authenticated(&mut user);
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

/// Upstream takes the anonymous user out of the group that everybody else is in.
fn in_authenticated(user: &mut UserInfo) {
    let placed = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
    if user.name != ANONYMOUS && !user.groups.iter().any(placed) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
}

/// The bearer token of the Authorization header, or of the WebSocket protocol that browsers use for it.
fn bearer_token(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
