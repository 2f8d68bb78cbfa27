//! The embedded store: one file tree, durable at acknowledgement, many writers sharing one fsync.
//!
//! On disk lies one log of changes (`record`) in segments (`log`). In memory are the newest value of every key and the
//! places of older ones (`index`), and the newest events (`history`). One `writer` thread judges writes, makes a batch
//! durable, then shows it to readers and watches and answers. So nobody sees what a crash could undo. Compaction forgets old
//! versions, which are too old or too many; segments are dropped whole when what is still needed of them has been carried forward (`cleaning`). So the disk
//! holds at most twice what is needed and 64 MiB. A full disk stops writes and nothing else, until it has space again (`outage`).

mod cleaning;
mod commit;
mod history;
mod index;
mod log;
mod open;
mod outage;
mod record;
mod restore;
mod retention;
mod shared;
mod space;
mod waiting;
mod watch;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod full_tests;
#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, mpsc as thread_mpsc},
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{Semaphore, mpsc, oneshot};
use troupe_api::meta::Revision;

pub use super::open_errors::{EMBEDDED_FORMAT as FORMAT, OpenError};

use self::{
    commit::{Action, WriteOp},
    index::Found,
    shared::{Shared, SharedStore},
    space::SpaceMark,
    writer::{Ask, Request, Writer},
};
use super::{KeyValue, RangeReply, RangeRequest, Store, StoreError, WatchMessage};

/// Writes that may wait for the writer before callers wait for room.
const WAITING: usize = 8192;

/// What can be chosen about a store.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Below this many free bytes on the disk only deletions write, and nothing near its end.
    pub min_free: u64,
    /// Old versions stay at least this long, and at most a quarter longer.
    pub retention: Duration,
    /// Bytes of the log that may hold nothing but old versions; `None` for a tenth of the disk, at most 2 GiB. The oldest go when there are
    /// more, whatever their age.
    pub history_on_disk: Option<u64>,
    /// Bytes of newest events kept in memory for watches to resume from.
    pub history_bytes: usize,
    /// How long after room ran out writes wait for it before they are refused.
    pub patience: Duration,
    /// A file of the log is not written to any more when it has so many bytes. Five of them and one batch (4 MiB) is what the store may take
    /// on the disk beside twice the bytes that are needed.
    pub segment_bytes: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        EmbeddedOptions {
            min_free: 64 << 20,
            retention: Duration::from_secs(300),
            history_on_disk: None,
            history_bytes: 16 << 20,
            patience: Duration::from_secs(5),
            segment_bytes: 8 << 20,
        }
    }
}

/// A durable store in a directory. One process has it open at a time.
pub struct EmbeddedStore {
    shared: SharedStore,
    requests: Option<thread_mpsc::Sender<Request>>,
    room: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store in the directory `path`, making it where there is none.
    ///
    /// # Errors
    /// When another process has it open, another version wrote it, or its files cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        EmbeddedStore::open_with(path, EmbeddedOptions::default())
    }

    /// As [`EmbeddedStore::open`], with options.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub fn open_with(path: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let opened = open::open(path, &options)?;
        let shared = Arc::new(Shared { state: RwLock::new(opened.state), lock: opened.lock });
        let space = SpaceMark::new(path.to_owned(), options.min_free);
        let writer = Writer::new(shared.clone(), opened.log, opened.expiries, space, &options);
        let (requests, queue) = thread_mpsc::channel();
        let spawned = std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run(&queue));
        let writer = spawned.map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok(EmbeddedStore { shared, requests: Some(requests), room: Arc::new(Semaphore::new(WAITING)), writer: Some(writer) })
    }

    async fn ask(&self, ask: Ask) -> Result<Revision, StoreError> {
        let gone = || StoreError::Unavailable("the store is closing".into());
        let permit = self.room.clone().acquire_owned().await.map_err(|_| gone())?;
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(Request { ask, reply, _permit: permit }).map_err(|_| gone())?;
        answer.await.map_err(|_| StoreError::Unknown("the store's writer stopped".into()))?
    }

    async fn write(&self, key: Bytes, action: Action) -> Result<Revision, StoreError> {
        self.ask(Ask::Write(WriteOp { key, action })).await
    }

    /// The values of found versions. Those in the log cost a trip to the disk, and of many the copies take their time.
    async fn fetch_all(&self, found: Vec<Found>) -> Result<Vec<KeyValue>, StoreError> {
        const FEW: usize = 100;
        if found.len() <= FEW && found.iter().all(|found| matches!(found, Found::Here(_))) {
            return self.shared.fetch_all(found);
        }
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || shared.fetch_all(found)).await;
        read.map_err(|error| StoreError::Unavailable(format!("a read was cancelled: {error}")))?
    }
}

impl Drop for EmbeddedStore {
    /// Waits until the writer has answered what it was asked.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // A panicked writer ends the process itself.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn create(&self, key: Bytes, value: Bytes, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        self.write(key, Action::Put { value, expected: None, ttl }).await
    }

    async fn update(&self, key: Bytes, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        self.write(key, Action::Put { value, expected: Some(expected), ttl }).await
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        self.write(key, Action::Delete { expected }).await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<KeyValue>, Revision), StoreError> {
        let (found, revision) = {
            let state = self.shared.state.read();
            let revision = state.read_revision(at)?;
            (state.index.at(key, revision), revision)
        };
        let fetched = self.fetch_all(found.into_iter().collect()).await?;
        Ok((fetched.into_iter().next(), revision))
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError> {
        let (selection, revision) = {
            let state = self.shared.state.read();
            let revision = state.read_revision(request.at)?;
            (state.index.range(&request, revision), revision)
        };
        let items = self.fetch_all(selection.items).await?;
        let more = selection.count > items.len() as u64;
        Ok(RangeReply { items, more, count: selection.count, revision })
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        Ok(watch::start(&self.shared, prefix, from))
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        Ok(self.shared.state.read().current)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.ask(Ask::Compact(revision)).await.map(drop)
    }
}
