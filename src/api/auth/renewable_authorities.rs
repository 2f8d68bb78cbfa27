//! The authorities of the certificates that clients show, which may be others while a server runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{
    tls::{TlsError, verifier},
    tls_policy::TlsPolicy,
};

/// Clients with certificates of these, or without any. Each handshake asks the newest; servers name none to their clients.
#[derive(Debug)]
pub struct RenewableAuthorities {
    provider: Arc<CryptoProvider>,
    newest: ArcSwap<Arc<dyn ClientCertVerifier>>,
}

impl RenewableAuthorities {
    /// Those of `ca_pem`.
    ///
    /// # Errors
    /// When it holds no usable certificate.
    pub fn new(ca_pem: &str, policy: &TlsPolicy) -> Result<Self, TlsError> {
        let provider = Arc::new(policy.provider());
        let newest = ArcSwap::from_pointee(verifier(ca_pem, &provider)?);
        Ok(RenewableAuthorities { provider, newest })
    }

    /// From now on those of `ca_pem`.
    ///
    /// # Errors
    /// When it holds no usable certificate; then those before stay.
    pub fn trust(&self, ca_pem: &str) -> Result<(), TlsError> {
        self.newest.store(Arc::new(verifier(ca_pem, &self.provider)?));
        Ok(())
    }
}

impl ClientCertVerifier for RenewableAuthorities {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.newest.load().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.newest.load().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.newest.load().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.newest.load().supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::auth::pki::{LeafSpec, Pki};

    #[test]
    fn clients_of_the_newest_authorities_are_believed() {
        let places = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let [first, second] = places.each_ref().map(|place| Pki::open(place.path()).expect("opens"));
        let certificate = |pki: &Pki| {
            let spec = LeafSpec { file: "c".into(), common_name: "c".into(), client: true, ..LeafSpec::default() };
            let pem = pki.leaf(&spec).expect("makes").certificate_pem;
            CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
        };
        let certificates = [&first, &second].map(certificate);
        let authorities = RenewableAuthorities::new(first.ca_pem(), &TlsPolicy::default()).expect("usable");
        let believed = || certificates.each_ref().map(|one| authorities.verify_client_cert(one, &[], UnixTime::now()).is_ok());
        assert_eq!(believed(), [true, false]);
        authorities.trust(second.ca_pem()).expect("usable");
        assert_eq!(believed(), [false, true]);
        assert!(authorities.trust("odd").is_err());
        assert_eq!((believed(), authorities.client_auth_mandatory()), ([false, true], false), "they stay, and nobody has to show one");
    }
}
