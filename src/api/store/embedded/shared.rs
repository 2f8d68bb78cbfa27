//! What readers, watches and the writer share: everything that is durable, and nothing that is not.

use std::{fs::File, sync::Arc};

use fjall::{Database, Keyspace};
use parking_lot::RwLock;

use super::{
    history::History,
    index::{Found, Index},
    record::{Record, record_key},
};
use crate::{
    meta::Revision,
    store::{KeyValue, StoreError, StoreEvent, watch_is_compacted, watchers::Watchers},
};

/// The files of an open store.
pub struct Files {
    pub log: Keyspace,
    pub meta: Keyspace,
    pub database: Database,
}

/// The durable state, and the files behind it. The lock goes last.
pub struct Shared {
    pub state: RwLock<State>,
    /// `None` while a disk without space keeps them from being opened again. Nobody takes the state's lock while holding this one.
    pub files: RwLock<Option<Files>>,
    #[expect(dead_code, reason = "held while the store is open")]
    pub lock: File,
}

/// The durable state in memory.
pub struct State {
    pub index: Index,
    pub history: History,
    pub watchers: Watchers,
    pub current: Revision,
    pub compacted: Revision,
}

impl State {
    /// The revision to read at.
    pub fn read_revision(&self, at: Option<Revision>) -> Result<Revision, StoreError> {
        match at {
            Some(at) if at > self.current => Err(StoreError::FutureRevision(at)),
            Some(at) if at < self.compacted => Err(self.compacted_error(at)),
            at => Ok(at.unwrap_or(self.current)),
        }
    }

    pub fn compacted_error(&self, requested: Revision) -> StoreError {
        StoreError::Compacted { requested, compacted: self.compacted }
    }

    /// Makes durable events visible to readers and watches.
    pub fn publish(&mut self, events: Vec<StoreEvent>) {
        for event in &events {
            self.index.apply(event);
            self.current = event.revision();
        }
        self.watchers.publish(&events);
        for event in events {
            self.history.push(event);
        }
    }

    /// Makes records visible that were found in the log behind the current revision.
    pub fn take_found(&mut self, found: Vec<(Revision, Record)>) {
        for (revision, record) in found {
            let previous = self.index.newest(&record.key).cloned();
            let event = match (record.value, previous) {
                (Some(value), previous) => {
                    let kv = KeyValue { key: record.key, value, create_revision: record.create_revision, mod_revision: revision };
                    StoreEvent::Put { kv, previous }
                }
                (None, Some(previous)) => StoreEvent::Delete { key: record.key, revision, previous },
                // Only what exists is deleted.
                (None, None) => continue,
            };
            self.publish(vec![event]);
        }
    }
}

impl Shared {
    /// Fetches a version from the log. Blocks on the disk.
    pub fn fetch(&self, revision: Revision) -> Result<KeyValue, StoreError> {
        let Some(record) = self.record(revision)? else {
            return Err(self.state.read().compacted_error(revision));
        };
        let value = record.value.ok_or_else(|| StoreError::Corrupt(format!("revision {revision} is a deletion where a value was expected")))?;
        Ok(KeyValue { key: record.key, value, create_revision: record.create_revision, mod_revision: revision })
    }

    /// The values of found versions. Blocks on the disk where they are in the log.
    pub fn fetch_all(&self, found: Vec<Found>) -> Result<Vec<KeyValue>, StoreError> {
        let fetch = |found| match found {
            Found::Here(kv) => Ok(kv),
            Found::InLog(revision) => self.fetch(revision),
        };
        found.into_iter().map(fetch).collect()
    }

    fn record(&self, revision: Revision) -> Result<Option<Record>, StoreError> {
        let files = self.files.read();
        let bytes = files.as_ref().ok_or_else(closed)?.log.get(record_key(revision)).map_err(unreadable)?;
        bytes.map(|bytes| Record::decode(&bytes).ok_or_else(|| damaged(revision))).transpose()
    }

    /// The events of up to `limit` revisions from `from` up to `to`, read from the log. Blocks on the disk.
    pub fn events_from_log(&self, from: Revision, to: Revision, limit: usize) -> Result<Vec<StoreEvent>, StoreError> {
        let records = self.files.read().as_ref().ok_or_else(closed)?.records(from, to, limit)?;
        let events = records.into_iter().map(|(revision, record)| self.event(record, revision)).collect::<Result<_, _>>()?;
        let state = self.state.read();
        if watch_is_compacted(from, state.compacted) { Err(state.compacted_error(from)) } else { Ok(events) }
    }

    fn event(&self, record: Record, revision: Revision) -> Result<StoreEvent, StoreError> {
        let before = self.state.read().index.at(&record.key, Revision(revision.0 - 1));
        let previous = match before {
            None => None,
            Some(Found::Here(kv)) => Some(kv),
            Some(Found::InLog(earlier)) => Some(self.fetch(earlier)?),
        };
        match (record.value, previous) {
            (Some(value), previous) => {
                let kv = KeyValue { key: record.key, value, create_revision: record.create_revision, mod_revision: revision };
                Ok(StoreEvent::Put { kv, previous })
            }
            (None, Some(previous)) => Ok(StoreEvent::Delete { key: record.key, revision, previous }),
            (None, None) => Err(self.state.read().compacted_error(revision)),
        }
    }
}

impl Files {
    /// Up to `limit` records from a revision up to another.
    pub fn records(&self, from: Revision, to: Revision, limit: usize) -> Result<Vec<(Revision, Record)>, StoreError> {
        let mut records = Vec::new();
        for guard in self.log.range(record_key(from)..=record_key(to)).take(limit) {
            let (key, bytes) = guard.into_inner().map_err(unreadable)?;
            let revision = super::record::record_revision(&key).ok_or_else(|| damaged(Revision::ZERO))?;
            let record = Record::decode(&bytes).ok_or_else(|| damaged(revision))?;
            records.push((revision, record));
        }
        Ok(records)
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the log cannot be read until its disk has space".into())
}

fn unreadable(error: fjall::Error) -> StoreError {
    StoreError::Unavailable(format!("reading the log failed: {error}"))
}

fn damaged(revision: Revision) -> StoreError {
    StoreError::Corrupt(format!("the log record of revision {revision} does not decode"))
}

/// Shorthand for the store's shared half.
pub type SharedStore = Arc<Shared>;
