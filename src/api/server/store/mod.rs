//! The store: one revision counter, compare-and-swap, ranges at a revision, watch from a revision, compaction.

pub mod backup;
pub mod embedded;
pub mod etcd;
pub mod keys;
pub mod memory;
pub mod metered;
pub mod open_errors;
pub mod size;
#[cfg(test)]
pub mod suite;
mod watchers;

use std::{ops::Bound, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;
use troupe_api::meta::Revision;

/// A key and its value at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// `previous` is the value that was replaced; `None` for a creation.
    Put { kv: KeyValue, previous: Option<KeyValue> },
    /// `revision` is the deletion's own; `previous` is what was deleted.
    Delete { key: Bytes, revision: Revision, previous: KeyValue },
}

impl StoreEvent {
    pub fn key(&self) -> &Bytes {
        match self {
            StoreEvent::Put { kv, .. } => &kv.key,
            StoreEvent::Delete { key, .. } => key,
        }
    }

    pub fn revision(&self) -> Revision {
        match self {
            StoreEvent::Put { kv, .. } => kv.mod_revision,
            StoreEvent::Delete { revision, .. } => *revision,
        }
    }

    /// How many bytes its values have, the one before the change too.
    pub fn value_bytes(&self) -> usize {
        match self {
            StoreEvent::Put { kv, previous } => kv.value.len() + previous.as_ref().map_or(0, |previous| previous.value.len()),
            StoreEvent::Delete { previous, .. } => previous.value.len(),
        }
    }
}

/// What a watch delivers: changes in revision order, each revision once, durable before delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchMessage {
    Events(Vec<StoreEvent>),
    /// Nothing up to and including this revision is missing.
    Progress(Revision),
    /// The watch ends: its next revision is compacted, or the watcher was too slow and must resume from what it saw last.
    Ended {
        compacted: Option<Revision>,
    },
}

/// A page of a range.
#[derive(Clone, Debug, Default)]
pub struct RangeReply {
    pub items: Vec<KeyValue>,
    /// More keys follow behind the limit.
    pub more: bool,
    /// How many keys the whole range holds at this revision.
    pub count: u64,
    /// The revision the range was read at.
    pub revision: Revision,
}

/// A range of keys.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    /// First key, inclusive.
    pub start: Bytes,
    /// End, exclusive. For a prefix use [`prefix_end`].
    pub end: Bytes,
    /// 0 means no limit.
    pub limit: usize,
    /// `None` reads the newest.
    pub at: Option<Revision>,
}

/// Why a store operation failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The compare failed. `current` is what the key holds now; `None` means nothing.
    #[error("the key is not at the expected revision")]
    Conflict { current: Option<KeyValue> },
    #[error("revision {requested} is compacted (oldest kept: {compacted})")]
    Compacted { requested: Revision, compacted: Revision },
    #[error("revision {0} is in the future")]
    FutureRevision(Revision),
    /// Below the free-space mark: only deletes and compaction write.
    #[error("the store has no space left")]
    NoSpace,
    /// The write may or may not have happened: read before writing again.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
    #[error("the store is not available: {0}")]
    Unavailable(String),
    #[error("the value is too large: {0}")]
    TooLarge(String),
    /// The store will never do it.
    #[error("the store refuses: {0}")]
    Refused(String),
    #[error("the store's data is damaged: {0}")]
    Corrupt(String),
    /// It was sealed with a key that is not known here, or cannot be sealed.
    #[error("unable to transform key {key:?}: {why}")]
    Untransformable { key: String, why: String },
}

/// What etcd gives, and every backend here. All methods are safe to call concurrently.
/// A write is durable when its future resolves with `Ok`; no reader or watcher sees it before it is durable.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes `key` where it holds nothing. `ttl` deletes it after that time without another write.
    async fn create(&self, key: Bytes, value: Bytes, ttl: Option<Duration>) -> Result<Revision, StoreError>;

    /// Replaces `key` if its mod revision is `expected`.
    async fn update(&self, key: Bytes, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision, StoreError>;

    /// Deletes `key` if its mod revision is `expected`; the revision is the deletion's own.
    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError>;

    /// Reads one key, and the revision it was read at.
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<KeyValue>, Revision), StoreError>;

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError>;

    /// Watches all keys with `prefix`, from the change at revision `from` on (inclusive).
    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<tokio::sync::mpsc::Receiver<WatchMessage>, StoreError>;

    /// The revision of the last durable write; linearizable.
    async fn current_revision(&self) -> Result<Revision, StoreError>;

    /// Forgets versions older than `revision` that are not the newest of their key.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// Whether a write of the same value would change how it lies in the store: it is sealed with another key than the one in use.
    async fn is_stale(&self, _key: &[u8]) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// The end of the range that holds exactly the keys with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    // All 0xff: no key sorts behind, which etcd writes as a single zero byte.
    Bytes::from_static(&[0])
}

/// Bounds as sorted maps take them.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of a request for a sorted map; `None` where no key can lie within.
fn range_bounds(request: &RangeRequest) -> Option<Bounds<'_>> {
    if *request.end == [0] {
        return Some((Bound::Included(&request.start), Bound::Unbounded));
    }
    (request.start < request.end).then_some((Bound::Included(&request.start), Bound::Excluded(&request.end)))
}

/// Whether a watch from `from` would miss events. Events at the compacted revision itself count as gone, since what they replaced is.
fn watch_is_compacted(from: Revision, compacted: Revision) -> bool {
    compacted > Revision::ZERO && from <= compacted
}
