//! Restoring a backup into etcd.
//!
//! etcd offers no way to set its revision, so it is moved ahead by writes that mean nothing. While a restore is under way
//! a mark says so, and nobody connects; who finds the mark afterwards knows that it was interrupted.

use std::io::Read;

use etcd_client::{DeleteOptions, GetOptions};
use futures::{StreamExt, stream};
use troupe_api::meta::Revision;

use super::{
    EtcdOptions, EtcdStore,
    fault::Fault,
    get,
    members::{PATIENT, QUICK, write_error},
};
use crate::store::{
    Store, StoreError,
    backup::{BackupReader, RestoreError, RestoreOptions, Restored, fill},
    keys,
};

/// Stands while a restore is under way.
pub(super) const RESTORING_KEY: &str = "/troupe/restoring";
/// Written over and over to move the revision ahead.
const REVISION_KEY: &str = "/troupe/revision";
/// Such writes at once.
const AT_ONCE: usize = 512;
/// Such writes between two looks at the revision.
const STRIDE: u64 = 20_000;

impl EtcdStore {
    /// Restores a backup into a cluster that holds no key of the API's, unless forced. No API server may run on it.
    /// `moved` hears now and then how far the revision is, and how far it has to go.
    ///
    /// # Errors
    /// When the cluster is not empty or not reachable, or the backup is damaged. What was written stays, with a mark that
    /// keeps everybody out until a restore is complete.
    pub async fn restore<R: Read>(
        to: EtcdOptions,
        backup: &mut BackupReader<R>,
        options: RestoreOptions,
        mut moved: impl FnMut(Revision, Revision),
    ) -> Result<Restored, RestoreError> {
        let store = EtcdStore::open(to).await?;
        let keys = store.count().await?;
        let interrupted = store.is_marked(RESTORING_KEY).await?;
        if keys > 0 && !options.force {
            return Err(RestoreError::NotEmpty { keys });
        }
        store.set(RESTORING_KEY, "1").await?;
        if keys > 0 || interrupted {
            store.remove(keys::ROOT, DeleteOptions::new().with_prefix()).await?;
        }
        let newest = store.current_revision().await?.max(backup.head().revision);
        store.advance(Revision(newest.0 + options.margin), &mut moved).await?;
        let mut restored = fill(&store, backup).await?;
        store.remove(REVISION_KEY, DeleteOptions::new()).await?;
        store.remove(RESTORING_KEY, DeleteOptions::new()).await?;
        restored.revision = store.current_revision().await?;
        store.compact(restored.revision).await?;
        store.defragment().await;
        Ok(restored)
    }

    /// How many keys of the API's there are.
    async fn count(&self) -> Result<u64, StoreError> {
        let options = GetOptions::new().with_prefix().with_count_only();
        let reply = get(&self.members, PATIENT, keys::ROOT.into(), options).await.map_err(super::read_error)?;
        Ok(u64::try_from(reply.count()).unwrap_or(0))
    }

    pub(super) async fn is_marked(&self, key: &'static str) -> Result<bool, StoreError> {
        let reply = get(&self.members, QUICK, key.into(), GetOptions::new()).await.map_err(super::read_error)?;
        Ok(!reply.kvs().is_empty())
    }

    async fn set(&self, key: &'static str, value: &'static str) -> Result<(), StoreError> {
        let written = self.members.write(|member| {
            let mut kv = member.kv.clone();
            async move { kv.put(key, value, None).await }
        });
        written.await.map(drop).map_err(write_error)
    }

    async fn remove(&self, key: &'static str, options: DeleteOptions) -> Result<(), StoreError> {
        let removed = self.members.write(|member| {
            let (mut kv, options) = (member.kv.clone(), options.clone());
            async move { kv.delete(key, Some(options)).await }
        });
        removed.await.map(drop).map_err(write_error)
    }

    /// Moves the cluster's revision to `target`.
    async fn advance(&self, target: Revision, moved: &mut impl FnMut(Revision, Revision)) -> Result<(), StoreError> {
        loop {
            let now = self.current_revision().await?;
            moved(now, target);
            if now >= target {
                return Ok(());
            }
            let count = (target.0 - now.0).min(STRIDE);
            let mut writes = stream::iter(0..count).map(|_| self.set(REVISION_KEY, "")).buffer_unordered(AT_ONCE);
            while let Some(written) = writes.next().await {
                match written {
                    // The next look at the revision tells whether it happened.
                    Ok(()) | Err(StoreError::Unknown(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Gives the room of compacted revisions back. That it fails harms nobody.
    async fn defragment(&self) {
        for member in self.members.all() {
            if let Err(error) = member.maintenance.clone().defragment().await {
                tracing::warn!(endpoint = member.endpoint, error = ?Fault::of(&error), "an etcd member cannot be defragmented");
            }
        }
    }
}
