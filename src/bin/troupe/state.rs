//! Where the cluster's state lies: in etcd where it is configured, else in the data directory.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use troupe_api::auth::pki::KeyedCertificate;
use troupe_api_server::store::{
    Store,
    embedded::{EmbeddedOptions, EmbeddedStore},
    etcd::{EtcdOptions, EtcdStore, EtcdTls},
};

use crate::config::Config;

/// The etcd to use, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdConfig {
    pub servers: Vec<String>,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl EtcdConfig {
    /// Refuses combinations that cannot work.
    pub fn check(self) -> Result<Self> {
        if let Some(odd) = self.servers.iter().find(|server| !server.starts_with("http://") && !server.starts_with("https://")) {
            bail!("the etcd server {odd} is no URL: write http://HOST:2379 or https://HOST:2379");
        }
        let secure = self.servers.iter().filter(|server| server.starts_with("https://")).count();
        if secure != 0 && secure != self.servers.len() {
            bail!("some etcd servers are https and some http; make them all the same");
        }
        if secure != 0 && self.ca_file.is_none() {
            bail!("https etcd servers need --etcd-cafile, the CA that signs their certificates");
        }
        if secure == 0 && (self.ca_file.is_some() || self.cert_file.is_some() || self.key_file.is_some()) {
            bail!("certificates for etcd are given, but its servers are http: write https");
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            bail!("--etcd-certfile and --etcd-keyfile belong together; only one is given");
        }
        Ok(self)
    }

    /// How the store reaches it.
    pub fn options(&self) -> Result<EtcdOptions> {
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let mut options = EtcdOptions::new(self.servers.clone());
        if let Some(ca) = &self.ca_file {
            let identity = match (&self.cert_file, &self.key_file) {
                (Some(certificate), Some(key)) => Some(KeyedCertificate { certificate_pem: read(certificate)?, key_pem: read(key)? }),
                _ => None,
            };
            options.tls = Some(EtcdTls { ca_pem: read(ca)?, identity });
        }
        Ok(options)
    }
}

/// The embedded store's directory.
pub fn embedded_dir(config: &Config) -> PathBuf {
    store_dir(&config.data_dir)
}

/// That of a cluster with this data directory.
pub fn store_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// Opens the cluster's state.
pub async fn open(config: &Config) -> Result<Arc<dyn Store>> {
    if let Some(etcd) = &config.etcd {
        return Ok(Arc::new(EtcdStore::connect(etcd.options()?).await?));
    }
    let path = embedded_dir(config);
    let history_on_disk = config.store_history_megabytes.map(|megabytes| megabytes.saturating_mul(1 << 20));
    let options = EmbeddedOptions { history_on_disk, ..EmbeddedOptions::default() };
    let store = EmbeddedStore::open_with(&path, options).with_context(|| format!("cannot open the cluster's state in {}", path.display()))?;
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(servers: &[&str], files: [Option<&str>; 3]) -> Result<EtcdConfig, String> {
        let [ca_file, cert_file, key_file] = files.map(|file| file.map(PathBuf::from));
        let servers = servers.iter().map(|server| (*server).to_owned()).collect();
        EtcdConfig { servers, ca_file, cert_file, key_file }.check().map_err(|error| error.to_string())
    }

    #[test]
    fn combinations_that_cannot_work_are_refused_in_words() {
        let refused = |servers: &[&str], files, words: &str| {
            let error = check(servers, files).expect_err("must be refused");
            assert!(error.contains(words), "{error}");
        };
        refused(&["10.0.0.1:2379"], [None; 3], "is no URL");
        refused(&["https://a:2379", "http://b:2379"], [Some("ca"), None, None], "all the same");
        refused(&["https://a:2379"], [None; 3], "--etcd-cafile");
        refused(&["http://a:2379"], [Some("ca"), None, None], "write https");
        refused(&["https://a:2379"], [Some("ca"), Some("crt"), None], "belong together");
        assert!(check(&["https://a:2379", "https://b:2379"], [Some("ca"), Some("crt"), Some("key")]).is_ok());
        assert!(check(&["http://a:2379"], [None; 3]).is_ok());
    }
}
