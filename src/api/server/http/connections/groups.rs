//! Connections by whom they belong to: an address, or a user.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use super::Connection;

/// See the module.
#[derive(Debug)]
pub(super) struct Groups<K> {
    owners: HashMap<u64, K>,
    /// By number, which grows: the first is the oldest.
    owned: HashMap<K, BTreeMap<u64, Arc<Connection>>>,
}

impl<K> Default for Groups<K> {
    fn default() -> Self {
        Groups { owners: HashMap::new(), owned: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Groups<K> {
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// How many one owner has.
    pub fn of(&self, owner: &K) -> usize {
        self.owned.get(owner).map_or(0, BTreeMap::len)
    }

    pub fn insert(&mut self, owner: K, connection: Arc<Connection>) {
        let number = connection.number();
        self.owners.insert(number, owner.clone());
        self.owned.entry(owner).or_default().insert(number, connection);
    }

    pub fn remove(&mut self, number: u64) -> Option<Arc<Connection>> {
        let owner = self.owners.remove(&number)?;
        let owned = self.owned.get_mut(&owner)?;
        let removed = owned.remove(&number);
        if owned.is_empty() {
            self.owned.remove(&owner);
        }
        removed
    }

    /// Takes the oldest of the owner with the most; of several such owners the one with the oldest.
    pub fn pop(&mut self) -> Option<Arc<Connection>> {
        let oldest = |owned: &BTreeMap<u64, Arc<Connection>>| owned.keys().next().copied();
        let most = self.owned.values().max_by_key(|owned| (owned.len(), std::cmp::Reverse(oldest(owned))))?;
        let number = oldest(most)?;
        self.remove(number)
    }
}
