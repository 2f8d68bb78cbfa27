use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::auth::pki::Pki;

fn usages(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn request(common_name: &str, organization: &str, names: &[SanType]) -> SigningRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    // A second organization, under the same identifier.
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 10]), organization);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = names.to_vec();
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    SigningRequest::from_pem(pem.as_bytes()).expect("reads")
}

fn node_request(names: &[SanType]) -> SigningRequest {
    SigningRequest { organizations: vec!["system:nodes".into()], ..request("system:node:one", "system:nodes", names) }
}

#[test]
fn a_signed_certificate_says_what_was_asked_for_and_verifies_against_the_ca() {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = Pki::open(dir.path()).expect("opens");
    let authority = CertificateAuthority::new(pki.ca_pem(), &pki.ca_key_pem().expect("a key")).expect("a CA");
    let ip: IpAddr = [10, 0, 0, 7].into();
    let asked = request("jane", "devs", &[SanType::DnsName("jane.example".try_into().expect("a name")), SanType::IpAddress(ip)]);
    assert_eq!((asked.organizations.len(), asked.ips.as_slice()), (2, &[ip][..]));
    let now = Timestamp::now();
    let usages = usages(&["digital signature", "client auth"]);
    let pem = authority.sign(&asked, &Policy { usages: &usages, lasts: SignedDuration::from_hours(1), now }).expect("signs");

    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
    let (rest, made) = X509Certificate::from_der(&block.contents).expect("a certificate");
    assert!(rest.is_empty());
    let (_, ca) = x509_parser::pem::parse_x509_pem(pki.ca_pem().as_bytes()).expect("PEM");
    let (_, ca) = X509Certificate::from_der(&ca.contents).expect("a certificate");
    made.verify_signature(Some(ca.public_key())).expect("verifies");
    let user = crate::auth::x509::user_of(&block.contents).expect("authenticates").expect("a user");
    assert_eq!((user.name.as_str(), user.groups.as_slice()), ("jane", &["devs".to_owned(), "devs".to_owned()][..]));
    assert_eq!(made.validity().not_before.timestamp(), now.as_second() - 300);
    assert_eq!(made.validity().not_after.timestamp(), now.as_second() + 3600);
    let extended = made.extended_key_usage().expect("one").expect("one").value;
    assert!(extended.client_auth && !extended.server_auth);
    assert!(made.key_usage().expect("one").expect("one").value.digital_signature());
    assert_eq!(made.subject_alternative_name().expect("one").expect("one").value.general_names.len(), 2);
    // A TLS client must be able to show it.
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls::pki_types::CertificateDer::from(x509_parser::pem::parse_x509_pem(pki.ca_pem().as_bytes()).expect("PEM").1.contents))
        .expect("a root");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().expect("a verifier");
    let leaf = rustls::pki_types::CertificateDer::from(block.contents);
    verifier.verify_client_cert(&leaf, &[], rustls::pki_types::UnixTime::now()).expect("webpki takes it");
}

#[test]
fn long_certificates_end_earlier_by_the_backdating_and_none_outlives_the_ca() {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = Pki::open(dir.path()).expect("opens");
    let authority = CertificateAuthority::new(pki.ca_pem(), &pki.ca_key_pem().expect("a key")).expect("a CA");
    let now = Timestamp::now();
    let ends = |hours: i64| {
        let usages = usages(&["client auth"]);
        let pem = authority.sign(&node_request(&[]), &Policy { usages: &usages, lasts: SignedDuration::from_hours(hours), now }).expect("signs");
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
        let (_, made) = X509Certificate::from_der(&block.contents).expect("a certificate");
        made.validity().not_after.timestamp()
    };
    assert_eq!(ends(24), now.as_second() + 24 * 3600 - 300);
    assert!(ends(24 * 365 * 20) < now.as_second() + 24 * 365 * 11 * 3600);
}

#[test]
fn kubelet_signers_take_exactly_what_kubelets_need() {
    let client = usages(&["client auth", "digital signature"]);
    let serving = usages(&["key encipherment", "server auth", "digital signature"]);
    let ip = SanType::IpAddress([10, 0, 0, 7].into());
    assert_eq!(kubelet_client(&node_request(&[]), &client), Ok(()));
    assert_eq!(kubelet_client(&node_request(&[]), &serving), Err(Refusal::Usages("client auth")));
    assert_eq!(kubelet_client(&node_request(std::slice::from_ref(&ip)), &client), Err(Refusal::Ip));
    assert_eq!(kubelet_client(&request("system:node:one", "system:nodes", &[]), &client), Err(Refusal::Organization));
    assert_eq!(kubelet_serving(&node_request(std::slice::from_ref(&ip)), &serving), Ok(()));
    assert_eq!(kubelet_serving(&node_request(&[]), &serving), Err(Refusal::NoNames));
    let stranger = SigningRequest { common_name: "one".into(), ..node_request(&[ip]) };
    assert_eq!(kubelet_serving(&stranger, &serving), Err(Refusal::CommonName));
}

/// The certificate would repeat it, and others read encodings that we don't.
#[test]
fn a_group_in_an_encoding_that_is_not_read_here_is_refused() {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    let masters = rcgen::string::BmpString::try_from("system:masters").expect("a text");
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 10]), rcgen::DnValue::BmpString(masters));
    params.distinguished_name.push(DnType::CommonName, "system:node:one");
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    assert!(matches!(SigningRequest::from_pem(pem.as_bytes()), Err(RequestError::Malformed(_))));
}

#[test]
fn what_is_no_request_is_refused() {
    assert_eq!(SigningRequest::from_base64("%%").expect_err("fails"), RequestError::Pem);
    let certificate = super::encoding::pem("CERTIFICATE", b"x");
    assert_eq!(SigningRequest::from_pem(certificate.as_bytes()).expect_err("fails"), RequestError::Pem);
    let junk = super::encoding::pem("CERTIFICATE REQUEST", b"x");
    assert!(matches!(SigningRequest::from_pem(junk.as_bytes()).expect_err("fails"), RequestError::Malformed(_)));
}
