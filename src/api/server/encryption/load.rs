//! A configuration as a file has it, checked.

use std::path::Path;

use troupe_api::{
    document::{self, FileError},
    status::aggregate,
};

use super::{config::EncryptionConfiguration, validation};

/// Why a configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionConfigError {
    #[error("error while parsing file: {0}")]
    File(#[from] FileError),
    #[error("error while parsing file: {0}")]
    Invalid(String),
    #[error("error while building transformers: {0}")]
    Unusable(String),
}

impl EncryptionConfiguration {
    /// Reads a file. With `reload`, what could not be exchanged later is refused.
    ///
    /// # Errors
    /// When the file cannot be read, or says what cannot work.
    pub fn from_file(path: &Path, reload: bool) -> Result<Self, EncryptionConfigError> {
        let configuration = document::read_file::<EncryptionConfiguration>(path)?;
        configuration.checked(reload)
    }

    /// The same of text that was read of `path`.
    ///
    /// # Errors
    /// When it says what cannot work.
    pub fn parse(path: &Path, text: &str, reload: bool) -> Result<Self, EncryptionConfigError> {
        document::parse::<EncryptionConfiguration>(path, text)?.checked(reload)
    }

    fn checked(self, reload: bool) -> Result<Self, EncryptionConfigError> {
        let errors = validation::faults(&self, reload);
        if errors.is_empty() {
            return Ok(self);
        }
        Err(EncryptionConfigError::Invalid(aggregate(&errors.iter().map(ToString::to_string).collect::<Vec<_>>())))
    }
}
