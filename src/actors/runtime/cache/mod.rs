//! Typed watch caches: fed by one watch per kind, read without locks through [`Lister`].
//!
//! A cache holds versions as they are stored; the typed object is decoded when somebody asks, and kept while memory for it
//! lasts ([`StoredObject::typed`]). So whoever wants few of many asks an index, or selects by metadata.
//!
//! A (re)list is collected aside and swapped in atomically; readers never see half of it. Subscribers run under the
//! writer and must only note a key and wake somebody.

mod caches;
mod index;
mod progress;
mod reflector;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use imbl::OrdMap;
use parking_lot::Mutex;
use troupe_api::{
    meta::{Cause, ObjectKey, Revision},
    projection::MetaProjection,
    stored::{KubeObject, StoredObject},
};

pub use self::{caches::Caches, reflector::reflect};
use self::{index::Index, progress::Progress};

/// One cached version.
#[derive(Clone, Debug)]
pub struct Cached<K> {
    pub object: Arc<K>,
    pub stored: Arc<StoredObject>,
}

impl<K: KubeObject> Cached<K> {
    /// Decodes what is in a cache. It was decoded before it came in, so it fits the type.
    fn of(stored: &Arc<StoredObject>) -> Self {
        Cached { object: decoded(stored), stored: stored.clone() }
    }
}

fn decoded<K: KubeObject>(stored: &Arc<StoredObject>) -> Arc<K> {
    stored.typed().expect("only what decodes is let in")
}

/// What happened to a key: added (no old), removed (no new) or changed. A key reused under another UID is two changes.
#[derive(Clone, Debug)]
pub struct Change<K> {
    pub key: ObjectKey,
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
    pub cause: Cause,
}

type Subscriber<K> = Arc<dyn Fn(&Change<K>) + Send + Sync>;

struct Writer<K> {
    subscribers: BTreeMap<u64, Subscriber<K>>,
    next: u64,
}

struct Inner<K> {
    objects: ArcSwap<OrdMap<ObjectKey, Arc<StoredObject>>>,
    /// Replaced as a whole when an index is added; read without a lock.
    indexes: ArcSwap<BTreeMap<&'static str, Arc<Index<K>>>>,
    writer: Mutex<Writer<K>>,
    /// `None` until the first list is in; then the newest revision seen.
    progress: Progress,
}

/// A cache of one kind. Cheap to clone; every clone reads the same objects.
pub struct Cache<K>(Arc<Inner<K>>);

/// The reading face of a cache.
pub type Lister<K> = Cache<K>;

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Cache(self.0.clone())
    }
}

impl<K: KubeObject> Default for Cache<K> {
    fn default() -> Self {
        let writer = Mutex::new(Writer { subscribers: BTreeMap::new(), next: 0 });
        Cache(Arc::new(Inner { objects: ArcSwap::default(), indexes: ArcSwap::default(), writer, progress: Progress::default() }))
    }
}

impl<K: KubeObject> Cache<K> {
    pub fn get(&self, key: &ObjectKey) -> Option<Cached<K>> {
        self.stored(key).map(|stored| Cached::of(&stored))
    }

    /// The object as it is stored, without decoding it.
    pub fn stored(&self, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.0.objects.load().get(key).cloned()
    }

    /// All objects, of one namespace unless it is empty, in key order.
    pub fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        self.select(namespace, |_| true)
    }

    /// Those of [`Cache::list`] whose metadata is `wanted`; the others are not decoded.
    pub fn select(&self, namespace: &str, wanted: impl Fn(&MetaProjection) -> bool) -> Vec<Arc<K>> {
        let objects = self.0.objects.load();
        let wanted = |stored: &&Arc<StoredObject>| wanted(stored.meta());
        if namespace.is_empty() {
            return objects.values().filter(wanted).map(decoded).collect();
        }
        let range = objects.range(ObjectKey::new(namespace, "")..);
        range.take_while(|(key, _)| &*key.namespace == namespace).map(|(_, stored)| stored).filter(wanted).map(decoded).collect()
    }

    /// Adds an index that files each object under the values `of` gives. Adding a name again changes nothing.
    pub fn add_index(&self, name: &'static str, of: fn(&K) -> Vec<Arc<str>>) {
        let _writer = self.0.writer.lock();
        let mut indexes = BTreeMap::clone(&self.0.indexes.load());
        if let Entry::Vacant(slot) = indexes.entry(name) {
            let index = Arc::new(Index::new(of));
            Index::file_all(&[&index], &self.0.objects.load());
            slot.insert(index);
            self.0.indexes.store(Arc::new(indexes));
        }
    }

    /// The objects filed under `value`, in key order. An index that was never added holds nothing.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        self.by_index_where(name, value, |_| true)
    }

    /// Those of [`Cache::by_index`] whose metadata is `wanted`; the others are not decoded.
    pub fn by_index_where(&self, name: &str, value: &str, wanted: impl Fn(&MetaProjection) -> bool) -> Vec<Arc<K>> {
        let Some(index) = self.0.indexes.load().get(name).cloned() else { return Vec::new() };
        let objects = self.0.objects.load();
        // The index may be one event ahead of or behind the objects: whoever wants to know is woken again by that event.
        let filed = index.keys(value);
        filed.iter().filter_map(|key| objects.get(key)).filter(|stored| wanted(stored.meta())).map(decoded).collect()
    }

    /// How many objects are filed under `value`.
    pub fn index_count(&self, name: &str, value: &str) -> usize {
        self.0.indexes.load().get(name).map_or(0, |index| index.keys(value).len())
    }

    /// Every value that something is filed under.
    pub fn index_values(&self, name: &str) -> Vec<Arc<str>> {
        self.0.indexes.load().get(name).map(|index| index.values()).unwrap_or_default()
    }

    /// Whether the first list is in.
    pub fn is_synced(&self) -> bool {
        self.0.progress.get().is_some()
    }

    /// Resolves when the first list is in.
    pub async fn synced(&self) {
        self.reached(Revision::ZERO).await;
    }

    async fn reached(&self, revision: Revision) {
        self.0.progress.until(|seen| seen.is_some_and(|seen| seen >= revision)).await;
    }

    /// Waits until the cache shows everything up to `revision`; `false` when `patience` ran out: then read live.
    pub async fn wait_for(&self, revision: Revision, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.reached(revision)).await.is_ok()
    }

    /// Waits until the object with this UID is gone or being deleted; `false` when `patience` ran out.
    pub async fn wait_gone(&self, key: &ObjectKey, uid: &str, patience: Duration) -> bool {
        let here = || self.stored(key).is_some_and(|stored| &*stored.meta().uid == uid && stored.meta().deletion_timestamp.is_none());
        let gone = self.0.progress.until(|_| !here());
        tokio::time::timeout(patience, gone).await.is_ok()
    }

    /// Calls back for every object there is, then for every change, until the subscription is dropped.
    pub fn subscribe(&self, subscriber: impl Fn(&Change<K>) + Send + Sync + 'static) -> Subscription<K> {
        let mut writer = self.0.writer.lock();
        for (key, stored) in self.0.objects.load().iter() {
            subscriber(&Change { key: key.clone(), old: None, new: Some(decoded(stored)), cause: Cause::default() });
        }
        writer.next += 1;
        let id = writer.next;
        writer.subscribers.insert(id, Arc::new(subscriber));
        Subscription { cache: self.clone(), id }
    }

    /// Takes one event in.
    pub(crate) fn apply(&self, key: ObjectKey, new: Option<Cached<K>>, revision: Revision, cause: &Cause) {
        let writer = self.0.writer.lock();
        let mut objects = OrdMap::clone(&self.0.objects.load());
        let old = match &new {
            Some(cached) => objects.insert(key.clone(), cached.stored.clone()),
            None => objects.remove(&key),
        };
        self.0.objects.store(Arc::new(objects));
        let indexes = self.0.indexes.load();
        if !writer.subscribers.is_empty() || !indexes.is_empty() {
            let old = old.as_ref().map(Cached::of);
            for index in indexes.values() {
                index.update(&key, old.as_ref().map(|cached| &*cached.object), new.as_ref().map(|cached| &*cached.object));
            }
            writer.announce(&key, old, new, cause);
        }
        self.advance(revision);
    }

    /// Swaps in a whole list. Every object in it fits the type.
    pub(crate) fn replace(&self, listed: OrdMap<ObjectKey, Arc<StoredObject>>, revision: Revision) {
        let writer = self.0.writer.lock();
        let before = self.0.objects.swap(Arc::new(listed.clone()));
        let indexes = self.0.indexes.load();
        Index::file_all(&indexes.values().collect::<Vec<_>>(), &listed);
        if !writer.subscribers.is_empty() {
            for (key, old) in before.iter().filter(|(key, _)| !listed.contains_key(*key)) {
                writer.announce(key, Some(Cached::of(old)), None, &Cause::default());
            }
            for (key, new) in &listed {
                let old = before.get(key);
                if old.is_none_or(|old| old.revision != new.revision) {
                    writer.announce(key, old.map(Cached::of), Some(Cached::of(new)), &Cause::default());
                }
            }
        }
        self.advance(revision);
    }

    pub(crate) fn advance(&self, revision: Revision) {
        self.0.progress.advance(revision);
    }
}

impl<K: KubeObject> Writer<K> {
    fn announce(&self, key: &ObjectKey, old: Option<Cached<K>>, new: Option<Cached<K>>, cause: &Cause) {
        let replaced = matches!((&old, &new), (Some(old), Some(new)) if old.stored.uid() != new.stored.uid());
        let (old, new) = (old.map(|cached| cached.object), new.map(|cached| cached.object));
        let change = |old, new| Change { key: key.clone(), old, new, cause: cause.clone() };
        let changes = if replaced { vec![change(old, None), change(None, new)] } else { vec![change(old, new)] };
        for subscriber in self.subscribers.values() {
            changes.iter().for_each(|change| subscriber(change));
        }
    }
}

/// Ends its subscription when dropped.
pub struct Subscription<K: KubeObject> {
    cache: Cache<K>,
    id: u64,
}

impl<K: KubeObject> Drop for Subscription<K> {
    fn drop(&mut self) {
        self.cache.0.writer.lock().subscribers.remove(&self.id);
    }
}
