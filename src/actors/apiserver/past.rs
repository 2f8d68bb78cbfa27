//! Reads of the past: a resource, or a namespace of it, as it was at a revision that no snapshot in memory shows any more.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use troupe_api::{aside, meta::Revision, resources::Resource};
use troupe_api_server::store::{KeyValue, RangeRequest, Store, StoreError, keys, prefix_end};

use super::cache::Snapshot;

/// Why there is no such read.
#[derive(Debug)]
pub enum PastError {
    /// The store has forgotten the revision.
    Compacted,
    /// The store has not reached it.
    Future,
    Store(StoreError),
    /// An object that does not decode.
    Undecodable(String),
}

impl From<StoreError> for PastError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted { .. } => PastError::Compacted,
            StoreError::FutureRevision(_) => PastError::Future,
            error => PastError::Store(error),
        }
    }
}

/// What was read: prefix of keys, and revision.
type Asked = (bytes::Bytes, Revision);

/// Reads the past. Reading and decoding what may be all objects of a resource takes its time, so that it happens once at a time and aside,
/// and whoever asks for the same meanwhile gets the same.
pub struct Past {
    store: Arc<dyn Store>,
    turn: Semaphore,
    /// The last one that was read, as long as somebody uses it.
    last: Mutex<Option<(Asked, Weak<Snapshot>)>>,
}

impl Past {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Past { store, turn: Semaphore::new(1), last: Mutex::default() }
    }

    /// The objects of a namespace, or all where it is empty, at exactly `revision`.
    ///
    /// # Errors
    /// See [`PastError`].
    pub async fn read(&self, resource: &Arc<Resource>, namespace: &str, revision: Revision) -> Result<Arc<Snapshot>, PastError> {
        let start = keys::namespace(&resource.storage_prefix, namespace);
        let asked = (start.clone(), revision);
        // Nobody closes it.
        let _turn = self.turn.acquire().await.ok();
        if let Some(snapshot) = self.last.lock().as_ref().filter(|(known, _)| *known == asked).and_then(|(_, snapshot)| snapshot.upgrade()) {
            return Ok(snapshot);
        }
        let range = self.store.range(RangeRequest { end: prefix_end(&start), start, limit: 0, at: Some(revision) }).await?;
        let bytes = range.items.iter().map(|kv| kv.value.len()).sum();
        let resource = resource.clone();
        let snapshot = Arc::new(aside::compute(bytes, move || decode(&resource, range.items, revision)).await?);
        *self.last.lock() = Some((asked, Arc::downgrade(&snapshot)));
        Ok(snapshot)
    }

    /// Whether the store has not forgotten a revision.
    ///
    /// # Errors
    /// See [`PastError`].
    pub async fn remembers(&self, resource: &Resource, revision: Revision) -> Result<bool, PastError> {
        let start = keys::resource(&resource.storage_prefix);
        match self.store.range(RangeRequest { end: prefix_end(&start), start, limit: 1, at: Some(revision) }).await.map_err(PastError::from) {
            Ok(_) => Ok(true),
            Err(PastError::Compacted) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn decode(resource: &Resource, items: Vec<KeyValue>, revision: Revision) -> Result<Snapshot, PastError> {
    let mut snapshot = Snapshot { revision, ..Snapshot::default() };
    for kv in items {
        let Some(key) = keys::parse(&resource.storage_prefix, &kv.key) else { continue };
        let object = resource.read(kv.value, kv.mod_revision).map_err(|error| PastError::Undecodable(error.to_string()))?;
        snapshot.insert(key, Arc::new(object));
    }
    Ok(snapshot)
}
