//! A certificate signing request, read and checked.

use std::net::IpAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use thiserror::Error;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use crate::certificates::{ip_of, possession};

/// Requests with the largest keys and hundreds of names are shorter than this.
const LONGEST: usize = 128 << 10;

/// Why a request cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    #[error("x509: malformed certificate request: {0}")]
    Malformed(String),
    #[error("x509: the signature of the certificate request does not verify")]
    Signature,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRequest {
    /// The subject's last common name, as Go reads it.
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
    /// The subject as it stands in the request.
    pub(super) subject: Vec<u8>,
    /// The public key with its algorithm, as it stands in the request.
    pub(super) public_key: Vec<u8>,
    pub(super) der: Vec<u8>,
}

impl SigningRequest {
    /// Reads the `spec.request` of an API object: PEM in base64.
    pub fn from_base64(text: &str) -> Result<Self, RequestError> {
        if text.len() > LONGEST {
            return Err(RequestError::Malformed(format!("longer than {LONGEST} bytes")));
        }
        let pem = BASE64_STANDARD.decode(text).map_err(|_| RequestError::Pem)?;
        SigningRequest::from_pem(&pem)
    }

    /// Reads the first PEM block.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RequestError> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| RequestError::Pem)?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err(RequestError::Pem);
        }
        SigningRequest::from_der(block.contents)
    }

    /// Reads a request without its wrapping.
    pub fn from_der(der: Vec<u8>) -> Result<Self, RequestError> {
        let (rest, parsed) = X509CertificationRequest::from_der(&der).map_err(|error| RequestError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed("trailing data".into()));
        }
        let info = &parsed.certification_request_info;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
        // The certificate repeats the subject: what is not read here, somebody else might read there.
        if info.subject.iter_attributes().any(|attribute| text(attribute).is_none()) {
            return Err(RequestError::Malformed("an attribute of the subject is no text in a known encoding".into()));
        }
        let mut request = SigningRequest {
            common_name: info.subject.iter_common_name().filter_map(text).last().unwrap_or_default(),
            organizations: info.subject.iter_organization().filter_map(text).collect(),
            dns_names: Vec::new(),
            ips: Vec::new(),
            emails: Vec::new(),
            uris: Vec::new(),
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            der: Vec::new(),
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().try_for_each(|name| request.add_name(name))?;
            }
        }
        request.der = der;
        Ok(request)
    }

    /// Other kinds of names are not taken over, as upstream.
    fn add_name(&mut self, name: &GeneralName<'_>) -> Result<(), RequestError> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => {
                let ip = ip_of(octets).ok_or_else(|| RequestError::Malformed("an IP address of a wrong length".into()))?;
                self.ips.push(ip);
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks that the requestor holds the key.
    pub fn verify(&self) -> Result<(), RequestError> {
        let (_, parsed) = X509CertificationRequest::from_der(&self.der).map_err(|error| RequestError::Malformed(error.to_string()))?;
        if possession::verify(&parsed) { Ok(()) } else { Err(RequestError::Signature) }
    }
}
