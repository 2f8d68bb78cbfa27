//! The judgement of writes: which of a batch succeed, and what they change. Pure.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use troupe_api::meta::Revision;

use super::{index::Index, record::Record, space::Space};
use crate::store::{KeyValue, StoreError, StoreEvent};

/// A write as its caller asked for it.
#[derive(Clone, Debug)]
pub struct WriteOp {
    pub key: Bytes,
    pub action: Action,
}

/// What a write does with its key.
#[derive(Clone, Debug)]
pub enum Action {
    /// `expected` is the mod revision the key must hold; `None` where it must hold nothing.
    Put {
        value: Bytes,
        expected: Option<Revision>,
        ttl: Option<Duration>,
    },
    Delete {
        expected: Revision,
    },
}

/// Writes of one commit in the making: later ones see what earlier ones will have done.
pub struct Commit<'a> {
    index: &'a Index,
    pending: HashMap<Bytes, Option<KeyValue>>,
    current: Revision,
    /// Milliseconds since the Unix epoch.
    now: u64,
    space: Space,
    pub events: Vec<StoreEvent>,
    pub records: Vec<(Revision, Record)>,
}

impl<'a> Commit<'a> {
    pub fn new(index: &'a Index, current: Revision, now: u64, space: Space) -> Self {
        Commit { index, pending: HashMap::new(), current, now, space, events: Vec::new(), records: Vec::new() }
    }

    /// Judges a write and takes it in if it succeeds.
    pub fn judge(&mut self, op: WriteOp) -> Result<Revision, StoreError> {
        let held = match self.pending.get(&op.key) {
            Some(pending) => pending.clone(),
            None => self.index.newest(&op.key),
        };
        let held_revision = held.as_ref().map(|kv| kv.mod_revision);
        match op.action {
            Action::Put { expected, .. } if expected != held_revision => Err(StoreError::Conflict { current: held }),
            Action::Put { .. } if self.space != Space::Plenty => Err(StoreError::NoSpace),
            Action::Put { value, ttl, .. } => Ok(self.put(op.key, value, held, ttl)),
            Action::Delete { expected } => match held {
                Some(previous) if previous.mod_revision == expected && self.space == Space::None => Err(StoreError::NoSpace),
                Some(previous) if previous.mod_revision == expected => Ok(self.delete(previous)),
                current => Err(StoreError::Conflict { current }),
            },
        }
    }

    fn put(&mut self, key: Bytes, value: Bytes, previous: Option<KeyValue>, ttl: Option<Duration>) -> Revision {
        let revision = self.current.next();
        let create_revision = previous.as_ref().map_or(revision, |kv| kv.create_revision);
        // Sharing the key's bytes with the version before keeps one copy per key.
        let key = previous.as_ref().map_or(key, |kv| kv.key.clone());
        let expiry = ttl.map(|ttl| self.now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)));
        let record = Record { key: key.clone(), value: Some(value.clone()), create_revision, expiry };
        let kv = KeyValue { key: key.clone(), value, create_revision, mod_revision: revision };
        self.take(key, Some(kv.clone()), StoreEvent::Put { kv, previous }, record)
    }

    fn delete(&mut self, previous: KeyValue) -> Revision {
        let revision = self.current.next();
        let key = previous.key.clone();
        let record = Record { key: key.clone(), value: None, create_revision: Revision::ZERO, expiry: None };
        self.take(key.clone(), None, StoreEvent::Delete { key, revision, previous }, record)
    }

    fn take(&mut self, key: Bytes, holds: Option<KeyValue>, event: StoreEvent, record: Record) -> Revision {
        self.current = event.revision();
        self.pending.insert(key, holds);
        self.events.push(event);
        self.records.push((self.current, record));
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::log::Places;

    fn put(key: &'static str, expected: Option<u64>) -> WriteOp {
        WriteOp { key: key.into(), action: Action::Put { value: "v".into(), expected: expected.map(Revision), ttl: None } }
    }

    fn delete(key: &'static str, expected: u64) -> WriteOp {
        WriteOp { key: key.into(), action: Action::Delete { expected: Revision(expected) } }
    }

    #[test]
    fn later_writes_of_a_batch_see_the_earlier_ones() {
        let index = Index::default();
        let mut commit = Commit::new(&index, Revision(1), 0, Space::Plenty);
        assert_eq!(commit.judge(put("a", None)).expect("free"), Revision(2));
        assert!(matches!(commit.judge(put("a", None)), Err(StoreError::Conflict { current: Some(_) })));
        assert_eq!(commit.judge(put("a", Some(2))).expect("current"), Revision(3));
        assert_eq!(commit.judge(delete("a", 3)).expect("current"), Revision(4));
        assert!(matches!(commit.judge(delete("a", 3)), Err(StoreError::Conflict { current: None })));
        assert_eq!(commit.events.len(), 3);
    }

    #[test]
    fn without_space_only_deletions_go_through() {
        let mut index = Index::default();
        let kv = KeyValue { key: "a".into(), value: "v".into(), create_revision: Revision(2), mod_revision: Revision(2) };
        index.apply(&StoreEvent::Put { kv, previous: None }, None, Places::default().at(0));
        let mut commit = Commit::new(&index, Revision(2), 0, Space::Low);
        assert!(matches!(commit.judge(put("b", None)), Err(StoreError::NoSpace)));
        assert_eq!(commit.judge(delete("a", 2)).expect("deletes free space"), Revision(3));
        let mut commit = Commit::new(&index, Revision(2), 0, Space::None);
        assert!(matches!(commit.judge(delete("a", 2)), Err(StoreError::NoSpace)), "not on a full disk");
        assert!(matches!(commit.judge(put("a", None)), Err(StoreError::Conflict { current: Some(_) })), "what is there is told all the same");
        assert!(commit.records.is_empty());
    }
}
