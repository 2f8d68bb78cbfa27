//! An index of a cache: which keys have which value. Written under the cache's writer, read without locks.

use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::{OrdMap, OrdSet};
use troupe_api::meta::ObjectKey;

use super::Cached;

/// See the module.
pub struct Index<K> {
    of: fn(&K) -> Vec<Arc<str>>,
    entries: ArcSwap<OrdMap<Arc<str>, OrdSet<ObjectKey>>>,
}

impl<K> Index<K> {
    pub fn new(of: fn(&K) -> Vec<Arc<str>>) -> Self {
        Index { of, entries: ArcSwap::default() }
    }

    /// The keys filed under a value.
    pub fn keys(&self, value: &str) -> OrdSet<ObjectKey> {
        self.entries.load().get(value).cloned().unwrap_or_default()
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

    /// Files all objects anew.
    pub fn rebuild(&self, objects: &OrdMap<ObjectKey, Cached<K>>) {
        let mut entries: OrdMap<Arc<str>, OrdSet<ObjectKey>> = OrdMap::new();
        for (key, cached) in objects {
            for value in (self.of)(&cached.object) {
                entries.entry(value).or_default().insert(key.clone());
            }
        }
        self.entries.store(Arc::new(entries));
    }
}
