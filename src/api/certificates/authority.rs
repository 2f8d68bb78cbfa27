//! Signing: a certificate made of a request, under a policy.
//!
//! Subject, public key and names are the request's; validity and usages are the policy's; nothing else of the request
//! gets in. The certificate is put together here because a subject may carry several organizations, one a group.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{KeyPair, SigningKey};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};
use yasna::{DERWriter, DERWriterSeq, Tag, models::ObjectIdentifier};

use super::{
    SigningRequest,
    encoding::{algorithm, pem},
    private_key,
    request::RequestError,
    usages::{UnknownUsage, Usages},
};
use crate::meta::time::shifted;

/// How long before now a certificate begins, for peers whose clocks are behind.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Shorter ones are not shortened by the backdating as well.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// Why a certificate was not made.
#[derive(Debug, Error)]
pub enum SignError {
    #[error("unable to verify certificate request signature: {0}")]
    Request(#[from] RequestError),
    #[error(transparent)]
    Usage(#[from] UnknownUsage),
    #[error("the signer has expired: NotAfter={0}")]
    Expired(Timestamp),
    #[error("the CA's key cannot sign")]
    Key(#[source] rcgen::Error),
    #[error("the CA's {0} cannot be used to sign")]
    Authority(&'static str),
}

/// What a signed certificate may be used for, and for how long.
#[derive(Clone, Debug)]
pub struct Policy<'a> {
    pub usages: &'a [String],
    pub lasts: SignedDuration,
    pub now: Timestamp,
}

/// A CA that signs requests.
pub struct CertificateAuthority {
    key: KeyPair,
    algorithm: Vec<u8>,
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_after: Timestamp,
}

impl CertificateAuthority {
    /// The CA of a certificate and its key, both PEM.
    pub fn new(certificate_pem: &str, key_pem: &str) -> Result<Self, SignError> {
        let key = private_key::key_pair(key_pem).map_err(SignError::Key)?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).map_err(|_| SignError::Authority("certificate"))?;
        let (_, parsed) = X509Certificate::from_der(&pem.contents).map_err(|_| SignError::Authority("certificate"))?;
        let key_id = parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Ok(CertificateAuthority {
            algorithm: algorithm(&key).ok_or(SignError::Authority("key"))?,
            subject: parsed.subject().as_raw().to_vec(),
            key_id,
            not_after: Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(|_| SignError::Authority("certificate"))?,
            key,
        })
    }

    /// Signs a request; the certificate is PEM.
    ///
    /// # Errors
    /// When the requestor does not hold the key, a usage is unknown, or the CA has expired.
    pub fn sign(&self, request: &SigningRequest, policy: &Policy<'_>) -> Result<String, SignError> {
        request.verify()?;
        let usages = Usages::parse(policy.usages.iter().map(String::as_str))?;
        if policy.now >= self.not_after {
            return Err(SignError::Expired(self.not_after));
        }
        let begins = policy.now - BACKDATE;
        let lasts = if policy.lasts < SHORT { policy.lasts } else { policy.lasts - BACKDATE };
        let ends = shifted(policy.now, lasts).min(self.not_after);
        let content = yasna::construct_der(|writer| self.write_content(writer, request, &usages, begins, ends));
        let signature = self.key.sign(&content).map_err(SignError::Key)?;
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&content);
                writer.next().write_der(&self.algorithm);
                writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(pem("CERTIFICATE", &der))
    }

    fn write_content(&self, writer: DERWriter<'_>, request: &SigningRequest, usages: &Usages, begins: Timestamp, ends: Timestamp) {
        writer.write_sequence(|writer| {
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
            writer.next().write_bigint_bytes(&serial(), true);
            writer.next().write_der(&self.algorithm);
            writer.next().write_der(&self.subject);
            writer.next().write_sequence(|writer| {
                writer.next().write_der(&time(begins));
                writer.next().write_der(&time(ends));
            });
            writer.next().write_der(&request.subject);
            writer.next().write_der(&request.public_key);
            let extensions = |writer: DERWriter<'_>| writer.write_sequence(|writer| self.write_extensions(writer, request, usages));
            writer.next().write_tagged(Tag::context(3), extensions);
        });
    }

    fn write_extensions(&self, writer: &mut DERWriterSeq<'_>, request: &SigningRequest, usages: &Usages) {
        if let Some((bytes, length)) = usages.bit_string() {
            extension(writer, &[2, 5, 29, 15], true, |writer| writer.write_bitvec_bytes(&bytes[..length.div_ceil(8)], length));
        }
        if !usages.extended.is_empty() {
            extension(writer, &[2, 5, 29, 37], false, |writer| {
                writer.write_sequence(|writer| usages.extended.iter().for_each(|oid| writer.next().write_oid(&ObjectIdentifier::from_slice(oid))));
            });
        }
        extension(writer, &[2, 5, 29, 19], true, |writer| writer.write_sequence(|_| {}));
        if let Some(id) = &self.key_id {
            extension(writer, &[2, 5, 29, 35], false, |writer| {
                writer.write_sequence(|writer| writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id)));
            });
        }
        let names = [&request.dns_names, &request.emails, &request.uris].into_iter().any(|names| !names.is_empty());
        if names || !request.ips.is_empty() {
            let nameless = request.subject == yasna::construct_der(|writer| writer.write_sequence(|_| {}));
            extension(writer, &[2, 5, 29, 17], nameless, |writer| writer.write_sequence(|writer| write_names(writer, request)));
        }
    }
}

fn write_names(writer: &mut DERWriterSeq<'_>, request: &SigningRequest) {
    for (tag, names) in [(2, &request.dns_names), (1, &request.emails), (6, &request.uris)] {
        for name in names {
            writer.next().write_tagged_implicit(Tag::context(tag), |writer| writer.write_ia5_string(name));
        }
    }
    for ip in &request.ips {
        let octets = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        writer.next().write_tagged_implicit(Tag::context(7), |writer| writer.write_bytes(&octets));
    }
}

fn extension(writer: &mut DERWriterSeq<'_>, oid: &[u64], critical: bool, value: impl FnOnce(DERWriter<'_>)) {
    writer.next().write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(&yasna::construct_der(value));
    });
}

/// A serial number that nobody guesses.
fn serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

/// A time in the form that its year asks for.
fn time(at: Timestamp) -> Vec<u8> {
    let zoned = at.to_zoned(TimeZone::UTC);
    let (tag, format) = if zoned.year() < 2050 { (0x17, "%y%m%d%H%M%SZ") } else { (0x18, "%Y%m%d%H%M%SZ") };
    let text = zoned.strftime(format).to_string();
    let mut der = vec![tag, u8::try_from(text.len()).expect("a time is short")];
    der.extend_from_slice(text.as_bytes());
    der
}
