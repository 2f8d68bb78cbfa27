//! The commit: compare-and-swap in the store, then wait until the watch cache shows it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use troupe_api::{
    meta::{
        Cause, Clock, Object, ObjectKey, Revision,
        limits::{Excess, MAX_STORED, MAX_STORED_DEPTH, is_deeper},
    },
    resources::Resource,
    status::Status,
    stored::{StoredObject, encode_for_store},
};
use troupe_api_server::store::{KeyValue, Store, StoreError, keys};

use super::{
    cache::{Announce, Route, Withdraw},
    hops::HopRecorder,
    listers::CacheListers,
    store_status::store_status,
};

/// How long a reply waits for the cache; the write itself is durable by then.
const WAIT_APPLIED: Duration = Duration::from_secs(10);

/// Why a commit did not happen.
pub enum CommitError {
    /// Somebody was faster; this is what the key holds now.
    Lost(Option<KeyValue>),
    /// It may have happened, or still happen. What it depends on must stay as it is.
    Unclear(Status),
    Failed(Status),
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { current } => CommitError::Lost(current),
            unclear @ StoreError::Unknown(_) => CommitError::Unclear(store_status(unclear)),
            other => CommitError::Failed(store_status(other)),
        }
    }
}

/// The bytes of an object that may be stored: whatever made it, it must be readable again, and no larger than etcd takes.
fn storable(object: &Object) -> Result<Bytes, Status> {
    if object.root().values().any(|value| is_deeper(value, MAX_STORED_DEPTH - 1)) {
        return Err(Status::bad_request(format!("the object {}", Excess::Depth)));
    }
    let value = encode_for_store(object);
    if value.len() > MAX_STORED { Err(Status::too_large(format!("limit is {MAX_STORED}"))) } else { Ok(value) }
}

/// The stored form of a commit's value, as the store handed it back.
pub fn stored(resource: &Resource, kv: KeyValue) -> Result<Arc<StoredObject>, Status> {
    resource.read(kv.value, kv.mod_revision).map(Arc::new).map_err(Status::internal)
}

/// The one who writes objects to the store.
pub struct Committer {
    store: Arc<dyn Store>,
    listers: Arc<CacheListers>,
    clock: Arc<dyn Clock>,
    recorder: HopRecorder,
    /// How long events are kept.
    event_ttl: Duration,
}

impl Committer {
    pub fn new(store: Arc<dyn Store>, listers: Arc<CacheListers>, clock: Arc<dyn Clock>, recorder: HopRecorder, event_ttl: Duration) -> Self {
        Committer { store, listers, clock, recorder, event_ttl }
    }

    /// Writes `object`, which is in its stored form, where nothing stands.
    pub async fn create(&self, resource: &Resource, object: &Object, cause: &Cause) -> Result<Arc<StoredObject>, CommitError> {
        let value = storable(object).map_err(CommitError::Failed)?;
        let key = keys::object(&resource.storage_prefix, &object.key());
        let route = self.listers.route(resource).map_err(CommitError::Failed)?;
        let begun = self.clock.instant();
        announce(&route, &key, &value, cause);
        let written = self.store.create(key.clone(), value.clone(), keys::time_to_live(&key, self.event_ttl)).await;
        self.applied(Written { route, key, value, object: object.key(), begun, cause }, written).await
    }

    /// Replaces the version at `expected` with `object`, which is in its stored form.
    pub async fn update(&self, resource: &Resource, object: &Object, expected: Revision, cause: &Cause) -> Result<Arc<StoredObject>, CommitError> {
        let value = storable(object).map_err(CommitError::Failed)?;
        let key = keys::object(&resource.storage_prefix, &object.key());
        let route = self.listers.route(resource).map_err(CommitError::Failed)?;
        let begun = self.clock.instant();
        announce(&route, &key, &value, cause);
        let written = self.store.update(key.clone(), value.clone(), expected, keys::time_to_live(&key, self.event_ttl)).await;
        self.applied(Written { route, key, value, object: object.key(), begun, cause }, written).await
    }

    /// Whether the same content would lie otherwise in the store if it were written now: with another key.
    pub async fn is_stale(&self, resource: &Resource, key: &ObjectKey) -> Result<bool, CommitError> {
        Ok(self.store.is_stale(&keys::object(&resource.storage_prefix, key)).await?)
    }

    /// Removes the version at `expected`; the revision is the deletion's.
    pub async fn delete(&self, resource: &Resource, key: &ObjectKey, expected: Revision, cause: &Cause) -> Result<Revision, CommitError> {
        let store_key = keys::object(&resource.storage_prefix, key);
        let route = self.listers.route(resource).map_err(CommitError::Failed)?;
        let begun = self.clock.instant();
        announce(&route, &store_key, &Bytes::new(), cause);
        match self.store.delete(store_key.clone(), expected).await {
            Ok(revision) => {
                self.recorder.committed(resource, key, revision, cause, self.clock.instant().saturating_duration_since(begun));
                wait_applied(&route, revision).await;
                Ok(revision)
            }
            Err(error) => {
                withdraw(&route, store_key, Bytes::new());
                Err(error.into())
            }
        }
    }

    async fn applied(&self, write: Written<'_>, result: Result<Revision, StoreError>) -> Result<Arc<StoredObject>, CommitError> {
        let Written { route, key, value, object, begun, cause } = write;
        let revision = match result {
            Ok(revision) => revision,
            Err(error) => {
                withdraw(&route, key, value);
                return Err(error.into());
            }
        };
        let took = self.clock.instant().saturating_duration_since(begun);
        self.recorder.committed(&route.cache.resource, &object, revision, cause, took);
        wait_applied(&route, revision).await;
        // Shared with the cache, unless somebody wrote again meanwhile.
        match route.cache.get(&object) {
            Some(object) if object.revision == revision => Ok(object),
            _ => StoredObject::new(value, revision).map(Arc::new).map_err(|error| CommitError::Failed(Status::internal(error))),
        }
    }
}

/// A value on its way through the store.
struct Written<'a> {
    route: Route,
    key: Bytes,
    value: Bytes,
    object: ObjectKey,
    begun: Instant,
    cause: &'a Cause,
}

async fn wait_applied(route: &Route, revision: Revision) {
    if tokio::time::timeout(WAIT_APPLIED, route.cache.shows(revision)).await.is_err() {
        tracing::warn!(resource = ?route.cache.resource, %revision, "the watch cache lags behind a committed write");
    }
}

fn announce(route: &Route, key: &Bytes, value: &Bytes, cause: &Cause) {
    if cause.trace != 0 {
        // Without it the watch items merely carry no cause.
        route.actor.wake(Announce { key: key.clone(), value: value.clone(), cause: cause.clone() }, Cause::default());
    }
}

fn withdraw(route: &Route, key: Bytes, value: Bytes) {
    route.actor.wake(Withdraw { key, value }, Cause::default());
}
