//! What readers, watches and the writer share: everything that is durable, and nothing that is not.

use std::{fs::File, sync::Arc};

use parking_lot::RwLock;
use troupe_api::{meta::Revision, packed::Packed};

use super::{
    history::History,
    index::{Found, FoundChange, Index},
    log::{LogError, Marks, Place},
    record::Record,
};
use crate::store::{KeyValue, StoreError, StoreEvent, watch_is_compacted, watchers::Watchers};

/// The durable state. The lock goes last.
pub struct Shared {
    pub state: RwLock<State>,
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

    /// How far the store has come.
    pub fn marks(&self) -> Marks {
        Marks { current: self.current, compacted: self.compacted }
    }

    /// Makes durable events visible to readers and watches: with their values as the index keeps them, and the places of their records.
    pub fn publish(&mut self, events: Vec<StoreEvent>, values: Vec<Option<Packed>>, places: impl Iterator<Item = Place>) {
        for ((event, value), place) in events.iter().zip(values).zip(places) {
            self.index.apply(event, value, place);
            self.current = event.revision();
        }
        self.watchers.publish(&events);
        for event in events {
            self.history.push(event);
        }
    }
}

impl Shared {
    /// The values of found versions. Blocks on the disk where they are in the log.
    pub fn fetch_all(&self, found: Vec<Found>) -> Result<Vec<KeyValue>, StoreError> {
        found.into_iter().map(fetch).collect()
    }

    /// The events under `prefix` among up to `limit` changes from revision `from` up to `to`, read from the log, until they have about `bytes`;
    /// and the revision up to which these are all. Blocks on the disk.
    pub fn events_from_log(
        &self,
        prefix: &[u8],
        (from, to): (Revision, Revision),
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<StoreEvent>, Revision), StoreError> {
        let (changes, reached) = {
            let state = self.state.read();
            if watch_is_compacted(from, state.compacted) {
                return Err(state.compacted_error(from));
            }
            state.index.changes(prefix, (from, to), limit)
        };
        let (mut events, mut read) = (Vec::new(), 0);
        for change in changes {
            let event = event(change)?;
            read += event.value_bytes();
            let revision = event.revision();
            events.push(event);
            if read >= bytes {
                return Ok((events, revision));
            }
        }
        Ok((events, reached))
    }
}

fn event(change: FoundChange) -> Result<StoreEvent, StoreError> {
    let FoundChange { key, revision, value, previous } = change;
    let previous = previous.map(fetch).transpose()?;
    match (value.map(fetch).transpose()?, previous) {
        (Some(kv), previous) => Ok(StoreEvent::Put { kv, previous }),
        (None, Some(previous)) => Ok(StoreEvent::Delete { key, revision, previous }),
        (None, None) => Err(StoreError::Corrupt(format!("revision {revision} deletes what was not there"))),
    }
}

fn fetch(found: Found) -> Result<KeyValue, StoreError> {
    let (place, revision) = match found {
        Found::Here(held) => return Ok(held.key_value()),
        Found::InLog { place, revision } => (place, revision),
    };
    let read = place.read(Record::decode).map_err(|error| match error {
        LogError::Io { .. } => StoreError::Unavailable(format!("reading the log failed: {error}")),
        LogError::Damaged { .. } => StoreError::Corrupt(error.to_string()),
    });
    let Record { key, value, create_revision, .. } = read?;
    let value = value.ok_or_else(|| StoreError::Corrupt(format!("revision {revision} is a deletion where a value was expected")))?;
    Ok(KeyValue { key, value, create_revision, mod_revision: revision })
}

/// Shorthand for the store's shared half.
pub type SharedStore = Arc<Shared>;
