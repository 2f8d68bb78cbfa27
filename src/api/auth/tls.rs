//! rustls configurations from the cluster's certificates.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use thiserror::Error;

use super::{anchored::Anchored, pki::KeyedCertificate, tls_policy::TlsPolicy, unverified::Unverified};

/// Why a TLS configuration cannot be made.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("the {0} holds no usable PEM")]
    Pem(&'static str),
    #[error("rustls refuses the certificate or key")]
    Rustls(#[from] rustls::Error),
    #[error("the client CA cannot verify clients")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A server that asks for client certificates of `client_ca` and also lets clients without one in (they may
/// carry a token). Speaks HTTP/2 and HTTP/1.1.
pub fn server_config(serving: &KeyedCertificate, client_ca_pem: &str) -> Result<ServerConfig, TlsError> {
    let shown = RenewableCertificate::default();
    shown.show(serving)?;
    renewable_server_config(Arc::new(shown), client_ca_pem, &TlsPolicy::default())
}

/// The same with certificates that may change while the server runs; without one no handshake succeeds. It takes what `policy` says.
pub fn renewable_server_config(serving: Arc<dyn ResolvesServerCert>, client_ca_pem: &str, policy: &TlsPolicy) -> Result<ServerConfig, TlsError> {
    let clients = verifier(client_ca_pem, &Arc::new(policy.provider()))?;
    with_clients(serving, clients, policy)
}

/// The same, where the authorities of clients may change, too. Nobody goes on with what was agreed on in an earlier connection: those who were believed
/// then may not be any more.
pub fn followed_server_config(
    serving: Arc<dyn ResolvesServerCert>,
    clients: Arc<dyn ClientCertVerifier>,
    policy: &TlsPolicy,
) -> Result<ServerConfig, TlsError> {
    let mut config = with_clients(serving, clients, policy)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Believes clients with certificates of these authorities, and takes those without any.
pub(super) fn verifier(ca_pem: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), provider.clone()).allow_unauthenticated().build()?)
}

fn with_clients(serving: Arc<dyn ResolvesServerCert>, clients: Arc<dyn ClientCertVerifier>, policy: &TlsPolicy) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(policy.provider()))
        .with_protocol_versions(policy.versions())?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A certificate that is shown, read anew for each handshake.
#[derive(Debug, Default)]
pub struct RenewableCertificate {
    shown: ArcSwapOption<CertifiedKey>,
}

impl RenewableCertificate {
    /// Shows `certificate` from now on.
    ///
    /// # Errors
    /// When it is unusable or its key is another's; then what was shown before stays.
    pub fn show(&self, certificate: &KeyedCertificate) -> Result<(), TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(certificates(&certificate.certificate_pem)?, private_key(&certificate.key_pem)?, &provider)?;
        self.shown.store(Some(Arc::new(key)));
        Ok(())
    }
}

impl ResolvesServerCert for RenewableCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown.load_full()
    }
}

impl ResolvesClientCert for RenewableCertificate {
    fn resolve(&self, _root_hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.shown.load_full()
    }

    fn has_certs(&self) -> bool {
        self.shown.load().is_some()
    }
}

/// A client that trusts `ca_pem` and shows `identity` where it has one. HTTP/1.1 (upgrades need it).
pub fn client_config(ca_pem: &str, identity: Option<&KeyedCertificate>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_root_certificates(roots(ca_pem)?);
    let config = match identity {
        Some(identity) => builder.with_client_auth_cert(certificates(&identity.certificate_pem)?, private_key(&identity.key_pem)?)?,
        None => builder.with_no_client_auth(),
    };
    Ok(config)
}

/// The same, also where a server shows a certificate that stands in `ca_pem` itself.
///
/// # Errors
/// When it holds no usable certificate.
pub fn anchored_client_config(ca_pem: &str, identity: Option<&KeyedCertificate>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Anchored::new(certificates(ca_pem)?, roots(ca_pem)?, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match identity {
        Some(identity) => builder.with_client_auth_cert(certificates(&identity.certificate_pem)?, private_key(&identity.key_pem)?)?,
        None => builder.with_no_client_auth(),
    })
}

/// A client that trusts whom the system trusts. Reads its files.
///
/// # Errors
/// When the system trusts nobody.
pub fn system_client_config() -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::Pem("system"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_root_certificates(roots);
    Ok(builder.with_no_client_auth())
}

/// A client that trusts one certificate alone, known by its SHA-256 in hex, whoever signed it and whatever names it has.
pub fn pinned_client_config(fingerprint: &str, identity: Arc<RenewableCertificate>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Unverified::pinned(fingerprint, provider.clone()));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_client_cert_resolver(identity))
}

/// The same with an identity that may change; each connection shows the newest.
pub fn renewable_client_config(ca_pem: &str, identity: Arc<RenewableCertificate>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_root_certificates(roots(ca_pem)?);
    Ok(builder.with_client_cert_resolver(identity))
}

pub(super) fn roots(ca_pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_pemfile::certs(&mut pem.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(|_| TlsError::Pem("certificate"))?;
    if found.is_empty() { Err(TlsError::Pem("certificate")) } else { Ok(found) }
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    rustls_pemfile::private_key(&mut pem.as_bytes()).ok().flatten().ok_or(TlsError::Pem("private key"))
}
