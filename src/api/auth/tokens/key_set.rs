//! The keys whose tokens count, as they are now: those of this server stay, those of a signer elsewhere are exchanged.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::PublicKey;

/// A key whose tokens count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    pub key: PublicKey,
    /// Nothing is signed with it any more: no document tells of it.
    pub is_hidden: bool,
}

/// See the module. Clones share the keys.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Arc<ArcSwap<Vec<TrustedKey>>>);

impl From<Vec<PublicKey>> for KeySet {
    fn from(keys: Vec<PublicKey>) -> Self {
        let set = KeySet::default();
        set.exchange(keys.into_iter().map(|key| TrustedKey { key, is_hidden: false }).collect());
        set
    }
}

impl KeySet {
    pub fn load(&self) -> Arc<Vec<TrustedKey>> {
        self.0.load_full()
    }

    /// Puts others in their place; the same ones change nothing.
    pub fn exchange(&self, keys: Vec<TrustedKey>) {
        if *self.load() != keys {
            self.0.store(Arc::new(keys));
        }
    }

    /// Whether one of them has that id.
    pub fn has(&self, id: &str) -> bool {
        self.load().iter().any(|trusted| trusted.key.id() == id)
    }

    /// Those that documents tell of.
    pub fn told(&self) -> Vec<PublicKey> {
        self.load().iter().filter(|trusted| !trusted.is_hidden).map(|trusted| trusted.key.clone()).collect()
    }
}
