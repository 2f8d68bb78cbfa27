//! The other side: making a key and a request for a certificate.

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

/// What a request will ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub common_name: String,
    pub organization: String,
    pub dns_names: Vec<String>,
    pub ips: Vec<IpAddr>,
}

/// A request with the key that it is for, both PEM.
#[derive(Clone)]
pub struct KeyedRequest {
    pub request_pem: String,
    pub key_pem: String,
}

impl Draft {
    /// The draft of a node's client certificate.
    pub fn node_client(node: &str) -> Self {
        Draft { common_name: format!("system:node:{node}"), organization: "system:nodes".into(), ..Draft::default() }
    }

    /// The draft of a node's serving certificate.
    pub fn node_serving(node: &str, ips: Vec<IpAddr>) -> Self {
        Draft { dns_names: vec![node.to_owned()], ips, ..Draft::node_client(node) }
    }

    /// Makes a new ECDSA P-256 key and a request for it.
    ///
    /// # Errors
    /// When a name is none that certificates can carry.
    pub fn with_new_key(&self) -> Result<KeyedRequest, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if !self.organization.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, self.organization.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        for name in &self.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(self.ips.iter().copied().map(SanType::IpAddress));
        let key = KeyPair::generate()?;
        Ok(KeyedRequest { request_pem: params.serialize_request(&key)?.pem()?, key_pem: key.serialize_pem() })
    }
}
