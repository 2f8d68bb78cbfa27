//! Certificates of one server for those who call it by other names (SNI), or by other addresses, as upstream's `--tls-sni-cert-key`.

use std::{collections::BTreeMap, sync::Arc};

use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{tls::RenewableCertificate, x509::facts_of_pem};
use crate::meta::names;

/// The usual certificate, and those for names.
#[derive(Debug)]
pub struct NamedCertificates {
    usual: Arc<RenewableCertificate>,
    by_name: BTreeMap<String, Arc<RenewableCertificate>>,
}

impl NamedCertificates {
    /// Where a name stands twice the first one holds.
    pub fn new(usual: Arc<RenewableCertificate>, named: Vec<(Vec<String>, Arc<RenewableCertificate>)>) -> Self {
        let mut by_name = BTreeMap::new();
        for (names, certificate) in named {
            for name in names {
                by_name.entry(name).or_insert_with(|| certificate.clone());
            }
        }
        NamedCertificates { usual, by_name }
    }

    /// What is shown to who calls a name: names themselves go before those with a star for the first label.
    fn of(&self, name: Option<&str>) -> &Arc<RenewableCertificate> {
        let Some(name) = name.map(str::to_ascii_lowercase) else { return &self.usual };
        let wide = || name.split_once('.').map_or_else(|| "*".to_owned(), |(_, rest)| format!("*.{rest}"));
        self.by_name.get(&name).or_else(|| self.by_name.get(&wide())).unwrap_or(&self.usual)
    }
}

impl ResolvesServerCert for NamedCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ResolvesServerCert::resolve(&**self.of(hello.server_name()), hello)
    }
}

/// The same at one address of the server: who calls no name there, because they call the address, is shown another certificate.
#[derive(Debug)]
struct AtAddress {
    named: Arc<NamedCertificates>,
    unnamed: Arc<RenewableCertificate>,
}

impl ResolvesServerCert for AtAddress {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.server_name().is_none() { ResolvesServerCert::resolve(&*self.unnamed, hello) } else { self.named.resolve(hello) }
    }
}

/// A server's configuration at an address where who calls no name is shown `unnamed`.
pub fn at_address(usual: &ServerConfig, named: &Arc<NamedCertificates>, unnamed: Arc<RenewableCertificate>) -> ServerConfig {
    let mut config = usual.clone();
    config.cert_resolver = Arc::new(AtAddress { named: named.clone(), unnamed });
    config
}

/// The names by which servers with a certificate are called: its common name where that is one, and its names of DNS.
pub fn server_names(certificate_pem: &str) -> Vec<String> {
    let Some(facts) = facts_of_pem(certificate_pem.as_bytes()) else { return Vec::new() };
    let common = facts.common_name;
    let is_name = common == "*" || names::subdomain(common.strip_prefix("*.").unwrap_or(&common), false).is_empty();
    let is_address = common.parse::<std::net::IpAddr>().is_ok();
    Some(common).filter(|_| is_name && !is_address).into_iter().chain(facts.dns_names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::pki::{LeafSpec, Pki, self_signed};

    #[test]
    fn who_calls_a_name_is_shown_its_certificate() {
        let [usual, one, two] = [(); 3].map(|()| Arc::new(RenewableCertificate::default()));
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let named = vec![(names(&["a.example.org", "*.example.net"]), one.clone()), (names(&["a.example.org", "b.example.net"]), two.clone())];
        let certificates = NamedCertificates::new(usual.clone(), named);
        for (name, shown) in [
            (None, &usual),
            (Some("other"), &usual),
            (Some("a.example.org"), &one),
            (Some("A.Example.org"), &one),
            (Some("c.example.net"), &one),
            (Some("b.example.net"), &two),
            (Some("c.d.example.net"), &usual),
        ] {
            assert!(Arc::ptr_eq(certificates.of(name), shown), "{name:?}");
        }
    }

    #[test]
    fn a_certificate_tells_its_names() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("opens");
        let names = |common: &str, dns: &[&str]| {
            let dns_names = dns.iter().map(|&name| name.to_owned()).collect();
            let ips = vec!["127.0.0.1".parse().expect("an address")];
            let spec = LeafSpec { file: "one".into(), common_name: common.into(), dns_names, ips, server: true, ..LeafSpec::default() };
            server_names(&pki.leaf(&spec).expect("makes").certificate_pem)
        };
        assert_eq!(names("api.example.org", &["*.example.net"]), ["api.example.org", "*.example.net"]);
        assert_eq!(names("10.0.0.1", &["a"]), ["a"]);
        assert_eq!(names("The API", &["a"]), ["a"]);
        assert_eq!(server_names(&self_signed("me.example").expect("makes").certificate_pem), ["me.example", "me.example"]);
        assert!(server_names("odd").is_empty());
    }
}
