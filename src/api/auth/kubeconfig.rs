//! Writing and reading the admin kubeconfig.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use thiserror::Error;

use super::pki::{KeyedCertificate, PkiError, write_private};
use crate::schema::{DecodeError, Format, decode::parse_value, to_yaml};

/// What a kubeconfig says about one cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// `https://127.0.0.1:6443`
    pub server: String,
    pub ca_pem: String,
    pub identity: KeyedCertificate,
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, Error)]
pub enum KubeconfigError {
    #[error("cannot read the kubeconfig")]
    Io(#[from] std::io::Error),
    #[error("the kubeconfig is no valid YAML")]
    Yaml(#[from] DecodeError),
    #[error("the kubeconfig's current context lacks {0}")]
    Missing(&'static str),
}

impl Kubeconfig {
    /// Writes the file (0600) with one cluster, user and context, all called `name`.
    pub fn write(&self, path: &Path, name: &str) -> Result<(), PkiError> {
        let encode = |pem: &str| BASE64_STANDARD.encode(pem);
        let document = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": self.server, "certificate-authority-data": encode(&self.ca_pem)}}],
            "users": [{"name": name, "user": {
                "client-certificate-data": encode(&self.identity.certificate_pem),
                "client-key-data": encode(&self.identity.key_pem),
            }}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        });
        let text = to_yaml(&document);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|source| PkiError::Io { path: parent.to_owned(), source })?;
        }
        write_private(path, text.as_bytes())
    }

    /// Reads the current context of a kubeconfig with embedded certificates.
    pub fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let document = parse_value(&std::fs::read(path)?, Format::Yaml)?;
        let context = document["current-context"].as_str().ok_or(KubeconfigError::Missing("current-context"))?;
        let named = |list: &str, name: &str| document[list].as_array().and_then(|items| items.iter().find(|item| item["name"] == name).cloned());
        let context = named("contexts", context).ok_or(KubeconfigError::Missing("its context"))?;
        let part = |kind: &str| context["context"][kind].as_str().unwrap_or_default().to_owned();
        let cluster = named("clusters", &part("cluster")).ok_or(KubeconfigError::Missing("a cluster"))?;
        let user = named("users", &part("user")).ok_or(KubeconfigError::Missing("a user"))?;
        let decode = |value: &Value, what| {
            let bytes = value.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()).ok_or(KubeconfigError::Missing(what))?;
            String::from_utf8(bytes).map_err(|_| KubeconfigError::Missing(what))
        };
        Ok(Kubeconfig {
            server: cluster["cluster"]["server"].as_str().ok_or(KubeconfigError::Missing("a server"))?.to_owned(),
            ca_pem: decode(&cluster["cluster"]["certificate-authority-data"], "certificate-authority-data")?,
            identity: KeyedCertificate {
                certificate_pem: decode(&user["user"]["client-certificate-data"], "client-certificate-data")?,
                key_pem: decode(&user["user"]["client-key-data"], "client-key-data")?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_reads_back_as_written() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("deep/admin.kubeconfig");
        let identity = KeyedCertificate { certificate_pem: "C".into(), key_pem: "K".into() };
        Kubeconfig { server: "https://x:1".into(), ca_pem: "A".into(), identity }.write(&path, "troupe").expect("writes");
        let read = Kubeconfig::read(&path).expect("reads");
        assert_eq!((read.server.as_str(), read.ca_pem.as_str(), read.identity.key_pem.as_str()), ("https://x:1", "A", "K"));
    }
}
