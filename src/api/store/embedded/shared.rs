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

/// The files of an open store. The lock goes last.
pub struct Files {
    pub log: Keyspace,
    pub meta: Keyspace,
    pub database: Database,
    #[expect(dead_code, reason = "held while the store is open")]
    pub lock: File,
}

/// The durable state, and the files behind it.
pub struct Shared {
    pub state: RwLock<State>,
    pub files: Files,
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
        let bytes = self.files.log.get(record_key(revision)).map_err(unreadable)?;
        bytes.map(|bytes| Record::decode(&bytes).ok_or_else(|| damaged(revision))).transpose()
    }

    /// The events of up to `limit` revisions from `from` up to `to`, read from the log. Blocks on the disk.
    pub fn events_from_log(&self, from: Revision, to: Revision, limit: usize) -> Result<Vec<StoreEvent>, StoreError> {
        let mut events = Vec::new();
        for guard in self.files.log.range(record_key(from)..=record_key(to)).take(limit) {
            let (key, bytes) = guard.into_inner().map_err(unreadable)?;
            let revision = super::record::record_revision(&key).ok_or_else(|| damaged(Revision::ZERO))?;
            let record = Record::decode(&bytes).ok_or_else(|| damaged(revision))?;
            events.push(self.event(record, revision)?);
        }
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

fn unreadable(error: fjall::Error) -> StoreError {
    StoreError::Unavailable(format!("reading the log failed: {error}"))
}

fn damaged(revision: Revision) -> StoreError {
    StoreError::Corrupt(format!("the log record of revision {revision} does not decode"))
}

/// Shorthand for the store's shared half.
pub type SharedStore = Arc<Shared>;
