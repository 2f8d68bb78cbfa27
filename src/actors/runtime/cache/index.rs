//! An index of a cache: which keys have which value. Written under the cache's writer, read without locks.
//!
//! Where it files by metadata, nothing is decoded for it. An index that is added to a full cache is filed a turn at a time.

use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::{OrdMap, OrdSet};
use parking_lot::Mutex;
use troupe_api::{
    meta::ObjectKey,
    projection::MetaProjection,
    stored::{KubeObject, StoredObject},
};

use super::{change::Version, cursor::Cursor};
use crate::runtime::turn::Turn;

type Objects = OrdMap<ObjectKey, Arc<StoredObject>>;
/// Keys by value.
pub type Entries = OrdMap<Arc<str>, OrdSet<ObjectKey>>;

type OfObject<K> = dyn Fn(&K) -> Vec<Arc<str>> + Send + Sync;

/// What gives the values that an object is filed under.
pub enum Values<K> {
    OfMeta(fn(&MetaProjection) -> Vec<Arc<str>>),
    OfObject(Box<OfObject<K>>),
}

impl<K: KubeObject> Values<K> {
    pub fn of(&self, version: &Version<K>) -> Vec<Arc<str>> {
        match self {
            Values::OfMeta(of) => of(version.meta()),
            Values::OfObject(of) => version.object().map(|object| of(object)).unwrap_or_default(),
        }
    }

    /// Files an object among others.
    pub fn file(&self, key: &ObjectKey, version: &Version<K>, entries: &mut Entries) {
        for value in self.of(version) {
            entries.entry(value).or_default().insert(key.clone());
        }
    }
}

/// See the module.
pub struct Index<K> {
    values: Values<K>,
    entries: ArcSwap<Entries>,
    /// Which objects it has filed.
    filed: Mutex<Cursor>,
}

impl<K: KubeObject> Index<K> {
    pub fn new(values: Values<K>) -> Self {
        Index { values, entries: ArcSwap::default(), filed: Mutex::new(Cursor::Nothing) }
    }

    /// What gives its values.
    pub fn values_of(&self) -> &Values<K> {
        &self.values
    }

    /// The keys filed under a value.
    pub fn keys(&self, value: &str) -> OrdSet<ObjectKey> {
        self.entries.load().get(value).cloned().unwrap_or_default()
    }

    /// The keys filed under values that begin like this and are `wanted`.
    pub fn keys_where(&self, prefix: &str, wanted: impl Fn(&str) -> bool) -> OrdSet<ObjectKey> {
        let entries = self.entries.load();
        let values = entries.range(Arc::<str>::from(prefix)..).take_while(|(value, _)| value.starts_with(prefix));
        values.filter(|(value, _)| wanted(value)).flat_map(|(_, keys)| keys.iter().cloned()).collect()
    }

    /// The values that something is filed under.
    pub fn values(&self) -> Vec<Arc<str>> {
        self.entries.load().keys().cloned().collect()
    }

    /// Whether every object is filed.
    pub fn is_complete(&self) -> bool {
        *self.filed.lock() == Cursor::Everything
    }

    /// Files one object anew, unless its turn is still to come.
    pub fn update(&self, key: &ObjectKey, old: Option<&Version<K>>, new: Option<&Version<K>>) {
        if !self.filed.lock().covers(key) {
            return;
        }
        let of = |version: Option<&Version<K>>| version.map(|version| self.values.of(version)).unwrap_or_default();
        let (before, after) = (of(old), of(new));
        if before == after {
            return;
        }
        let mut entries = Entries::clone(&self.entries.load());
        for value in before {
            let mut keys = entries.get(&value).cloned().unwrap_or_default();
            keys.remove(key);
            if keys.is_empty() {
                entries.remove(&value)
            } else {
                entries.insert(value, keys)
            };
        }
        for value in after {
            entries.entry(value).or_default().insert(key.clone());
        }
        self.entries.store(Arc::new(entries));
    }

    /// Files the next objects until the turn is over; `true` when every object is filed.
    pub fn file_some(&self, objects: &Objects, turn: &mut Turn) -> bool {
        let mut filed = self.filed.lock();
        if *filed == Cursor::Everything {
            return true;
        }
        let mut entries = Entries::clone(&self.entries.load());
        let mut last = None;
        for (key, stored) in filed.rest_of(objects) {
            self.values.file(key, &Version::new(stored.clone()), &mut entries);
            last = Some(key.clone());
            if turn.count() {
                break;
            }
        }
        self.entries.store(Arc::new(entries));
        let ends = last.as_ref().is_none_or(|last| objects.get_max().is_some_and(|(key, _)| key == last));
        *filed = last.filter(|_| !ends).map_or(Cursor::Everything, Cursor::UpTo);
        ends
    }

    /// Takes what was filed aside of every object there is; without it, filing begins again.
    pub fn reset(&self, filed: Option<Entries>) {
        *self.filed.lock() = if filed.is_some() { Cursor::Everything } else { Cursor::Nothing };
        self.entries.store(Arc::new(filed.unwrap_or_default()));
    }
}
