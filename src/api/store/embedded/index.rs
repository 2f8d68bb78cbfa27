//! Which versions exist: the newest value of each key in memory, older ones by the revision of their log record.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::{
    meta::Revision,
    store::{KeyValue, RangeRequest, StoreEvent, range_bounds},
};

/// An older version of a key. `create_revision` 0 marks a deletion.
#[derive(Clone, Copy, Debug)]
struct Version {
    revision: Revision,
    create_revision: Revision,
}

#[derive(Debug, Default)]
struct Entry {
    newest: Option<KeyValue>,
    /// Ascending; ends with the deletion where there is no newest value.
    older: Vec<Version>,
}

/// A version that becomes garbage once compaction reaches `superseded`.
#[derive(Debug)]
struct Superseded {
    superseded: Revision,
    key: Bytes,
}

/// Where a version's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Here(KeyValue),
    /// In the log, under this revision.
    InLog(Revision),
}

/// What a range holds at a revision, values possibly still in the log.
#[derive(Debug, Default)]
pub struct Selection {
    pub items: Vec<Found>,
    pub count: u64,
}

/// The index over all versions of all keys.
#[derive(Debug, Default)]
pub struct Index {
    entries: BTreeMap<Bytes, Entry>,
    superseded: VecDeque<Superseded>,
}

impl Index {
    /// Takes in a committed change. Changes come in revision order.
    pub fn apply(&mut self, event: &StoreEvent) {
        let entry = self.entries.entry(event.key().clone()).or_default();
        let replaced = entry.newest.take();
        if let Some(kv) = &replaced {
            entry.older.push(Version { revision: kv.mod_revision, create_revision: kv.create_revision });
        }
        match event {
            StoreEvent::Put { kv, .. } => entry.newest = Some(kv.clone()),
            StoreEvent::Delete { revision, .. } => entry.older.push(Version { revision: *revision, create_revision: Revision::ZERO }),
        }
        let deletion = matches!(event, StoreEvent::Delete { .. });
        if replaced.is_some() || deletion {
            self.superseded.push_back(Superseded { superseded: event.revision(), key: event.key().clone() });
        }
    }

    /// Takes in a deletion whose value compaction has removed from the log already.
    pub fn apply_orphan_deletion(&mut self, key: Bytes, revision: Revision) {
        self.entries.entry(key.clone()).or_default().older.push(Version { revision, create_revision: Revision::ZERO });
        self.superseded.push_back(Superseded { superseded: revision, key });
    }

    pub fn newest(&self, key: &[u8]) -> Option<&KeyValue> {
        self.entries.get(key)?.newest.as_ref()
    }

    /// The version of `key` that `revision` sees.
    pub fn at(&self, key: &[u8], revision: Revision) -> Option<Found> {
        self.entries.get(key)?.at(revision)
    }

    /// The keys of a range that exist at `revision`.
    pub fn range(&self, request: &RangeRequest, revision: Revision) -> Selection {
        let mut selection = Selection::default();
        let Some(bounds) = range_bounds(request) else { return selection };
        for (_, entry) in self.entries.range::<[u8], _>(bounds) {
            let full = request.limit > 0 && selection.items.len() == request.limit;
            match entry.at(revision) {
                None => continue,
                Some(_) if full => {}
                Some(found) => selection.items.push(found),
            }
            selection.count += 1;
        }
        selection
    }

    /// Forgets what no reader at or after `revision` sees, and returns the revisions of the log records to remove.
    pub fn compact(&mut self, revision: Revision) -> Vec<Revision> {
        let mut garbage = Vec::new();
        while self.superseded.front().is_some_and(|next| next.superseded <= revision) {
            let Some(next) = self.superseded.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&next.key) else { continue };
            let Entry { newest, older } = entry;
            let first_kept = newest.as_ref().map(|kv| kv.mod_revision);
            let mut following = older.iter().skip(1).map(|version| version.revision).chain(first_kept);
            let dead = older
                .iter()
                .take_while(|version| {
                    let deletion = version.create_revision == Revision::ZERO && version.revision <= revision;
                    following.next().is_some_and(|next| next <= revision) || deletion
                })
                .count();
            garbage.extend(older.drain(..dead).map(|version| version.revision));
            if newest.is_none() && older.is_empty() {
                self.entries.remove(&next.key);
            } else if older.is_empty() {
                older.shrink_to_fit();
            }
        }
        garbage
    }

    /// All newest values, in key order.
    #[cfg(test)]
    pub fn live(&self) -> impl Iterator<Item = &KeyValue> {
        self.entries.values().filter_map(|entry| entry.newest.as_ref())
    }
}

impl Entry {
    fn at(&self, revision: Revision) -> Option<Found> {
        if let Some(kv) = &self.newest
            && kv.mod_revision <= revision
        {
            return Some(Found::Here(kv.clone()));
        }
        let behind = self.older.partition_point(|version| version.revision <= revision);
        let version = self.older[..behind].last()?;
        (version.create_revision > Revision::ZERO).then_some(Found::InLog(version.revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(index: &mut Index, key: &'static str, revision: u64) {
        let previous = index.newest(key.as_bytes()).cloned();
        let create_revision = previous.as_ref().map_or(Revision(revision), |kv| kv.create_revision);
        let kv = KeyValue { key: key.into(), value: format!("{revision}").into(), create_revision, mod_revision: Revision(revision) };
        index.apply(&StoreEvent::Put { kv, previous });
    }

    fn delete(index: &mut Index, key: &'static str, revision: u64) {
        let previous = index.newest(key.as_bytes()).cloned().expect("exists");
        index.apply(&StoreEvent::Delete { key: key.into(), revision: Revision(revision), previous });
    }

    #[test]
    fn compaction_keeps_what_its_revision_sees_and_names_the_rest() {
        let mut index = Index::default();
        put(&mut index, "a", 2);
        put(&mut index, "a", 3);
        put(&mut index, "b", 4);
        put(&mut index, "a", 5);
        delete(&mut index, "b", 6);
        put(&mut index, "a", 7);
        assert_eq!(index.compact(Revision(5)), vec![Revision(2), Revision(3)]);
        assert_eq!(index.at(b"a", Revision(5)), Some(Found::InLog(Revision(5))));
        assert_eq!(index.at(b"b", Revision(5)), Some(Found::InLog(Revision(4))));
        assert_eq!(index.at(b"b", Revision(6)), None);
        let mut rest = index.compact(Revision(7));
        rest.sort_unstable();
        assert_eq!(rest, vec![Revision(4), Revision(5), Revision(6)]);
        assert_eq!(index.live().count(), 1);
        assert!(index.compact(Revision(7)).is_empty());
    }

    #[test]
    fn a_key_made_again_after_deletion_keeps_its_history_until_compacted() {
        let mut index = Index::default();
        put(&mut index, "a", 2);
        delete(&mut index, "a", 3);
        put(&mut index, "a", 4);
        assert_eq!(index.at(b"a", Revision(2)), Some(Found::InLog(Revision(2))));
        assert_eq!(index.at(b"a", Revision(3)), None);
        assert_eq!(index.compact(Revision(3)), vec![Revision(2), Revision(3)]);
        assert!(index.newest(b"a").is_some());
    }
}
