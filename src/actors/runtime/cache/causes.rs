//! What caused the newest versions in a cache: whoever hears of an object out of a list, or by subscribing late, acts because of the same as
//! whoever heard of its change.

use std::collections::BTreeMap;

use troupe_api::meta::{Cause, ObjectKey, Revision};

/// So many versions are known at most.
const MOST: usize = 256;

/// The causes of the newest versions.
#[derive(Debug, Default)]
pub struct Causes(BTreeMap<(Revision, ObjectKey), Cause>);

impl Causes {
    /// Notes what caused a version, where anything did.
    pub fn note(&mut self, key: &ObjectKey, revision: Revision, cause: &Cause) {
        if cause.trace == 0 && cause.object.is_none() {
            return;
        }
        self.0.insert((revision, key.clone()), cause.clone());
        if self.0.len() > MOST {
            self.0.pop_first();
        }
    }

    /// What caused a version; nothing where that is not known.
    pub fn of(&self, key: &ObjectKey, revision: Revision) -> Cause {
        let is_recent = self.0.first_key_value().is_some_and(|((oldest, _), _)| *oldest <= revision);
        if is_recent { self.0.get(&(revision, key.clone())).cloned().unwrap_or_default() } else { Cause::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_causes_are_known_in_whatever_order_they_come() {
        let mut causes = Causes::default();
        let key = ObjectKey::new("n", "a");
        causes.note(&key, Revision(1), &Cause::default());
        assert!(causes.0.is_empty(), "nothing caused it");
        for revision in (1..=MOST as u64 + 1).rev() {
            causes.note(&key, Revision(revision), &Cause { trace: u128::from(revision), ..Cause::default() });
        }
        let trace = |key: &ObjectKey, revision| causes.of(key, Revision(revision)).trace;
        assert_eq!((trace(&key, 1), trace(&key, 2), trace(&key, 257), trace(&key, 258)), (0, 2, 257, 0));
        assert_eq!(trace(&ObjectKey::new("n", "b"), 2), 0);
    }
}
