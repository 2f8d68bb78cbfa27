//! Values that many have, each kept once for as long as anybody has it.

use std::{collections::HashSet, hash::Hash, sync::Arc};

/// See the module.
pub struct Shared<T: ?Sized>(HashSet<Arc<T>>);

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Shared(HashSet::new())
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
    /// The value, shared with all who have it.
    pub fn share(&mut self, value: impl Into<Arc<T>>) -> Arc<T> {
        let value = value.into();
        if let Some(known) = self.0.get(&value) {
            return known.clone();
        }
        self.0.insert(value.clone());
        value
    }

    /// Somebody has it no longer; it is forgotten with the last one.
    pub fn let_go(&mut self, value: &Arc<T>) {
        // It is here, and with whoever lets it go.
        if Arc::strong_count(value) <= 2 {
            self.0.remove(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_once_and_forgotten_with_the_last_who_has_it() {
        let mut shared = Shared::<str>::default();
        let (one, other) = (shared.share("a"), shared.share("a".to_owned()));
        assert!(Arc::ptr_eq(&one, &other));
        shared.let_go(&other);
        drop(other);
        assert!(Arc::ptr_eq(&one, &shared.share("a")));
        shared.let_go(&one);
        assert!(shared.0.is_empty());
    }
}
