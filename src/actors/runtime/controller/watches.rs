//! What wakes a controller.

use std::{any::Any, collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use troupe_api::{
    meta::{Cause, ObjectKey},
    stored::KubeObject,
};

use crate::runtime::cache::{Cache, Caches, Change};

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

/// Registers what wakes a controller, and which caches must be filled before it starts.
pub struct Watches<'a> {
    pub(super) caches: &'a Caches,
    pub(super) inbox: Arc<Inbox>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
    pub(super) subscriptions: Vec<Box<dyn Any>>,
    pub(super) synced: Vec<BoxFuture<'static, ()>>,
    /// `apiVersion` and kind of the primary objects, for events about keys.
    pub(super) primary: Option<(&'static str, &'static str)>,
}

impl Watches<'_> {
    /// Objects of this kind are the keys.
    pub fn primary<K: KubeObject>(&mut self) {
        self.primary = Some((K::API_VERSION, K::KIND));
        self.map::<K>(|change| vec![change.key.clone()]);
    }

    /// A change of an object wakes its controlling owner of kind `owner_kind`, and its former one.
    pub fn owned<K: KubeObject>(&mut self, owner_kind: &'static str) {
        self.map::<K>(move |change| {
            let versions = [change.old.as_deref(), change.new.as_deref()];
            let owners = versions.into_iter().flatten().filter_map(|object| controller_name(object.metadata(), owner_kind));
            owners.map(|name| ObjectKey::new(change.key.namespace.clone(), name)).collect()
        });
    }

    /// A change wakes the keys that `keys` names.
    pub fn map<K: KubeObject>(&mut self, keys: impl Fn(&Change<K>) -> Vec<ObjectKey> + Send + Sync + 'static) {
        let cache = self.caches.cache::<K>();
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
        self.subscriptions.push(Box::new(subscription));
        self.reads::<K>();
    }

    /// The controller reads this cache: it starts when it is filled.
    pub fn reads<K: KubeObject>(&mut self) {
        let cache: Cache<K> = self.caches.cache();
        self.synced.push(Box::pin(async move { cache.synced().await }));
    }
}

fn controller_name(object: &ObjectMeta, kind: &str) -> Option<String> {
    let mut owners = object.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true) && owner.kind == kind).map(|owner| owner.name.clone())
}
