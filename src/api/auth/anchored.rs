//! TLS towards servers that show the very certificate that is trusted: one that signed itself. Such a server proves no less than
//! one whose certificate an authority signed, and upstream takes both.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ParsedCertificate, VerifierBuilderError},
};
use x509_parser::{parse_x509_certificate, time::ASN1Time};

/// Accepts servers whom an anchor vouches for, or that are an anchor themselves: with the right name, and in their time.
#[derive(Debug)]
pub struct Anchored {
    chains: Arc<WebPkiServerVerifier>,
    anchors: Vec<CertificateDer<'static>>,
}

impl Anchored {
    /// # Errors
    /// When there is no anchor.
    pub fn new(anchors: Vec<CertificateDer<'static>>, roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Self, VerifierBuilderError> {
        Ok(Anchored { chains: WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?, anchors })
    }
}

fn is_in_its_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let encoding = Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| encoding.clone())?;
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok()).ok_or(encoding)?;
    match parsed.validity() {
        validity if now < validity.not_before => Err(Error::InvalidCertificate(CertificateError::NotValidYet)),
        validity if now > validity.not_after => Err(Error::InvalidCertificate(CertificateError::Expired)),
        _ => Ok(()),
    }
}

impl ServerCertVerifier for Anchored {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chains.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        if verified.is_ok() || !self.anchors.contains(end_entity) {
            return verified;
        }
        is_in_its_time(end_entity, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate for `hook.default.svc` that signed itself, in force in the year 2030.
    fn own() -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["hook.default.svc".into()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2031, 1, 1));
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().clone()
    }

    #[test]
    fn a_certificate_that_is_trusted_itself_counts_for_its_name_and_in_its_time() {
        let (trusted, other) = (own(), own());
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).expect("an anchor");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Anchored::new(vec![trusted.clone()], roots, provider).expect("a verifier");
        let in_2030 = 1_900_000_000;
        for (certificate, name, now, accepted) in [
            (&trusted, "hook.default.svc", in_2030, true),
            (&trusted, "hook.other.svc", in_2030, false),
            (&trusted, "hook.default.svc", in_2030 - 100_000_000, false),
            (&trusted, "hook.default.svc", in_2030 + 100_000_000, false),
            (&other, "hook.default.svc", in_2030, false),
        ] {
            let server = ServerName::try_from(name).expect("a name");
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
            assert_eq!(verifier.verify_server_cert(certificate, &[], &server, &[], now).is_ok(), accepted, "{name} {now:?}");
        }
    }
}
