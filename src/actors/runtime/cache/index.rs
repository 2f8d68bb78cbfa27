//! An index of a cache: which keys have which value. Written under the cache's writer, read without locks.

use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::{OrdMap, OrdSet};
use troupe_api::{
    meta::ObjectKey,
    stored::{KubeObject, StoredObject},
};

use super::decoded;

type Entries = OrdMap<Arc<str>, OrdSet<ObjectKey>>;

/// See the module.
pub struct Index<K> {
    of: fn(&K) -> Vec<Arc<str>>,
    entries: ArcSwap<Entries>,
}

impl<K: KubeObject> Index<K> {
    pub fn new(of: fn(&K) -> Vec<Arc<str>>) -> Self {
        Index { of, entries: ArcSwap::default() }
    }

    /// The keys filed under a value.
    pub fn keys(&self, value: &str) -> OrdSet<ObjectKey> {
        self.entries.load().get(value).cloned().unwrap_or_default()
    }

    /// The values that something is filed under.
    pub fn values(&self) -> Vec<Arc<str>> {
        self.entries.load().keys().cloned().collect()
    }

    /// Files one object anew.
    pub fn update(&self, key: &ObjectKey, old: Option<&K>, new: Option<&K>) {
        let (before, after) = (old.map(self.of).unwrap_or_default(), new.map(self.of).unwrap_or_default());
        if before == after {
            return;
        }
        let mut entries = OrdMap::clone(&self.entries.load());
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
            let mut keys = entries.get(&value).cloned().unwrap_or_default();
            keys.insert(key.clone());
            entries.insert(value, keys);
        }
        self.entries.store(Arc::new(entries));
    }

    /// Files all objects anew in all of these indexes.
    pub fn file_all(indexes: &[&Arc<Index<K>>], objects: &OrdMap<ObjectKey, Arc<StoredObject>>) {
        if indexes.is_empty() {
            return;
        }
        let mut filed = vec![Entries::new(); indexes.len()];
        for (key, stored) in objects {
            let object = decoded(stored);
            for (index, entries) in indexes.iter().zip(&mut filed) {
                for value in (index.of)(&object) {
                    entries.entry(value).or_default().insert(key.clone());
                }
            }
        }
        for (index, entries) in indexes.iter().zip(filed) {
            index.entries.store(Arc::new(entries));
        }
    }
}
