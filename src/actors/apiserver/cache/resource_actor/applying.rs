//! Applies the store's changes to the cache, in their order, and hands them on.

use std::sync::Arc;

use bytes::Bytes;
use troupe_api::{
    meta::{Cause, ObjectKey, ObjectVersion, Revision},
    stored::StoredObject,
};
use troupe_api_server::{
    encryption,
    store::{KeyValue, StoreEvent, keys},
};

use super::{
    super::{Change, ResourceCache, Snapshot, snapshot::shared, watchers::News},
    ResourceActor,
};

impl ResourceActor {
    /// Applies changes, or keeps them until the cache is loaded.
    pub(super) fn apply(&mut self, events: Vec<StoreEvent>) {
        if let Some(waiting) = &mut self.waiting {
            waiting.extend(events);
            return;
        }
        let mut snapshot = (*self.cache.load()).clone();
        // A feed that starts anew may repeat what was applied. Several changes may share a revision.
        let known = self.loaded_at.max(snapshot.revision);
        let mut changes = Vec::with_capacity(events.len());
        let (mut last, mut is_unreadable) = (None, false);
        for event in events {
            last = Some(event.revision());
            let cause = self.take_cause(&event);
            if event.revision() > known {
                is_unreadable |= is_sealed(&event);
                changes.extend(self.apply_one(&mut snapshot, event, cause));
            }
        }
        self.cache.publish(snapshot);
        self.changed = changes.last().map_or(self.changed, |change| change.revision);
        if is_unreadable {
            // They are told that it cannot be read when they list again: nobody may take it for gone.
            self.begin_anew(last.unwrap_or(known));
            changes.clear();
        }
        let now = self.context.clock.instant();
        self.counts.received.add(changes.len() as u64);
        self.counts.dispatched.add(changes.len() as u64);
        for change in &changes {
            self.history.push(change.clone(), now);
        }
        if let Some(revision) = last {
            self.cache.applied.advance(revision);
        }
        self.tell(News::Changes(changes));
        self.want_tick(now);
    }

    fn apply_one(&self, snapshot: &mut Snapshot, event: StoreEvent, cause: Cause) -> Option<Change> {
        let key = keys::parse(&self.cache.resource.storage_prefix, event.key())?;
        let revision = event.revision();
        if snapshot.objects.get(&key).is_some_and(|held| held.revision >= revision) {
            return None;
        }
        snapshot.revision = revision;
        if is_sealed(&event) {
            // What it was stays there for the server itself: what enforces policies must not take them for gone.
            snapshot.unreadable.insert(key);
            return None;
        }
        if !snapshot.unreadable.is_empty() {
            snapshot.unreadable.remove(&key);
        }
        let current = match event {
            StoreEvent::Put { kv, .. } => decode(&self.cache, kv, cause.trace != 0),
            StoreEvent::Delete { .. } => None,
        };
        let previous = match &current {
            Some(object) => snapshot.insert(key.clone(), object.clone()),
            None => snapshot.remove(&key),
        };
        let object = current.as_ref().or(previous.as_ref())?;
        let cause = cause.with_object(self.version(shared(key, object), revision));
        Some(Change { revision, previous, current, cause })
    }

    fn version(&self, key: ObjectKey, revision: Revision) -> Arc<ObjectVersion> {
        Arc::new(ObjectVersion { resource: self.name.clone(), key, revision })
    }

    fn take_cause(&mut self, event: &StoreEvent) -> Cause {
        let value = match event {
            StoreEvent::Put { kv, .. } => kv.value.clone(),
            StoreEvent::Delete { .. } => Bytes::new(),
        };
        self.announced.take(event.key(), &value).unwrap_or_default()
    }
}

/// Whether an event brings an object that no key opens now.
fn is_sealed(event: &StoreEvent) -> bool {
    matches!(event, StoreEvent::Put { kv, .. } if encryption::is_sealed(&kv.value))
}

/// An object that does not decode is left out: one damaged value must not hide all others. What this server wrote just now is as it is read.
fn decode(cache: &ResourceCache, value: KeyValue, is_own: bool) -> Option<Arc<StoredObject>> {
    let revision = value.mod_revision;
    match if is_own { StoredObject::new(value.value, revision) } else { cache.resource.read(value.value, revision) } {
        Ok(object) => Some(Arc::new(object.packed())),
        Err(error) => {
            tracing::error!(resource = ?cache.resource, %revision, %error, "a stored object does not decode");
            None
        }
    }
}
