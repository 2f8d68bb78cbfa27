//! What seals the cluster's state, as the configuration says.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use troupe_api::resources::builtin;
use troupe_api_server::{
    encryption::{EncryptionConfiguration, EncryptionHealth, EncryptionRules, Loaded},
    store::Store,
};

use crate::config::Config;

/// How often the file is looked at, as upstream.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The store as the API server sees it, and what tells of the services that keep its keys.
///
/// # Errors
/// When the configuration is unusable.
pub async fn over(config: &Config, store: Arc<dyn Store>) -> Result<(Arc<dyn Store>, Option<EncryptionHealth>)> {
    let Some(file) = &config.api.encryption_provider_config else { return Ok((store, None)) };
    let loaded = Loaded::open(file, reloads(config)).await.with_context(|| unusable(file))?;
    let (sealed, health) = (loaded.store(store, &builtin()), loaded.health());
    if let Some(reloader) = loaded.reloader() {
        // It ends with the process.
        tokio::spawn(reloader.run(LOOK_EVERY));
    }
    Ok((Arc::new(sealed), health))
}

/// Whether the file can be used; services that keep keys are not asked.
///
/// # Errors
/// When it cannot.
pub(super) fn check(config: &Config) -> Result<()> {
    let Some(file) = &config.api.encryption_provider_config else { return Ok(()) };
    let configuration = EncryptionConfiguration::from_file(file, reloads(config));
    configuration.and_then(|configuration| EncryptionRules::new(&configuration)).map(drop).with_context(|| unusable(file))
}

fn reloads(config: &Config) -> bool {
    config.api.encryption_provider_config_automatic_reload.unwrap_or(false)
}

fn unusable(file: &Path) -> String {
    format!("the encryption configuration {} is unusable", file.display())
}
