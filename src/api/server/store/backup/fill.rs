//! Restoring: every record of a backup written into a store whose revision has been moved far ahead.
//!
//! Clients that remember revisions from before must not find them valid: the new revisions lie behind all that was ever
//! handed out, and the past is compacted, so their watches get 410 and they list again.

use std::io::Read;

use futures::{StreamExt, stream::FuturesUnordered};
use thiserror::Error;
use troupe_api::meta::Revision;

use super::{BackupError, BackupReader};
use crate::store::{
    Store, StoreError, keys,
    open_errors::{ConnectError, OpenError},
};

/// Writes at once.
const AT_ONCE: usize = 128;

/// How a backup is restored.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOptions {
    /// How far behind the backup's revision (or the store's, if that is newer) the new ones begin: more than were
    /// handed out since the backup was taken.
    pub margin: u64,
    /// Replace what is there.
    pub force: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions { margin: 1_000_000, force: false }
    }
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub records: u64,
    /// The store's revision now; everything before is compacted.
    pub revision: Revision,
}

/// Why nothing, or not everything, was restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    #[error("there are {keys} objects in it already")]
    NotEmpty { keys: u64 },
    #[error("the backup cannot be read")]
    Backup(#[from] BackupError),
    #[error("the store does not take it")]
    Store(#[from] StoreError),
    #[error("the embedded store cannot be opened")]
    Open(#[from] OpenError),
    #[error("etcd cannot be used")]
    Connect(#[from] ConnectError),
    #[error("the store's directory cannot be put in place")]
    Io(#[from] std::io::Error),
}

/// Writes all records and compacts the past. `store` is empty and stands at a revision behind every one handed out.
///
/// # Errors
/// When the backup is damaged, or the store does not take a record.
pub async fn fill<R: Read>(store: &dyn Store, backup: &mut BackupReader<R>) -> Result<Restored, RestoreError> {
    let (mut writes, mut records) = (FuturesUnordered::new(), 0);
    while let Some(kv) = backup.next_record()? {
        records += 1;
        let ttl = keys::time_to_live(&kv.key, keys::EVENT_TTL);
        writes.push(store.create(kv.key, kv.value, ttl));
        if writes.len() >= AT_ONCE
            && let Some(written) = writes.next().await
        {
            written?;
        }
    }
    while let Some(written) = writes.next().await {
        written?;
    }
    let revision = store.current_revision().await?;
    store.compact(revision).await?;
    Ok(Restored { records, revision })
}
