//! Front proxies: servers in front of an API server that authenticate clients themselves and say in headers who calls.
//!
//! They are believed if they show a certificate of an authority of their own (upstream's `--requestheader-*`). That authority vouches for no
//! client, and that of clients for no front proxy. The other way round this server is a front proxy to the servers of API services.

use std::{fmt, sync::Arc};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{
    tls::{self, TlsError},
    x509,
};
use crate::{service::UserInfo, status::Status};

pub const USERNAME: &str = "X-Remote-User";
pub const UID: &str = "X-Remote-Uid";
pub const GROUP: &str = "X-Remote-Group";
pub const EXTRA_PREFIX: &str = "X-Remote-Extra-";
/// The common name of this server's own certificate as a front proxy.
pub const CLIENT_NAME: &str = "front-proxy-client";

/// Who a certificate speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The client itself.
    Client,
    /// Whomever its headers name.
    FrontProxy,
    /// Nobody: the authority of front proxies signed it, but it has none of their names.
    Nobody,
}

/// Tells front proxies from clients.
pub struct RequestHeaders {
    proxies: Arc<dyn ClientCertVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
    /// Common names of front proxies; any if there are none.
    allowed_names: Vec<String>,
    /// Whether they are believed about uids.
    takes_uids: bool,
}

impl fmt::Debug for RequestHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHeaders").field("allowed_names", &self.allowed_names).finish_non_exhaustive()
    }
}

impl RequestHeaders {
    /// Front proxies whom `proxy_ca_pem` vouches for, beside clients of `client_ca_pem`.
    ///
    /// # Errors
    /// When an authority is unusable.
    pub fn new(proxy_ca_pem: &str, client_ca_pem: &str, allowed_names: Vec<String>) -> Result<Self, TlsError> {
        Ok(RequestHeaders {
            proxies: verifier(tls::roots(proxy_ca_pem)?)?,
            clients: verifier(tls::roots(client_ca_pem)?)?,
            allowed_names,
            takes_uids: true,
        })
    }

    /// The same where they are believed about uids or not.
    #[must_use]
    pub fn taking_uids(self, takes_uids: bool) -> Self {
        RequestHeaders { takes_uids, ..self }
    }

    /// The user that headers of a front proxy name, as far as that is believed.
    pub fn user_of<'a>(&self, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<UserInfo> {
        user_of(headers.filter(|(name, _)| self.takes_uids || !name.eq_ignore_ascii_case(UID)))
    }

    /// Whom a certificate speaks for that the handshake has accepted.
    pub fn judge(&self, chain: &[CertificateDer<'_>]) -> Shown {
        let Some((end_entity, intermediates)) = chain.split_first() else { return Shown::Client };
        let now = UnixTime::now();
        if self.proxies.verify_client_cert(end_entity, intermediates, now).is_err() {
            return Shown::Client;
        }
        let name = x509::user_of(end_entity).ok().flatten().map(|user| user.name).unwrap_or_default();
        if self.allowed_names.is_empty() || self.allowed_names.contains(&name) {
            return Shown::FrontProxy;
        }
        // One authority for both is unwise, but then it is a client.
        if self.clients.verify_client_cert(end_entity, intermediates, now).is_ok() { Shown::Client } else { Shown::Nobody }
    }
}

fn verifier(roots: RootCertStore) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
}

/// The user that headers name; `None` where they name nobody. Names of headers count in any case.
pub fn user_of<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<UserInfo> {
    let mut user = UserInfo::default();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value).into_owned();
        if name.eq_ignore_ascii_case(USERNAME) && user.name.is_empty() {
            user.name = value;
        } else if name.eq_ignore_ascii_case(UID) && user.uid.is_empty() {
            user.uid = value;
        } else if name.eq_ignore_ascii_case(GROUP) && !value.is_empty() {
            user.groups.push(value);
        } else if name.get(..EXTRA_PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(EXTRA_PREFIX)) {
            user.extra.entry(unescaped(&name[EXTRA_PREFIX.len()..].to_ascii_lowercase())).or_default().push(value);
        }
    }
    (!user.name.is_empty()).then_some(user)
}

/// The headers that name a user to a server behind this one, in the order of upstream's.
///
/// # Errors
/// When a name has characters that no header may have.
pub fn headers_of(user: &UserInfo) -> Result<http::HeaderMap, Status> {
    let mut headers = http::HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        let unusable = || Status::internal(format!("{value:?} cannot be told in the header {name}"));
        let name = name.parse::<http::HeaderName>().map_err(|_| unusable())?;
        headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unusable())?);
        Ok::<(), Status>(())
    };
    add(USERNAME, &user.name)?;
    if !user.uid.is_empty() {
        add(UID, &user.uid)?;
    }
    for group in &user.groups {
        add(GROUP, group)?;
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA_PREFIX}{}", escaped(key));
        for value in values {
            add(&name, value)?;
        }
    }
    Ok(headers)
}

/// A key as a part of a header's name: other characters than those of names, and the percent sign, are escaped.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'!'
            | b'#'
            | b'$'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The key again; one that is escaped wrongly stays as it is.
fn unescaped(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else { return name.to_owned() };
        out.push(high * 16 + low);
    }
    String::from_utf8(out).unwrap_or_else(|_| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::auth::pki::{KeyedCertificate, LeafSpec, Pki};

    fn chain(leaf: &KeyedCertificate) -> Vec<CertificateDer<'static>> {
        rustls_pemfile::certs(&mut leaf.certificate_pem.as_bytes()).collect::<Result<_, _>>().expect("certificates")
    }

    fn client(name: &str) -> LeafSpec {
        LeafSpec { file: name.into(), common_name: name.into(), client: true, ..LeafSpec::default() }
    }

    #[test]
    fn uids_are_believed_unless_that_is_off() {
        let dir = tempfile::tempdir().expect("a directory");
        let proxies = Pki::open_front_proxy(dir.path()).expect("a CA");
        for (takes, uid) in [(true, "7"), (false, "")] {
            let headers = RequestHeaders::new(proxies.ca_pem(), proxies.ca_pem(), Vec::new()).expect("usable").taking_uids(takes);
            let told = [("x-remote-user", &b"jane"[..]), ("x-remote-uid", &b"7"[..])];
            let user = headers.user_of(told.into_iter()).expect("a user");
            assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", uid));
        }
    }

    #[test]
    fn only_certificates_of_front_proxies_speak_for_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let (clients, proxies) = (Pki::open(dir.path()).expect("a CA"), Pki::open_front_proxy(dir.path()).expect("a CA"));
        assert_ne!(clients.ca_pem(), proxies.ca_pem());
        let headers = RequestHeaders::new(proxies.ca_pem(), clients.ca_pem(), vec![CLIENT_NAME.into()]).expect("usable");
        let of = |pki: &Pki, name: &str| headers.judge(&chain(&pki.leaf(&client(name)).expect("a leaf")));
        assert_eq!(of(&proxies, CLIENT_NAME), Shown::FrontProxy);
        assert_eq!(of(&proxies, "another"), Shown::Nobody);
        assert_eq!(of(&clients, "admin"), Shown::Client);
        let named_so = client(CLIENT_NAME);
        let named_so = LeafSpec { file: "named-so".into(), ..named_so };
        assert_eq!(headers.judge(&chain(&clients.leaf(&named_so).expect("a leaf"))), Shown::Client);
    }

    #[test]
    fn what_headers_say_comes_out_as_it_went_in() {
        let extra = BTreeMap::from([("example.com/scopes%".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        let user = UserInfo { name: "jané".into(), uid: "7".into(), groups: vec!["x".into(), "y".into()], extra };
        let headers = headers_of(&user).expect("can be told");
        assert!(headers.contains_key("x-remote-extra-example.com%2fscopes%25"));
        assert_eq!(user_of(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))), Some(user));
        assert_eq!(user_of([("x-remote-group", &b"system:masters"[..])].into_iter()), None);
        assert!(headers_of(&UserInfo { name: "a\nb".into(), ..UserInfo::default() }).is_err());
        assert_eq!(unescaped("a%zz"), "a%zz");
    }
}
