//! Certificates of servers that lie in files which somebody else looks after.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use troupe_api::auth::{
    named_certificates::{NamedCertificates, server_names},
    pki::KeyedCertificate,
    renewable_authorities::RenewableAuthorities,
    tls::RenewableCertificate,
    tls_policy::TlsPolicy,
};
use troupe_api_server::reloading::LOOK_EVERY;

use crate::config::Config;

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl CertificateFiles {
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&self) -> Result<KeyedCertificate> {
        let read = |file: &Path| fs::read_to_string(file).with_context(|| format!("{} is not readable", file.display()));
        Ok(KeyedCertificate { certificate_pem: read(&self.certificate)?, key_pem: read(&self.key)? })
    }

    /// Shows what lies there now.
    ///
    /// # Errors
    /// When it is unusable.
    pub fn show(&self) -> Result<(Arc<RenewableCertificate>, KeyedCertificate)> {
        let (shown, read) = (RenewableCertificate::default(), self.read()?);
        shown.show(&read).with_context(|| format!("{} and {} are unusable", self.certificate.display(), self.key.display()))?;
        Ok((Arc::new(shown), read))
    }

    /// Shows what lies there, also when that changes. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When it is unusable.
    pub fn follow(self) -> Result<(Arc<RenewableCertificate>, KeyedCertificate)> {
        let (shown, first) = self.show()?;
        let (kept, mut last) = (shown.clone(), first.clone());
        // It ends with the process.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let files = self.clone();
                let file = self.certificate.display();
                match tokio::task::spawn_blocking(move || files.read()).await {
                    Ok(Ok(next)) if next != last => match kept.show(&next) {
                        Ok(()) => last = next,
                        Err(error) => tracing::warn!(%error, %file, "the new certificate is unusable, the one before it stays"),
                    },
                    Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), %file, "the certificate is gone, what was shown stays"),
                    _ => {}
                }
            }
        });
        Ok((shown, first))
    }
}

/// A file of the authorities of the certificates that clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthoritiesFile(pub PathBuf);

impl AuthoritiesFile {
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self) -> Result<String> {
        fs::read_to_string(&self.0).with_context(|| format!("{} is not readable", self.0.display()))
    }

    /// Believes those that stand there now.
    ///
    /// # Errors
    /// When there are none.
    pub fn believe(&self, policy: &TlsPolicy) -> Result<(Arc<RenewableAuthorities>, String)> {
        let read = self.read()?;
        let believed = RenewableAuthorities::new(&read, policy).with_context(|| format!("{} is unusable", self.0.display()))?;
        Ok((Arc::new(believed), read))
    }

    /// Believes those that stand there, also when that changes. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When there are none.
    pub fn follow(self, policy: &TlsPolicy) -> Result<Arc<RenewableAuthorities>> {
        let (believed, mut last) = self.believe(policy)?;
        let kept = believed.clone();
        // It ends with the process.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let file = self.clone();
                match tokio::task::spawn_blocking(move || file.read()).await {
                    Ok(Ok(next)) => last = take_over(&kept, last, next, &self.0),
                    Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), "the authorities of clients are gone, those before stay"),
                    Err(_) => {}
                }
            }
        });
        Ok(believed)
    }
}

/// Believes what a file says now, if that is something else; gives what was believed last.
fn take_over(believed: &RenewableAuthorities, last: String, next: String, file: &Path) -> String {
    if next == last {
        return last;
    }
    match believed.trust(&next) {
        Ok(()) => {
            tracing::info!(file = %file.display(), "other authorities of clients are believed");
            next
        }
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "the new authorities of clients are unusable, those before stay");
            last
        }
    }
}

/// A certificate for those who call the server by some names; by its own where none are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFiles {
    files: CertificateFiles,
    names: Vec<String>,
}

impl NamedFiles {
    /// Reads `certificate,key` and `certificate,key:name,…`.
    ///
    /// # Errors
    /// In upstream's words, when it is something else.
    pub fn parse(given: &str) -> Result<Self> {
        let (pair, names) = match given.split_once(':') {
            Some((pair, names)) => {
                ensure!(!names.trim().is_empty(), "empty names list is not allowed");
                (pair, names.split(',').map(|name| name.trim().to_owned()).collect())
            }
            None => (given, Vec::new()),
        };
        let Some((certificate, key)) = pair.split_once(',').filter(|(_, key)| !key.contains(',')) else {
            bail!("expected comma separated certificate and key file paths")
        };
        Ok(NamedFiles { files: CertificateFiles { certificate: certificate.trim().into(), key: key.trim().into() }, names })
    }
}

/// The certificates of the API server that lie in files: one in place of its own, and those for other names.
struct Chosen {
    usual: Option<CertificateFiles>,
    named: Vec<NamedFiles>,
}

fn chosen(config: &Config) -> Result<Chosen> {
    let usual = config.api.tls_cert_file.clone().zip(config.api.tls_private_key_file.clone());
    let named = config.api.tls_sni_cert_key.iter().flatten().map(|given| NamedFiles::parse(given));
    let mut named: Vec<NamedFiles> = named.collect::<Result<Vec<_>>>().context("--tls-sni-cert-key")?;
    // Names that are told go before those that certificates tell.
    named.sort_by_key(|one| one.names.is_empty());
    Ok(Chosen { usual: usual.map(|(certificate, key)| CertificateFiles { certificate, key }), named })
}

/// Whether what lies in those files is usable.
///
/// # Errors
/// When it is not.
pub fn check(config: &Config) -> Result<()> {
    let chosen = chosen(config)?;
    chosen.usual.iter().chain(chosen.named.iter().map(|one| &one.files)).try_for_each(|files| files.show().map(drop))
}

/// Certificates for those who call an address of the server.
pub type ByAddress = BTreeMap<IpAddr, Arc<RenewableCertificate>>;

/// The addresses among the names of a certificate, and the names of DNS.
fn addresses_and_names(names: Vec<String>) -> (Vec<IpAddr>, Vec<String>) {
    let (addresses, names): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name.parse::<IpAddr>().is_ok());
    (addresses.iter().filter_map(|address| address.parse().ok()).map(|address: IpAddr| address.to_canonical()).collect(), names)
}

/// What the API server shows: `own` where no files say otherwise. Must be called within a tokio runtime.
///
/// # Errors
/// When what lies in a file is unusable.
pub fn certificates(config: &Config, own: Arc<RenewableCertificate>) -> Result<(NamedCertificates, ByAddress)> {
    let chosen = chosen(config)?;
    let usual = match chosen.usual {
        Some(files) => files.follow()?.0,
        None => own,
    };
    let (mut named, mut by_address) = (Vec::new(), ByAddress::new());
    for NamedFiles { files, names } in chosen.named {
        let (shown, read) = files.follow()?;
        let (addresses, own_names) = addresses_and_names(names.clone());
        for address in addresses {
            by_address.entry(address).or_insert_with(|| shown.clone());
        }
        named.push((if names.is_empty() { server_names(&read.certificate_pem) } else { own_names }, shown));
    }
    Ok((NamedCertificates::new(usual, named), by_address))
}

#[cfg(test)]
mod tests {
    use troupe_api::auth::pki::self_signed;

    use super::*;

    #[test]
    fn names_may_be_addresses() {
        let names = ["a.example", "192.0.2.7", "2001:db8::7"].map(str::to_owned).to_vec();
        let addresses = ["192.0.2.7", "2001:db8::7"].map(|address| address.parse::<IpAddr>().expect("an address"));
        assert_eq!(addresses_and_names(names), (addresses.to_vec(), vec!["a.example".to_owned()]));
    }

    #[test]
    fn files_are_named_as_upstream_names_them() {
        let files = CertificateFiles { certificate: "/a.crt".into(), key: "/a.key".into() };
        let parsed = |given: &str| NamedFiles::parse(given).map_err(|error| error.to_string());
        assert_eq!(parsed("/a.crt,/a.key"), Ok(NamedFiles { files: files.clone(), names: Vec::new() }));
        assert_eq!(parsed("/a.crt, /a.key:*.foo.com, foo.com"), Ok(NamedFiles { files, names: vec!["*.foo.com".into(), "foo.com".into()] }));
        assert_eq!(parsed("/a.crt,/a.key:"), Err("empty names list is not allowed".into()));
        for odd in ["", "/a.crt", "/a,/b,/c"] {
            assert_eq!(parsed(odd), Err("expected comma separated certificate and key file paths".into()), "{odd}");
        }
    }

    #[test]
    fn authorities_of_clients_are_those_of_the_file_while_it_is_usable() {
        let place = tempfile::tempdir().expect("a directory");
        let file = AuthoritiesFile(place.path().join("ca"));
        assert!(file.believe(&TlsPolicy::default()).is_err(), "there is none");
        let [one, two] = ["one", "two"].map(|name| self_signed(name).expect("makes").certificate_pem);
        fs::write(&file.0, &one).expect("writes");
        let (believed, last) = file.believe(&TlsPolicy::default()).expect("usable");
        assert_eq!(take_over(&believed, last, "odd".into(), &file.0), one, "what is unusable is tried again when it changes");
        assert_eq!(take_over(&believed, one, two.clone(), &file.0), two);
    }

    #[test]
    fn what_lies_in_files_is_shown_where_it_is_usable() {
        let place = tempfile::tempdir().expect("a directory");
        let files = CertificateFiles { certificate: place.path().join("crt"), key: place.path().join("key") };
        let odd = |files: &CertificateFiles| files.show().map(drop).expect_err("unusable").to_string();
        assert!(odd(&files).contains("is not readable"));
        let made = self_signed("me.example").expect("makes");
        fs::write(&files.certificate, &made.certificate_pem).and_then(|()| fs::write(&files.key, &made.key_pem)).expect("writes");
        assert!(files.show().expect("is usable").1 == made);
        fs::write(&files.key, "odd").expect("writes");
        assert!(odd(&files).contains("are unusable"));
    }
}
