//! What wakes a controller.

use std::{
    any::Any,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use troupe_api::{
    meta::{Cause, ObjectKey},
    projection::MetaProjection,
    stored::KubeObject,
};

use super::{ReconcileContext, lost_replies::ReadCache};
use crate::runtime::{
    cache::{Cache, Caches, Change},
    fingerprint::Fingerprint,
    work::Version,
};

/// Keys that want attention, collected on the caches' threads until the unit takes them.
#[derive(Default)]
pub(super) struct Inbox {
    keys: Mutex<BTreeMap<ObjectKey, Cause>>,
}

impl Inbox {
    /// Notes a key; `true` when the inbox was empty, so that the unit must be woken.
    fn note(&self, key: ObjectKey, cause: Cause) -> bool {
        let mut keys = self.keys.lock();
        let first = keys.is_empty();
        keys.insert(key, cause);
        first
    }

    pub fn take(&self) -> BTreeMap<ObjectKey, Cause> {
        std::mem::take(&mut self.keys.lock())
    }
}

/// Wakes keys from outside the caches.
#[derive(Clone)]
pub struct Waker {
    inbox: Arc<Inbox>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Waker {
    pub fn wake(&self, key: ObjectKey, cause: Cause) {
        if self.inbox.note(key, cause) {
            (self.wake)();
        }
    }
}

/// Registers what wakes a controller, and which caches must be filled before it starts.
pub struct Watches<'a> {
    pub(super) caches: &'a Caches,
    pub(super) inbox: Arc<Inbox>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
    pub(super) subscriptions: Vec<Box<dyn Any>>,
    pub(super) synced: Vec<BoxFuture<'static, ()>>,
    pub(super) read: Vec<ReadCache>,
    /// The objects that the keys stand for.
    pub(super) primary: Option<Primary>,
}

/// The objects that a controller's keys stand for.
#[derive(Clone)]
pub(super) struct Primary {
    pub api_version: &'static str,
    pub kind: &'static str,
    look: Arc<Look>,
    version: Arc<FindVersion>,
    again: Arc<FindAgain>,
}

/// Tells which version of what people want a key's object is.
type FindVersion = dyn Fn(&ObjectKey) -> Option<Version> + Send + Sync;
/// Finds a key's object.
type Look = dyn Fn(&ObjectKey) -> Option<(ObjectReference, Fingerprint)> + Send + Sync;
/// Finds the keys of one part of so many that are to be looked at again.
type FindAgain = dyn Fn(u64, u64) -> Vec<ObjectKey> + Send + Sync;

impl Primary {
    fn of<K: KubeObject>(cache: Cache<K>, wakes: impl Fn(&Change<K>) -> bool + Send + Sync + 'static) -> Self {
        let all = cache.clone();
        let again = move |part: u64, parts: u64| {
            let stays = |key: &ObjectKey| {
                let stored = all.stored(key)?;
                Some(wakes(&Change::between(key.clone(), Some(stored.clone()), Some(stored), Cause::default())))
            };
            all.keys().into_iter().filter(|key| part_of(key, parts) == part && stays(key) == Some(true)).collect()
        };
        let stored = cache.clone();
        let version = move |key: &ObjectKey| stored.stored(key).map(|object| Version::of(&object));
        let look =
            move |key: &ObjectKey| cache.get(key).map(|cached| (ReconcileContext::reference(&*cached.object), Fingerprint::of(&*cached.object)));
        Primary { api_version: K::API_VERSION, kind: K::KIND, look: Arc::new(look), version: Arc::new(version), again: Arc::new(again) }
    }

    /// The keys of one part of `parts` that a change which changes nothing would wake, as upstream's resync does.
    pub fn again(&self, part: u64, parts: u64) -> Vec<ObjectKey> {
        (self.again)(part, parts)
    }

    /// Which version of what people want a key's object is; cheap.
    pub fn version(&self, key: &ObjectKey) -> Option<Version> {
        (self.version)(key)
    }

    /// What people may have changed of a key's object; `None` where there is none.
    pub fn fingerprint(&self, key: &ObjectKey) -> Option<Fingerprint> {
        (self.look)(key).map(|(_, fingerprint)| fingerprint)
    }

    /// A key's object for events, also where it is gone.
    pub fn reference(&self, key: &ObjectKey) -> ObjectReference {
        let gone = || ObjectReference {
            api_version: Some(self.api_version.into()),
            kind: Some(self.kind.into()),
            name: Some(key.name.to_string()),
            namespace: (!key.namespace.is_empty()).then(|| key.namespace.to_string()),
            ..ObjectReference::default()
        };
        (self.look)(key).map_or_else(gone, |(reference, _)| reference)
    }
}

/// Which part of so many a key is in; always the same one.
fn part_of(key: &ObjectKey, parts: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() % parts
}

impl Watches<'_> {
    /// Objects of this kind are the keys.
    pub fn primary<K: KubeObject>(&mut self) {
        self.primary_when::<K>(|_| true);
    }

    /// Objects of this kind are the keys; only some of their changes wake them.
    pub fn primary_when<K: KubeObject>(&mut self, wakes: impl Fn(&Change<K>) -> bool + Send + Sync + 'static) {
        let wakes = Arc::new(wakes);
        let again = wakes.clone();
        self.primary = Some(Primary::of(self.caches.cache::<K>(), move |change| again(change)));
        self.map::<K>(move |change| wakes(change).then(|| change.key.clone()).into_iter().collect());
    }

    /// Something that wakes keys for reasons that no cache knows of.
    pub fn waker(&self) -> Waker {
        Waker { inbox: self.inbox.clone(), wake: self.wake.clone() }
    }

    /// A change of an object wakes its controlling owner of kind `owner_kind`, and its former one.
    pub fn owned<K: KubeObject>(&mut self, owner_kind: &'static str) {
        self.owned_when::<K>(owner_kind, |_| true);
    }

    /// The same for some of its changes only.
    pub fn owned_when<K: KubeObject>(&mut self, owner_kind: &'static str, wakes: impl Fn(&Change<K>) -> bool + Send + Sync + 'static) {
        self.map::<K>(move |change| {
            if !wakes(change) {
                return Vec::new();
            }
            let metas = change.meta_before().into_iter().chain(change.meta_after());
            let owners = metas.filter_map(MetaProjection::controller).filter(|owner| &*owner.kind == owner_kind).map(|owner| owner.name.clone());
            owners.map(|name| ObjectKey::new(change.key.namespace.clone(), name)).collect()
        });
    }

    /// A change wakes the keys that `keys` names.
    pub fn map<K: KubeObject>(&mut self, keys: impl Fn(&Change<K>) -> Vec<ObjectKey> + Send + Sync + 'static) {
        self.map_of(&self.caches.cache::<K>(), keys);
    }

    /// The same for a cache that holds only some objects of its kind.
    pub fn map_of<K: KubeObject>(&mut self, cache: &Cache<K>, keys: impl Fn(&Change<K>) -> Vec<ObjectKey> + Send + Sync + 'static) {
        let (inbox, wake) = (self.inbox.clone(), self.wake.clone());
        let subscription = cache.subscribe(move |change| {
            let mut first = false;
            for key in keys(change) {
                first |= inbox.note(key, change.cause.clone());
            }
            if first {
                wake();
            }
        });
        self.read.push(ReadCache::of(cache));
        self.synced.push(Box::pin(subscription.filled()));
        self.subscriptions.push(Box::new(subscription));
    }

    /// The controller reads this cache: it starts when it is filled.
    pub fn reads<K: KubeObject>(&mut self) {
        self.wait_for(self.caches.cache::<K>());
    }

    fn wait_for<K: KubeObject>(&mut self, cache: Cache<K>) {
        self.read.push(ReadCache::of(&cache));
        self.synced.push(Box::pin(async move { cache.synced().await }));
    }
}
