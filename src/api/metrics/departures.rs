//! What is gone of the things that label values name: whose series are to be forgotten.

use std::collections::{BTreeSet, VecDeque};

/// So many that are gone are remembered: a request that was under way may count for one of them once more.
const REMEMBERED: usize = 256;

/// Things that come and go.
#[derive(Clone, Debug)]
pub struct Departures<K> {
    present: BTreeSet<K>,
    /// Oldest first.
    gone: VecDeque<K>,
}

impl<K> Default for Departures<K> {
    fn default() -> Self {
        Departures { present: BTreeSet::new(), gone: VecDeque::new() }
    }
}

impl<K: Ord + Clone> Departures<K> {
    /// Takes in what there is now. Says whether anything has gone since the last time.
    pub fn follow(&mut self, present: BTreeSet<K>) -> bool {
        self.gone.retain(|gone| !present.contains(gone));
        let before = std::mem::replace(&mut self.present, present);
        let more = before.difference(&self.present).cloned().collect::<Vec<_>>();
        let has_gone = !more.is_empty();
        self.gone.extend(more);
        // All that went just now are remembered in any case.
        let most = REMEMBERED.max(before.len());
        while self.gone.len() > most {
            self.gone.pop_front();
        }
        has_gone
    }

    /// Whether there is something like this.
    pub fn is_present(&self, like: impl Fn(&K) -> bool) -> bool {
        self.present.iter().any(like)
    }

    /// What is gone, as far as it is remembered.
    pub fn gone(&self) -> impl Iterator<Item = &K> {
        self.gone.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_remembered_until_it_is_back() {
        let mut it = Departures::default();
        assert!(!it.follow(["a", "b"].into()));
        assert!(!it.follow(["a", "b", "c"].into()));
        assert!(it.follow(["c"].into()));
        assert_eq!(it.gone().collect::<Vec<_>>(), [&"a", &"b"]);
        assert!(!it.follow(["c", "b"].into()));
        assert_eq!(it.gone().collect::<Vec<_>>(), [&"a"]);
        let mut many = Departures::default();
        many.follow((0..1000).collect());
        many.follow(BTreeSet::new());
        assert_eq!(many.gone().count(), 1000);
        many.follow([1000].into());
        many.follow(BTreeSet::new());
        assert_eq!((many.gone().count(), many.gone().last()), (REMEMBERED, Some(&1000)));
    }
}
