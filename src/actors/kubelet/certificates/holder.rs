//! Where certificates are kept and used: a kubeconfig for the client's, a pair of files and the TLS server for the other.

use std::{fs, path::PathBuf, sync::Arc};

use thiserror::Error;
use troupe_api::auth::{
    kubeconfig::{Kubeconfig, KubeconfigError},
    pki::{KeyedCertificate, PkiError, write_private},
    tls::{RenewableCertificate, TlsError},
};

use crate::files::Directory;

/// Why a certificate could not be put to use.
#[derive(Debug, Error)]
pub enum HolderError {
    #[error("cannot write the certificate")]
    Write(#[from] PkiError),
    #[error("cannot read what the certificate is to be written to")]
    Read(#[from] KubeconfigError),
    #[error("the certificate cannot be used")]
    Tls(#[from] TlsError),
}

/// Holds a certificate.
pub trait Holder: Send + Sync + 'static {
    /// The one in use.
    fn current(&self) -> Option<Arc<KeyedCertificate>>;

    /// Keeps a new one and puts it to use. Blocks for a write of a small file.
    fn hold(&self, made: &KeyedCertificate) -> Result<(), HolderError>;
}

/// The node's kubeconfig. Who reads it notices that it changed.
pub struct KubeconfigHolder {
    pub path: PathBuf,
}

impl Holder for KubeconfigHolder {
    fn current(&self) -> Option<Arc<KeyedCertificate>> {
        Some(Arc::new(Kubeconfig::read(&self.path).ok()?.identity))
    }

    fn hold(&self, made: &KeyedCertificate) -> Result<(), HolderError> {
        let known = Kubeconfig::read(&self.path)?;
        Ok(Kubeconfig { identity: made.clone(), ..known }.write(&self.path, "kubelet")?)
    }
}

/// The certificate of the node's own server: one PEM file with certificate and key, and the server that shows it.
pub struct ServingHolder {
    path: PathBuf,
    shown: Arc<RenewableCertificate>,
}

impl ServingHolder {
    /// Shows what the file holds from an earlier start.
    pub fn new(path: PathBuf, shown: Arc<RenewableCertificate>) -> Self {
        let holder = ServingHolder { path, shown };
        if let Some(known) = holder.current()
            && let Err(error) = holder.shown.show(&known)
        {
            tracing::warn!(%error, path = %holder.path.display(), "the serving certificate on disk is unusable");
        }
        holder
    }
}

impl Holder for ServingHolder {
    fn current(&self) -> Option<Arc<KeyedCertificate>> {
        let text = fs::read_to_string(&self.path).ok()?;
        let key_at = text.find("-----BEGIN PRIVATE KEY-----")?;
        let (certificate, key) = text.split_at(key_at);
        Some(Arc::new(KeyedCertificate { certificate_pem: certificate.to_owned(), key_pem: key.to_owned() }))
    }

    fn hold(&self, made: &KeyedCertificate) -> Result<(), HolderError> {
        self.shown.show(made)?;
        if let Some(parent) = self.path.parent() {
            Directory::make(parent, 0o700).map_err(|source| PkiError::Io { path: parent.to_owned(), source })?;
        }
        let text = format!("{}\n{}", made.certificate_pem.trim_end(), made.key_pem);
        Ok(write_private(&self.path, text.as_bytes())?)
    }
}
