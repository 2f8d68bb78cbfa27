//! Typed watch caches: fed by one watch per kind, read without locks through [`Lister`].
//!
//! A cache holds versions as they are stored; the typed object is decoded when somebody asks, and kept while memory for it
//! lasts ([`StoredObject::typed`]). So whoever wants few of many asks an index, or selects by metadata, and whoever wants little of many again
//! and again asks for their [`Digests`].
//!
//! A (re)list is collected aside and swapped in atomically; readers never see half of it. Subscribers run under the
//! writer and must only note a key and wake somebody. Whatever goes through all objects does so a turn at a time
//! ([`crate::runtime::turn`]): a cache never holds up its arbiter, however many or large its objects are.
//!
//! How far a cache is behind its source [`Lags`] looks at once a second (`looking.rs`), for all of its caches at once: it asks the API service
//! which changes all watches have been told of, without waking any cache. A cache that does not know of them complains, and its watch is
//! replaced when it is stuck ([`crate::runtime::freshness`]).

mod caches;
mod causes;
mod change;
mod cursor;
mod definition;
mod digests;
mod index;
mod looking;
mod progress;
mod reflector;
mod subscription;
#[cfg(test)]
mod tests;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
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

#[cfg(test)]
pub(crate) use self::digests::digest_of;
pub use self::{
    caches::Caches,
    change::Change,
    digests::{Digest, Digests},
    looking::Lags,
    subscription::Subscription,
};
use self::{
    causes::Causes,
    change::Version,
    digests::Books,
    index::{Entries, Index, Values},
    progress::Progress,
    subscription::Subscribers,
};
use super::{
    freshness::Freshness,
    turn::{Turn, give_way},
};

/// One cached version.
#[derive(Clone, Debug)]
pub struct Cached<K> {
    pub object: Arc<K>,
    pub stored: Arc<StoredObject>,
}

/// Decodes what is in a cache. As in the API server's caches, a damaged object is left out: it must not hide all others.
fn decoded<K: KubeObject>(stored: &Arc<StoredObject>) -> Option<Arc<K>> {
    said(stored, stored.typed())
}

/// Says in the log where an object is damaged.
fn said<K: KubeObject>(stored: &StoredObject, object: Result<Arc<K>, serde_json::Error>) -> Option<Arc<K>> {
    if let Err(error) = &object {
        tracing::error!(kind = K::KIND, key = %stored.key, %error, "a cached object does not decode");
    }
    object.ok()
}

type Objects = OrdMap<ObjectKey, Arc<StoredObject>>;
type Indexes<K> = BTreeMap<&'static str, Arc<Index<K>>>;

struct Inner<K> {
    objects: ArcSwap<Objects>,
    /// Replaced as a whole when an index is added; read without a lock.
    indexes: ArcSwap<Indexes<K>>,
    /// What is kept of the objects beside them.
    books: Books,
    /// Whoever changes the objects holds it.
    subscribers: Mutex<Subscribers<K>>,
    causes: Mutex<Causes>,
    /// A new list is in, and not everybody has heard of all that it changed.
    announcing: AtomicBool,
    /// `None` until the first list is in; then the newest revision seen.
    progress: Progress,
    /// What those who look how far it is behind know of it.
    freshness: Arc<Freshness>,
    /// What is made of it and shared by those who use it.
    made: Mutex<Vec<Weak<dyn Any + Send + Sync>>>,
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
        Cache::named("caches")
    }
}

impl<K: KubeObject> Cache<K> {
    /// An empty cache; `path` is what it is called where its lag is told.
    pub fn named(path: impl Into<Arc<str>>) -> Self {
        Cache(Arc::new(Inner {
            objects: ArcSwap::default(),
            indexes: ArcSwap::default(),
            books: Books::default(),
            subscribers: Mutex::default(),
            causes: Mutex::default(),
            announcing: AtomicBool::new(false),
            progress: Progress::default(),
            freshness: Freshness::new(path),
            made: Mutex::default(),
        }))
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Cached<K>> {
        let stored = self.stored(key)?;
        Some(Cached { object: decoded(&stored)?, stored })
    }

    /// The object as it is stored, without decoding it.
    pub fn stored(&self, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.0.objects.load().get(key).cloned()
    }

    /// Whether there is an object; nothing is decoded.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.0.objects.load().contains_key(key)
    }

    /// The keys of all objects, in order; nothing is decoded.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.0.objects.load().keys().cloned().collect()
    }

    /// The UIDs of all objects; nothing is decoded.
    pub fn uids(&self) -> BTreeSet<Arc<str>> {
        self.0.objects.load().values().map(|stored| stored.meta().uid.clone()).collect()
    }

    /// All objects, of one namespace unless it is empty, in key order.
    pub fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        self.select(namespace, |_| true)
    }

    /// Those of [`Cache::list`] whose metadata is `wanted`; the others are not decoded.
    pub fn select(&self, namespace: &str, wanted: impl Fn(&MetaProjection) -> bool) -> Vec<Arc<K>> {
        self.select_stored(namespace, wanted).iter().filter_map(decoded).collect()
    }

    /// The same as they are stored: none is decoded.
    pub fn select_stored(&self, namespace: &str, wanted: impl Fn(&MetaProjection) -> bool) -> Vec<Arc<StoredObject>> {
        let objects = self.0.objects.load();
        let wanted = |stored: &&Arc<StoredObject>| wanted(stored.meta());
        if namespace.is_empty() {
            return objects.values().filter(wanted).cloned().collect();
        }
        let range = objects.range(ObjectKey::new(namespace, "")..);
        range.take_while(|(key, _)| &*key.namespace == namespace).map(|(_, stored)| stored).filter(wanted).cloned().collect()
    }

    /// Decodes what is stored; `None` if it is damaged, which is said in the log.
    pub fn decode(stored: &Arc<StoredObject>) -> Option<Arc<K>> {
        decoded(stored)
    }

    /// The same for who looks at each of very many objects once: it is not kept for this.
    pub fn decode_once(stored: &StoredObject) -> Option<Arc<K>> {
        said(stored, stored.typed_once())
    }

    /// The object, decoded for one look at it.
    pub fn get_once(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let stored = self.stored(key)?;
        Self::decode_once(&stored)
    }

    /// Adds an index that files each object under the values `of` gives. Adding a name again changes nothing.
    /// In a cache that is full already it is complete when [`Cache::synced`] resolves.
    pub fn add_index(&self, name: &'static str, of: impl Fn(&K) -> Vec<Arc<str>> + Send + Sync + 'static) {
        self.add(name, Values::OfObject(Box::new(of)));
    }

    /// The same by metadata alone: nothing is decoded for it.
    pub fn add_meta_index(&self, name: &'static str, of: fn(&MetaProjection) -> Vec<Arc<str>>) {
        self.add(name, Values::OfMeta(of));
    }

    fn add(&self, name: &'static str, values: Values<K>) {
        let _writer = self.0.subscribers.lock();
        let mut indexes = Indexes::clone(&self.0.indexes.load());
        if let Entry::Vacant(slot) = indexes.entry(name) {
            let index = Arc::new(Index::new(values));
            index.file_some(&self.0.objects.load(), &mut Turn::default());
            slot.insert(index);
            self.0.indexes.store(Arc::new(indexes));
        }
    }

    /// Files more objects in indexes that lack some; `true` when none does.
    fn file_some(&self) -> bool {
        let _writer = self.0.subscribers.lock();
        let mut turn = Turn::default();
        let objects = self.0.objects.load();
        self.0.indexes.load().values().all(|index| index.file_some(&objects, &mut turn))
    }

    /// The objects filed under `value`, in key order. An index that was never added holds nothing.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        self.by_index_stored(name, value, |_| true).iter().filter_map(decoded).collect()
    }

    /// Those whose metadata is `wanted`, as they are stored: none is decoded.
    pub fn by_index_stored(&self, name: &str, value: &str, wanted: impl Fn(&MetaProjection) -> bool) -> Vec<Arc<StoredObject>> {
        let Some(index) = self.0.indexes.load().get(name).cloned() else { return Vec::new() };
        let objects = self.0.objects.load();
        // The index may be one event ahead of or behind the objects: whoever wants to know is woken again by that event.
        let filed = index.keys(value);
        filed.iter().filter_map(|key| objects.get(key)).filter(|stored| wanted(stored.meta())).cloned().collect()
    }

    /// The keys filed under values that begin with `prefix` and are `wanted`, in order; nothing is decoded.
    pub fn index_keys_where(&self, name: &str, prefix: &str, wanted: impl Fn(&str) -> bool) -> Vec<ObjectKey> {
        self.0.indexes.load().get(name).map(|index| index.keys_where(prefix, wanted).into_iter().collect()).unwrap_or_default()
    }

    /// How many objects are filed under `value`.
    pub fn index_count(&self, name: &str, value: &str) -> usize {
        self.0.indexes.load().get(name).map_or(0, |index| index.keys(value).len())
    }

    /// Every value that something is filed under.
    pub fn index_values(&self, name: &str) -> Vec<Arc<str>> {
        self.0.indexes.load().get(name).map(|index| index.values()).unwrap_or_default()
    }

    /// Whether the first list is in, and filed in every index.
    pub fn is_synced(&self) -> bool {
        self.0.progress.get().is_some() && self.0.indexes.load().values().all(|index| index.is_complete())
    }

    /// Resolves when the first list is in, and filed in every index.
    pub async fn synced(&self) {
        self.reached(Revision::ZERO).await;
        while !self.file_some() {
            give_way().await;
        }
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

    /// Calls back for every change, until the subscription is dropped, and before that for every object there is, while
    /// [`Subscription::filled`] is awaited.
    pub fn subscribe(&self, subscriber: impl Fn(&Change<K>) + Send + Sync + 'static) -> Subscription<K> {
        Subscription::new(self, Arc::new(subscriber))
    }

    /// What `make` makes of this cache, such as an index with more than keys: one for all who ask for its type, as long as any of them has it.
    /// It must not ask for anything shared itself.
    pub fn shared<V: Send + Sync + 'static>(&self, make: impl FnOnce(&Self) -> V) -> Arc<V> {
        let mut made = self.0.made.lock();
        made.retain(|known| known.strong_count() > 0);
        let known = made.iter().filter_map(Weak::upgrade).find_map(|known| known.downcast::<V>().ok());
        known.unwrap_or_else(|| {
            let new = Arc::new(make(self));
            let shared: Arc<dyn Any + Send + Sync> = new.clone();
            made.push(Arc::downgrade(&shared));
            new
        })
    }

    fn is_announcing(&self) -> bool {
        self.0.announcing.load(SeqCst)
    }

    /// Resolves when everybody has heard of the newest list.
    async fn announced(&self) {
        self.0.progress.until(|_| !self.is_announcing()).await;
    }

    /// Notes what caused a version that is to come with a list.
    pub(crate) fn note_cause(&self, key: &ObjectKey, revision: Revision, cause: &Cause) {
        self.0.causes.lock().note(key, revision, cause);
    }

    /// What caused a version, as far as that is known.
    fn cause_of(&self, key: &ObjectKey, stored: &StoredObject) -> Cause {
        self.0.causes.lock().of(key, stored.revision)
    }

    /// Takes one event in.
    pub(crate) fn apply(&self, key: ObjectKey, new: Option<Arc<StoredObject>>, revision: Revision, cause: &Cause) {
        let subscribers = self.0.subscribers.lock();
        self.note_cause(&key, revision, cause);
        let mut objects = Objects::clone(&self.0.objects.load());
        let old = match &new {
            Some(stored) => objects.insert(key.clone(), stored.clone()),
            None => objects.remove(&key),
        };
        self.0.objects.store(Arc::new(objects));
        if let Some(old) = &old
            && new.as_ref().is_none_or(|new| new.meta().uid != old.meta().uid)
        {
            self.0.books.forget(std::slice::from_ref(&old.meta().uid));
        }
        let (old, new) = (old.map(Version::new), new.map(Version::new));
        for index in self.0.indexes.load().values() {
            index.update(&key, old.as_ref(), new.as_ref());
        }
        if !subscribers.is_empty() {
            subscribers.announce(&Change::split(&key, old, new, cause));
        }
        self.advance(revision);
    }

    /// Swaps in a whole list, then tells subscribers of the difference, a turn at a time. Nothing else may be applied meanwhile.
    pub(crate) async fn replace(&self, listed: Objects, revision: Revision) {
        let listed = dense(listed).await;
        let mut filed = self.file_aside(&listed).await;
        let before = {
            let _writer = self.0.subscribers.lock();
            for (name, index) in self.0.indexes.load().iter() {
                // One that was added meanwhile is filed by those who wait for it.
                index.reset(filed.remove(name));
            }
            self.0.announcing.store(true, SeqCst);
            self.0.objects.swap(Arc::new(listed.clone()))
        };
        let announcing = Announcing(self);
        self.0.books.forget_gone(&before, &listed);
        let mut turn = Turn::default();
        for (key, old) in before.iter().filter(|(key, _)| !listed.contains_key(*key)) {
            self.announce(key, Some(old), None);
            turn.step().await;
        }
        for (key, new) in &listed {
            let old = before.get(key);
            if old.is_none_or(|old| old.revision != new.revision) {
                self.announce(key, old, Some(new));
            }
            turn.step().await;
        }
        drop(announcing);
        self.advance(revision);
    }

    fn announce(&self, key: &ObjectKey, old: Option<&Arc<StoredObject>>, new: Option<&Arc<StoredObject>>) {
        let subscribers = self.0.subscribers.lock();
        if !subscribers.is_empty() {
            let version = |stored: Option<&Arc<StoredObject>>| stored.cloned().map(Version::new);
            let cause = new.map(|new| self.cause_of(key, new)).unwrap_or_default();
            subscribers.announce(&Change::split(key, version(old), version(new), &cause));
        }
    }

    /// Files a list for every index there is now.
    async fn file_aside(&self, listed: &Objects) -> BTreeMap<&'static str, Entries> {
        let indexes = self.0.indexes.load_full();
        let mut filed: BTreeMap<&'static str, Entries> = indexes.keys().map(|name| (*name, Entries::new())).collect();
        let mut turn = Turn::default();
        for (key, stored) in listed.iter().filter(|_| !indexes.is_empty()) {
            {
                let version = Version::new(stored.clone());
                for (name, index) in indexes.iter() {
                    index.values_of().file(key, &version, filed.get_mut(name).expect("made of the same names"));
                }
            }
            turn.step().await;
        }
        filed
    }

    pub(crate) fn advance(&self, revision: Revision) {
        self.0.freshness.shows(revision);
        self.0.progress.advance(revision);
    }

    /// What is known of how far it is behind its source.
    pub fn freshness(&self) -> &Arc<Freshness> {
        &self.0.freshness
    }
}

/// The same objects in a tree of full leaves. A leaf is divided when it is full, so one that is filled in the order of keys leaves all of them half
/// empty; of every other key first, they have room for those in between.
async fn dense(listed: Objects) -> Objects {
    let (mut dense, mut turn) = (Objects::new(), Turn::default());
    for first in [0, 1] {
        for (key, stored) in listed.iter().skip(first).step_by(2) {
            dense.insert(key.clone(), stored.clone());
            turn.step().await;
        }
    }
    dense
}

/// A new list is being announced while this lives, also when somebody who hears of it panics.
struct Announcing<'a, K: KubeObject>(&'a Cache<K>);

impl<K: KubeObject> Drop for Announcing<'_, K> {
    fn drop(&mut self) {
        self.0.0.announcing.store(false, SeqCst);
        self.0.0.progress.nudge();
    }
}

#[cfg(test)]
impl<K: KubeObject> Cache<K> {
    /// [`Cache::replace`] for lists of so few objects that it never gives way.
    pub(crate) fn replace_now(&self, listed: Objects, revision: Revision) {
        futures::FutureExt::now_or_never(self.replace(listed, revision)).expect("few objects take one turn");
    }
}
