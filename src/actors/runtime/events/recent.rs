//! A map that forgets what came first when it is full.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Entries kept; client-go's size.
const REMEMBERED: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Recent<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    /// In the order in which they came.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.order.iter().filter_map(|key| self.entries.get(key))
    }

    pub fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.entries.retain(|_, value| keep(value));
        let entries = &self.entries;
        self.order.retain(|key| entries.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut recent = Recent::default();
        for number in 0..REMEMBERED + 2 {
            recent.insert(number, number);
        }
        recent.insert(5, 50);
        assert_eq!([1, 2, 5].map(|key| recent.get_mut(&key).copied()), [None, Some(2), Some(50)]);
        recent.retain(|value| *value > 4);
        assert_eq!(recent.values().next(), Some(&50));
    }
}
