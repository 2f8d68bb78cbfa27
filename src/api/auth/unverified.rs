//! TLS towards peers that no CA vouches for: pods and services with certificates of their own making, probes, a cluster that
//! is not known yet, a certificate known by its fingerprint.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest, Sha256};

/// A client that encrypts towards whoever answers: that the peer has the key of its certificate is all it checks.
pub fn any_peer() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = || {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Unverified { fingerprint: None, provider: provider.clone() });
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("ring has the default versions");
        Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    };
    CONFIG.get_or_init(make).clone()
}

/// The same client towards whoever answers; it shows what it shows. It keeps no sessions: one that began so must not be resumed where peers
/// have to prove themselves.
pub fn unverifying(client: &ClientConfig) -> ClientConfig {
    let mut config = client.clone();
    config.resumption = Resumption::disabled();
    let verifier = Unverified { fingerprint: None, provider: client.crypto_provider().clone() };
    config.dangerous().set_certificate_verifier(Arc::new(verifier));
    config
}

/// Accepts a server that has the key of the certificate it shows, whoever signed that and whatever names it has.
#[derive(Debug)]
pub struct Unverified {
    /// The SHA-256, in hex, of the only certificate that is accepted.
    fingerprint: Option<String>,
    provider: Arc<CryptoProvider>,
}

impl Unverified {
    /// Accepts one certificate alone.
    pub fn pinned(fingerprint: &str, provider: Arc<CryptoProvider>) -> Self {
        Unverified { fingerprint: Some(fingerprint.to_ascii_lowercase()), provider }
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.fingerprint {
            Some(wanted) if *wanted != hex::encode(Sha256::digest(end_entity)) => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_certificate_is_the_only_one_and_without_a_pin_any_is_accepted() {
        let provider = Arc::new(ring::default_provider());
        let (shown, other) = (CertificateDer::from(vec![1, 2, 3]), CertificateDer::from(vec![4]));
        let name = ServerName::try_from("anything").expect("a name");
        let accepts = |verifier: &Unverified, certificate| {
            verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::since_unix_epoch(std::time::Duration::ZERO)).is_ok()
        };
        let pinned = Unverified::pinned(&hex::encode_upper(Sha256::digest(&shown)), provider.clone());
        assert!(accepts(&pinned, &shown), "in whatever case the fingerprint is written");
        assert!(!accepts(&pinned, &other));
        assert!(accepts(&Unverified { fingerprint: None, provider }, &other));
    }
}
