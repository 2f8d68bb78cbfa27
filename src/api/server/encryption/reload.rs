//! A configuration on disk, and the unit of work that looks for a new one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use troupe_api::{
    document::FileError,
    metrics::{Counter, Family, Gauge},
    resources::Resource,
};

use super::{
    config::EncryptionConfiguration,
    load::EncryptionConfigError,
    rules::EncryptionRules,
    store::{EncryptedStore, EncryptionHealth},
};
use crate::{
    reloading::{LABELS, ReloadMetrics},
    store::Store,
};

pub(super) static LAST: Family<Gauge> = Family::new(
    "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
    "Timestamp of the last successful or failed automatic reload of encryption configuration split by apiserver identity.",
    LABELS,
);
pub(super) static TOTAL: Family<Counter> = Family::new(
    "apiserver_encryption_config_controller_automatic_reloads_total",
    "Total number of reload successes and failures of encryption configuration split by apiserver identity.",
    LABELS,
);
static RELOADS: ReloadMetrics = ReloadMetrics { reloads: &TOTAL, last: &LAST };

/// The rules of a file.
pub struct Loaded {
    rules: Arc<ArcSwap<EncryptionRules>>,
    path: PathBuf,
    reload: bool,
    digest: [u8; 32],
}

fn read(path: &Path, reload: bool) -> Result<(EncryptionConfiguration, [u8; 32]), EncryptionConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| FileError::Read(path.to_owned(), error))?;
    Ok((EncryptionConfiguration::parse(path, &text, reload)?, Sha256::digest(&text).into()))
}

impl Loaded {
    /// Reads the file, and asks services that keep keys for the first. With `reload`, it may be exchanged later.
    ///
    /// # Errors
    /// When the file is unusable.
    pub async fn open(path: &Path, reload: bool) -> Result<Self, EncryptionConfigError> {
        let (configuration, digest) = read(path, reload)?;
        let rules = EncryptionRules::new(&configuration)?;
        rules.prime().await;
        Ok(Loaded { rules: Arc::new(ArcSwap::from_pointee(rules)), path: path.to_owned(), reload, digest })
    }

    /// The store as objects are read from it and written to it.
    pub fn store(&self, inner: Arc<dyn Store>, resources: &[Arc<Resource>]) -> EncryptedStore {
        EncryptedStore::new(inner, self.rules.clone(), resources)
    }

    /// What the health check of upstream's name asks; upstream has it where services keep keys, or may once.
    pub fn health(&self) -> Option<EncryptionHealth> {
        (self.reload || !self.rules.load().kms().is_empty()).then(|| EncryptionHealth(self.rules.clone()))
    }

    /// What looks for changes of the file, where that is wanted.
    pub fn reloader(self) -> Option<Reloader> {
        let Loaded { rules, path, reload, digest } = self;
        reload.then_some(Reloader { rules, path, digest })
    }
}

/// Exchanges the rules when their file changes. A file that is unusable changes nothing.
pub struct Reloader {
    rules: Arc<ArcSwap<EncryptionRules>>,
    path: PathBuf,
    digest: [u8; 32],
}

impl Reloader {
    /// Looks every so often, for ever.
    pub async fn run(mut self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            match self.look().await {
                Ok(false) => {}
                Ok(true) => {
                    RELOADS.note("success");
                    tracing::info!(file = %self.path.display(), "loaded new encryption config content");
                }
                Err(error) => {
                    RELOADS.note("failure");
                    tracing::error!(file = %self.path.display(), error, "the new encryption config is not used");
                }
            }
        }
    }

    /// Whether there was something new, which is used from now on.
    ///
    /// # Errors
    /// Why it is not used.
    pub async fn look(&mut self) -> Result<bool, String> {
        let (configuration, digest) = read(&self.path, true).map_err(|error| error.to_string())?;
        if digest == self.digest {
            return Ok(false);
        }
        let rules = EncryptionRules::new(&configuration).map_err(|error| error.to_string())?;
        rules.prime().await;
        // What could not be read with the new rules stays readable with the old.
        rules.check().await?;
        self.digest = digest;
        self.rules.store(Arc::new(rules));
        Ok(true)
    }
}
