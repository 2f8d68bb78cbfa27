//! The cluster's certificates: made at first start, kept in one directory, renewed before they expire.
//!
//! One cluster CA signs serving and client certificates, another one those of front proxies. Private keys that are made are ECDSA P-256, files
//! 0600; a CA that lies there may have another. A leaf is made again when it is missing, when less than a sixth of its time is left, or when
//! it lacks a name it should have.

use std::{
    fs,
    io::Write,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, civil::Time, tz::TimeZone};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use thiserror::Error;
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use crate::certificates::private_key;

const DAY: Duration = Duration::from_secs(86_400);
/// Leaves are valid for a year unless something else is set.
pub const LEAF_VALIDITY: Duration = Duration::from_secs(365 * DAY.as_secs());
/// The CA is valid for ten years.
const CA_VALIDITY: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// The file with the key that signs service-account tokens, beside the certificates.
pub const SERVICE_ACCOUNT_KEY: &str = "sa.key";

/// Why the certificates are not there.
#[derive(Debug, Error)]
pub enum PkiError {
    #[error("cannot read or write {path}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("cannot make the certificate {name}")]
    Make { name: String, source: rcgen::Error },
    #[error("{path} holds no usable certificate or key: {why}")]
    Damaged { path: PathBuf, why: String },
}

/// What a leaf certificate says.
#[derive(Clone, Debug, Default)]
pub struct LeafSpec {
    /// File name without extension, such as `apiserver`.
    pub file: String,
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ips: Vec<IpAddr>,
    /// Usable by servers; else by clients only.
    pub server: bool,
    pub client: bool,
}

/// A certificate with its key, PEM encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyedCertificate {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// The certificate directory and its CA.
pub struct Pki {
    dir: PathBuf,
    ca: &'static str,
    /// How long leaves that are made last.
    validity: Duration,
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Opens the directory, making it and the CA at first use.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        Pki::open_ca(dir, "ca", "troupe-ca")
    }

    /// The same with the CA of front proxies, whose certificates let them say who calls (`request_header`).
    pub fn open_front_proxy(dir: &Path) -> Result<Self, PkiError> {
        Pki::open_ca(dir, "front-proxy-ca", "troupe-front-proxy-ca")
    }

    /// `ca` is the name of the CA's files.
    fn open_ca(dir: &Path, ca: &'static str, common_name: &str) -> Result<Self, PkiError> {
        let io = |source| PkiError::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(io)?;
        let (certificate, key) = (dir.join(format!("{ca}.crt")), dir.join(format!("{ca}.key")));
        if !certificate.exists() || !key.exists() {
            let made = make_ca(common_name).map_err(|source| PkiError::Make { name: ca.into(), source })?;
            write_private(&key, made.key_pem.as_bytes())?;
            write_public(&certificate, made.certificate_pem.as_bytes())?;
        }
        let ca_pem = read(&certificate)?;
        let key_pair = private_key::key_pair(&read(&key)?).map_err(|error| damaged(&key, error))?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key_pair).map_err(|error| damaged(&certificate, error))?;
        Ok(Pki { dir: dir.to_owned(), ca, validity: LEAF_VALIDITY, ca_pem, issuer })
    }

    /// The same for leaves that last so long. Those that are there are left as they are until their own time comes.
    #[must_use]
    pub fn lasting(self, validity: Duration) -> Self {
        Pki { validity, ..self }
    }

    /// The CA's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The CA's key, for who signs requests.
    pub fn ca_key_pem(&self) -> Result<String, PkiError> {
        read(&self.dir.join(format!("{}.key", self.ca)))
    }

    /// The leaf of this spec, from its files where they still fit, else made anew.
    pub fn leaf(&self, spec: &LeafSpec) -> Result<KeyedCertificate, PkiError> {
        let (certificate, key) = (self.dir.join(format!("{}.crt", spec.file)), self.dir.join(format!("{}.key", spec.file)));
        if let (Ok(certificate_pem), Ok(key_pem)) = (fs::read_to_string(&certificate), fs::read_to_string(&key))
            && still_fits(&certificate_pem, spec, Timestamp::now())
        {
            return Ok(KeyedCertificate { certificate_pem, key_pem });
        }
        let made = self.make_leaf(spec).map_err(|source| PkiError::Make { name: spec.file.clone(), source })?;
        write_private(&key, made.key_pem.as_bytes())?;
        write_public(&certificate, made.certificate_pem.as_bytes())?;
        Ok(made)
    }

    fn make_leaf(&self, spec: &LeafSpec) -> Result<KeyedCertificate, rcgen::Error> {
        let mut params = params(&spec.common_name, self.validity)?;
        for organization in &spec.organizations {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        for name in &spec.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(spec.ips.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let usages = [(spec.server, ExtendedKeyUsagePurpose::ServerAuth), (spec.client, ExtendedKeyUsagePurpose::ClientAuth)];
        params.extended_key_usages = usages.into_iter().filter(|(wanted, _)| *wanted).map(|(_, usage)| usage).collect();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(keyed(&certificate, &key))
    }

    /// The PKCS#8 PEM of an ECDSA P-256 key that signs service-account tokens, made at first use.
    pub fn service_account_key(&self) -> Result<String, PkiError> {
        let path = self.dir.join(SERVICE_ACCOUNT_KEY);
        if !path.exists() {
            let key = KeyPair::generate().map_err(|source| PkiError::Make { name: "sa".into(), source })?;
            write_private(&path, key.serialize_pem().as_bytes())?;
        }
        read(&path)
    }
}

/// A server's certificate that no authority vouches for, for who is told of it in other ways. It is not kept.
pub fn self_signed(common_name: &str) -> Result<KeyedCertificate, PkiError> {
    let make = || {
        let mut params = params(common_name, CA_VALIDITY)?;
        params.subject_alt_names.push(SanType::DnsName(common_name.try_into()?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(keyed(&certificate, &key))
    };
    make().map_err(|source| PkiError::Make { name: common_name.into(), source })
}

fn make_ca(common_name: &str) -> Result<KeyedCertificate, rcgen::Error> {
    let mut params = params(common_name, CA_VALIDITY)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(keyed(&certificate, &key))
}

fn params(common_name: &str, validity: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from(rand::random::<u64>() >> 1));
    let moment = |time: Timestamp| {
        let zoned = time.to_zoned(TimeZone::UTC);
        let (date, clock) = (zoned.date(), zoned.time());
        let day = rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs());
        day + Duration::from_secs(clock.duration_since(Time::midnight()).as_secs().unsigned_abs())
    };
    let now = Timestamp::now();
    // Some time before, so that a peer whose clock is a little behind takes it too.
    params.not_before = moment(now.saturating_sub(validity.min(DAY)).unwrap_or(now));
    params.not_after = moment(now.saturating_add(validity).unwrap_or(now));
    Ok(params)
}

fn keyed(certificate: &Certificate, key: &KeyPair) -> KeyedCertificate {
    KeyedCertificate { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
}

/// The certificate has the spec's common name, covers every name of the spec and lives long enough.
fn still_fits(certificate_pem: &str, spec: &LeafSpec, now: Timestamp) -> bool {
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()) else { return false };
    let Ok((_, certificate)) = x509_parser::certificate::X509Certificate::from_der(&pem.contents) else { return false };
    let (first, last) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    if last - now.as_second() < (last - first) / 6 {
        return false;
    }
    let names = certificate.subject_alternative_name().ok().flatten().map(|extension| extension.value.general_names.clone()).unwrap_or_default();
    let has_dns = |wanted: &String| names.iter().any(|name| matches!(name, GeneralName::DNSName(dns) if dns == wanted));
    let has_ip = |wanted: &IpAddr| {
        let octets = match wanted {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        names.iter().any(|name| matches!(name, GeneralName::IPAddress(ip) if **ip == octets[..]))
    };
    let is_named = certificate.subject().iter_common_name().any(|name| name.as_str().is_ok_and(|name| name == spec.common_name));
    is_named && spec.dns_names.iter().all(has_dns) && spec.ips.iter().all(has_ip)
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::Io { path: path.to_owned(), source })
}

fn damaged(path: &Path, error: rcgen::Error) -> PkiError {
    PkiError::Damaged { path: path.to_owned(), why: error.to_string() }
}

/// Writes a file that only root reads, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), PkiError> {
    write_with_mode(path, content, 0o600)
}

fn write_public(path: &Path, content: &[u8]) -> Result<(), PkiError> {
    write_with_mode(path, content, 0o644)
}

fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), PkiError> {
    let io = |source| PkiError::Io { path: path.to_owned(), source };
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary); // a leftover of an interrupted write
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(io)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&temporary, path).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LeafSpec {
        LeafSpec {
            file: "apiserver".into(),
            common_name: "kube-apiserver".into(),
            dns_names: vec!["kubernetes".into()],
            ips: vec![[10, 96, 0, 1].into()],
            server: true,
            ..LeafSpec::default()
        }
    }

    #[test]
    fn certificates_survive_a_restart_and_change_when_a_name_is_added() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = Pki::open(dir.path()).expect("opens").leaf(&spec()).expect("makes");
        let again = Pki::open(dir.path()).expect("opens").leaf(&spec()).expect("reads");
        assert_eq!(first.certificate_pem, again.certificate_pem);
        let mut wider = spec();
        wider.ips.push([127, 0, 0, 1].into());
        let renewed = Pki::open(dir.path()).expect("opens").leaf(&wider).expect("makes");
        assert_ne!(first.certificate_pem, renewed.certificate_pem);
        let renamed = LeafSpec { common_name: "another".into(), ..wider.clone() };
        assert!(still_fits(&renewed.certificate_pem, &wider, Timestamp::now()) && !still_fits(&renewed.certificate_pem, &renamed, Timestamp::now()));
        assert!(!still_fits(&renewed.certificate_pem, &wider, Timestamp::now() + jiff::SignedDuration::from_hours(24 * 350)));
    }

    #[test]
    fn a_leaf_is_made_again_when_a_sixth_of_its_time_is_left() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("opens").lasting(Duration::from_secs(600));
        let leaf = pki.leaf(&spec()).expect("makes");
        assert_eq!(pki.leaf(&spec()).expect("reads").certificate_pem, leaf.certificate_pem);
        let after = |seconds| still_fits(&leaf.certificate_pem, &spec(), Timestamp::now() + jiff::SignedDuration::from_secs(seconds));
        // It begins ten minutes before it was made, so that its whole time is twenty.
        assert!(after(390) && !after(410) && !after(700));
    }

    #[test]
    fn an_authority_of_kubeadms_is_taken_as_it_lies_there() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("ca.crt"), include_str!("../certificates/testdata/rsa.crt")).expect("writes");
        fs::write(dir.path().join("ca.key"), include_str!("../certificates/testdata/rsa-pkcs1.key")).expect("writes");
        let pki = Pki::open(dir.path()).expect("opens");
        let leaf = pki.leaf(&spec()).expect("makes");
        let (_, pem) = x509_parser::pem::parse_x509_pem(leaf.certificate_pem.as_bytes()).expect("PEM");
        let (_, ca) = x509_parser::pem::parse_x509_pem(pki.ca_pem().as_bytes()).expect("PEM");
        let (certificate, ca) = (pem.parse_x509().expect("a certificate"), ca.parse_x509().expect("a certificate"));
        assert_eq!(certificate.issuer(), ca.subject());
        assert!(certificate.verify_signature(Some(ca.public_key())).is_ok());
    }

    #[test]
    fn keys_are_readable_by_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("opens");
        pki.service_account_key().expect("makes");
        for file in ["ca.key", "sa.key"] {
            assert_eq!(fs::metadata(dir.path().join(file)).expect("exists").permissions().mode() & 0o777, 0o600);
        }
    }
}
