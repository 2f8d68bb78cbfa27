//! Client certificates: common name → user, organizations → groups.
//!
//! The TLS layer has verified the certificate against the client CA before it arrives here.

use std::net::IpAddr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use super::{Authenticator, Credentials};
use crate::{certificates::ip_of, service::UserInfo, status::Status};

/// The key of a user's extra fields under which authenticators say which credential was shown.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// The subject attribute that carries a user's uid.
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

/// Authenticates by verified client certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct X509Authenticator;

impl Authenticator for X509Authenticator {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        credentials.client_certificate.map_or(Ok(None), user_of)
    }
}

/// The same where nothing is believed of a uid that a certificate tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct X509WithoutUid;

impl Authenticator for X509WithoutUid {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        credentials.client_certificate.map_or(Ok(None), |der| read(der, false))
    }
}

/// The user a certificate names; `None` where it has no common name.
///
/// # Errors
/// 401 when it does not parse, or names several uids.
pub fn user_of(der: &[u8]) -> Result<Option<UserInfo>, Status> {
    read(der, true)
}

fn read(der: &[u8], takes_uid: bool) -> Result<Option<UserInfo>, Status> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Status::unauthorized())?;
    let subject = certificate.subject();
    // Go's parser takes the last common name.
    let name = subject.iter_common_name().filter_map(|name| name.as_str().ok()).last().unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned).collect();
    let mut uids = subject.iter_attributes().filter(|attribute| takes_uid && attribute.attr_type().to_id_string() == UID_ATTRIBUTE);
    let uid = uids.next().and_then(|uid| uid.as_str().ok()).unwrap_or_default().to_owned();
    if uids.next().is_some() {
        return Err(Status::unauthorized());
    }
    let credential = format!("X509SHA256={}", hex::encode(Sha256::digest(der)));
    let extra = [(CREDENTIAL_ID.to_owned(), vec![credential])].into();
    Ok(Some(UserInfo { name: name.to_owned(), uid, groups, extra }))
}

/// What a certificate says, as far as its owner cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    pub common_name: String,
    pub dns_names: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// The facts of the first certificate in PEM; `None` when it cannot be read.
pub fn facts_of_pem(pem: &[u8]) -> Option<CertificateFacts> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    let validity = certificate.validity();
    let mut facts = CertificateFacts {
        common_name: certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).last().unwrap_or_default().to_owned(),
        dns_names: Vec::new(),
        ips: Vec::new(),
        not_before: time(validity.not_before)?,
        not_after: time(validity.not_after)?,
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => facts.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => facts.ips.extend(ip_of(octets)),
            _ => {}
        }
    }
    Some(facts)
}

/// The SHA-256 of the first certificate in PEM, in hex.
pub fn fingerprint_of_pem(pem: &[u8]) -> Option<String> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    Some(hex::encode(Sha256::digest(&block.contents)))
}

/// The public key (SubjectPublicKeyInfo, DER) of the first certificate in PEM.
pub fn public_key_of_pem(pem: &[u8]) -> Option<Vec<u8>> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    Some(certificate.public_key().raw.to_vec())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(subject: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().to_vec()
    }

    fn authenticate(der: Option<&[u8]>) -> Result<Option<UserInfo>, Status> {
        X509Authenticator.authenticate(&Credentials { client_certificate: der, ..Credentials::default() })
    }

    #[test]
    fn common_name_and_organization_become_user_and_group() {
        let der = certificate(&[(DnType::OrganizationName, "system:masters"), (DnType::CommonName, "kubernetes-admin")]);
        let user = authenticate(Some(&der)).expect("authenticates").expect("a user");
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("kubernetes-admin", &["system:masters".to_owned()][..]));
        assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
    }

    #[test]
    fn a_uid_is_believed_unless_that_is_off() {
        let attribute = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57_683, 2]);
        let der = certificate(&[(DnType::CommonName, "ann"), (attribute, "u1")]);
        let credentials = Credentials { client_certificate: Some(&der), ..Credentials::default() };
        let uid = |authenticator: &dyn Authenticator| authenticator.authenticate(&credentials).expect("authenticates").expect("a user").uid;
        assert_eq!((uid(&X509Authenticator).as_str(), uid(&X509WithoutUid).as_str()), ("u1", ""));
    }

    #[test]
    fn certificates_without_name_or_meaning_authenticate_nobody() {
        assert_eq!(authenticate(None), Ok(None));
        assert_eq!(authenticate(Some(&certificate(&[]))), Ok(None));
        assert_eq!(authenticate(Some(b"junk")).expect_err("is refused").code, 401);
    }
}
