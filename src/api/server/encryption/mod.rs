//! Encryption at rest: what lies in the store is sealed with keys that an administrator gives (`EncryptionConfiguration`).
//!
//! In: a configuration, and values on their way to and from a [`Store`](crate::store::Store). Out: the same in upstream's form, so that
//! either can read what the other wrote: the provider's and the key's name stand before the sealed bytes, and the object's key in the store
//! is authenticated with it (by aesgcm and kms). The first provider seals; all of them are tried for reading. Watch caches hold what was
//! read. Nothing here logs keys or values.

mod ciphers;
pub mod config;
pub mod kms;
mod load;
mod providers;
mod reload;
mod rules;
mod store;
#[cfg(test)]
mod tests;
mod validation;

pub use config::EncryptionConfiguration;
pub use load::EncryptionConfigError;
pub use reload::{Loaded, Reloader};
pub use rules::EncryptionRules;
pub use store::{EncryptedStore, EncryptionHealth};
use troupe_api::metrics::Collect;

/// Whether a value is sealed: one that comes so out of a store could not be opened.
pub fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(providers::SEALED)
}

/// What is counted of sealed values and of reloads.
pub static COLLECTORS: [&dyn Collect; 4] = [&providers::OPERATIONS, &providers::DURATIONS, &reload::LAST, &reload::TOTAL];
