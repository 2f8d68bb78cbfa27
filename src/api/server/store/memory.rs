//! The store in memory: for tests and simulation.
//!
//! Deterministic: no threads, no timers. Time comes from an injected clock; what has expired goes at the next call,
//! or when [`MemoryStore::tick`] is called.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use troupe_api::meta::{Clock, Revision, SystemClock};

use super::{
    KeyValue, RangeReply, RangeRequest, Store, StoreError, StoreEvent, WatchMessage,
    watchers::{Outlet, Watchers},
};

/// A multi-version store that lives as long as its process.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// What a key held from a revision on; `None` from a deletion on.
struct Version {
    revision: Revision,
    value: Option<KeyValue>,
}

struct State {
    versions: BTreeMap<Bytes, Vec<Version>>,
    log: Vec<StoreEvent>,
    current: Revision,
    compacted: Revision,
    expiries: BTreeMap<(Instant, Revision), Bytes>,
    watchers: Watchers,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore::with_clock(Arc::new(SystemClock))
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        MemoryStore::default()
    }

    /// A store whose TTLs run on `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let state = State {
            versions: BTreeMap::new(),
            log: Vec::new(),
            current: Revision(1),
            compacted: Revision::ZERO,
            expiries: BTreeMap::new(),
            watchers: Watchers::default(),
        };
        MemoryStore { clock, state: Mutex::new(state) }
    }

    /// Deletes what has expired by now.
    pub fn tick(&self) {
        self.state.lock().expire(self.clock.instant());
    }

    fn now_state(&self) -> parking_lot::MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.expire(self.clock.instant());
        state
    }

    fn put(&self, key: Bytes, value: Bytes, expected: Option<Revision>, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        let deadline = ttl.map(|ttl| self.clock.instant() + ttl);
        let mut state = self.now_state();
        let previous = state.newest(&key).cloned();
        if previous.as_ref().map(|kv| kv.mod_revision) != expected {
            return Err(StoreError::Conflict { current: previous });
        }
        let revision = state.current.next();
        let create_revision = previous.as_ref().map_or(revision, |kv| kv.create_revision);
        if let Some(deadline) = deadline {
            state.expiries.insert((deadline, revision), key.clone());
        }
        let kv = KeyValue { key, value, create_revision, mod_revision: revision };
        state.commit(StoreEvent::Put { kv, previous });
        Ok(revision)
    }
}

impl State {
    fn newest(&self, key: &[u8]) -> Option<&KeyValue> {
        self.versions.get(key)?.last()?.value.as_ref()
    }

    fn at(&self, key: &[u8], revision: Revision) -> Option<&KeyValue> {
        visible(self.versions.get(key)?, revision)
    }

    fn commit(&mut self, event: StoreEvent) {
        let revision = event.revision();
        let value = match &event {
            StoreEvent::Put { kv, .. } => Some(kv.clone()),
            StoreEvent::Delete { .. } => None,
        };
        self.versions.entry(event.key().clone()).or_default().push(Version { revision, value });
        self.current = revision;
        self.watchers.publish(std::slice::from_ref(&event));
        self.log.push(event);
    }

    fn delete(&mut self, previous: KeyValue) -> Revision {
        let revision = self.current.next();
        self.commit(StoreEvent::Delete { key: previous.key.clone(), revision, previous });
        revision
    }

    fn expire(&mut self, now: Instant) {
        while let Some(((deadline, revision), _)) = self.expiries.first_key_value()
            && *deadline <= now
        {
            let written = *revision;
            let (_, key) = self.expiries.pop_first().expect("seen above");
            if let Some(kv) = self.newest(&key).filter(|kv| kv.mod_revision == written).cloned() {
                self.delete(kv);
            }
        }
    }

    /// The revision to read at.
    fn read_revision(&self, at: Option<Revision>) -> Result<Revision, StoreError> {
        match at {
            Some(at) if at > self.current => Err(StoreError::FutureRevision(at)),
            Some(at) if at < self.compacted => Err(StoreError::Compacted { requested: at, compacted: self.compacted }),
            at => Ok(at.unwrap_or(self.current)),
        }
    }
}

fn visible(versions: &[Version], revision: Revision) -> Option<&KeyValue> {
    let behind = versions.partition_point(|version| version.revision <= revision);
    versions[..behind].last()?.value.as_ref()
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(&self, key: Bytes, value: Bytes, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        self.put(key, value, None, ttl)
    }

    async fn update(&self, key: Bytes, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        self.put(key, value, Some(expected), ttl)
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        let mut state = self.now_state();
        match state.newest(&key).cloned() {
            Some(kv) if kv.mod_revision == expected => Ok(state.delete(kv)),
            current => Err(StoreError::Conflict { current }),
        }
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<KeyValue>, Revision), StoreError> {
        let state = self.now_state();
        let revision = state.read_revision(at)?;
        Ok((state.at(key, revision).cloned(), revision))
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError> {
        let state = self.now_state();
        let revision = state.read_revision(request.at)?;
        let mut reply = RangeReply { revision, ..RangeReply::default() };
        let Some(bounds) = super::range_bounds(&request) else { return Ok(reply) };
        for (_, versions) in state.versions.range::<[u8], _>(bounds) {
            let Some(kv) = visible(versions, revision) else { continue };
            reply.count += 1;
            if request.limit == 0 || reply.items.len() < request.limit {
                reply.items.push(kv.clone());
            }
        }
        reply.more = reply.count > reply.items.len() as u64;
        Ok(reply)
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        let mut state = self.now_state();
        let (outlet, receiver) = Outlet::new(prefix);
        if super::watch_is_compacted(from, state.compacted) {
            outlet.end(Some(state.compacted));
            return Ok(receiver);
        }
        let begin = state.log.partition_point(|event| event.revision() < from);
        let backlog = outlet.select(state.log[begin..].iter().cloned());
        let slot = outlet.room_now().expect("a new queue has room");
        let current = state.current;
        state.watchers.attach(outlet, slot, from, backlog, current);
        Ok(receiver)
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        Ok(self.now_state().current)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let mut state = self.now_state();
        if revision > state.current {
            return Err(StoreError::FutureRevision(revision));
        }
        if revision <= state.compacted {
            return Ok(());
        }
        state.compacted = revision;
        state.log.retain(|event| event.revision() > revision);
        state.versions.retain(|_, versions| {
            let behind = versions.partition_point(|version| version.revision <= revision);
            versions.drain(..behind.saturating_sub(1));
            if versions[0].revision <= revision && versions[0].value.is_none() {
                versions.remove(0);
            }
            !versions.is_empty()
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_memory_store_passes_the_suite() {
        crate::store::suite::run(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Store> }).await;
    }
}
