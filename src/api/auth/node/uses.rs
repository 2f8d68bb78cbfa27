//! Things and their holders, each with the number of its holds.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// A counted multimap: a holder is forgotten with its last hold, a thing with its last holder.
pub struct Uses<T, H> {
    holds: HashMap<T, HashMap<H, u32>>,
}

impl<T, H> Default for Uses<T, H> {
    fn default() -> Self {
        Uses { holds: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash, H: Clone + Eq + Hash> Uses<T, H> {
    /// `holder` holds `thing` once more.
    pub fn hold(&mut self, thing: &T, holder: &H) {
        *self.holds.entry(thing.clone()).or_default().entry(holder.clone()).or_default() += 1;
    }

    /// Takes one hold away; without one nothing happens.
    pub fn release(&mut self, thing: &T, holder: &H) {
        let Some(holders) = self.holds.get_mut(thing) else { return };
        if let Some(count) = holders.get_mut(holder) {
            *count -= 1;
            if *count == 0 {
                holders.remove(holder);
            }
        }
        if holders.is_empty() {
            self.holds.remove(thing);
        }
    }

    pub fn is_held_by<Q: Eq + Hash + ?Sized>(&self, thing: &T, holder: &Q) -> bool
    where
        H: Borrow<Q>,
    {
        self.holds.get(thing).is_some_and(|holders| holders.contains_key(holder))
    }

    pub fn holders(&self, thing: &T) -> impl Iterator<Item = &H> {
        self.holds.get(thing).into_iter().flat_map(HashMap::keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_stays_until_its_last_hold_is_released() {
        let mut uses = Uses::<u8, String>::default();
        let node = "node".to_owned();
        uses.hold(&1, &node);
        uses.hold(&1, &node);
        uses.release(&1, &node);
        assert!(uses.is_held_by(&1, "node"));
        assert_eq!(uses.holders(&1).collect::<Vec<_>>(), [&node]);
        uses.release(&1, &node);
        assert!(!uses.is_held_by(&1, "node") && uses.holds.is_empty(), "nothing is left behind");
    }

    #[test]
    fn releasing_what_is_not_held_changes_nothing() {
        let mut uses = Uses::<u8, String>::default();
        uses.hold(&1, &"a".to_owned());
        uses.release(&1, &"b".to_owned());
        uses.release(&2, &"a".to_owned());
        assert!(uses.is_held_by(&1, "a"));
    }
}
