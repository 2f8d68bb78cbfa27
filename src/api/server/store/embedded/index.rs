//! Which versions exist: the newest value of each key in memory, packed where many are alike, older ones by the place of their log record.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use troupe_api::{meta::Revision, packed::Packed};

use super::{log::Place, record::Record};
use crate::store::{KeyValue, RangeRequest, StoreEvent, range_bounds};

/// An older version of a key. `create_revision` 0 marks a deletion.
#[derive(Clone, Debug)]
struct Version {
    revision: Revision,
    create_revision: Revision,
    place: Place,
}

#[derive(Debug)]
struct Newest {
    value: Packed,
    create_revision: Revision,
    revision: Revision,
    place: Place,
}

impl Newest {
    fn of(&self, key: &Bytes) -> Held {
        let &Newest { create_revision, revision, .. } = self;
        Held { key: key.clone(), value: self.value.clone(), create_revision, revision }
    }
}

#[derive(Debug, Default)]
struct Entry {
    newest: Option<Newest>,
    /// Ascending; ends with the deletion where there is no newest value.
    older: Vec<Version>,
}

/// A version as it lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    key: Bytes,
    value: Packed,
    create_revision: Revision,
    revision: Revision,
}

impl Held {
    /// The version with its value in one piece. It is copied for that: of many versions, while nobody waits for the index.
    pub fn key_value(self) -> KeyValue {
        let Held { key, value, create_revision, revision } = self;
        KeyValue { key, value: value.to_bytes(), create_revision, mod_revision: revision }
    }
}

/// Where a version's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Here(Held),
    InLog { place: Place, revision: Revision },
}

/// A change whose values possibly are still in the log.
#[derive(Debug)]
pub struct FoundChange {
    pub key: Bytes,
    pub revision: Revision,
    /// `None` for a deletion.
    pub value: Option<Found>,
    pub previous: Option<Found>,
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
    /// The keys that changed at the revisions that are not compacted, ascending.
    changes: VecDeque<(Revision, Bytes)>,
    /// Bytes of the log's frames that are needed.
    needed: u64,
    /// Those of them that hold newest values. The others are history.
    newest: u64,
}

impl Index {
    /// Takes in a committed change, whose record lies at `place`, with its value as [`packed`] gives it. Changes come in revision order.
    pub fn apply(&mut self, event: &StoreEvent, value: Option<Packed>, place: Place) {
        self.needed += need(&place);
        let entry = self.entries.entry(event.key().clone());
        // One copy of a key's bytes serves all of its versions.
        let key = entry.key().clone();
        let entry = entry.or_default();
        self.newest -= entry.end_newest();
        match event {
            StoreEvent::Put { kv, .. } => {
                self.newest += place.length();
                let value = value.unwrap_or_else(|| kv.value.clone().into());
                entry.newest = Some(Newest { value, create_revision: kv.create_revision, revision: kv.mod_revision, place });
            }
            StoreEvent::Delete { revision, .. } => entry.older.push(Version { revision: *revision, create_revision: Revision::ZERO, place }),
        }
        self.changes.push_back((event.revision(), key));
    }

    pub fn newest(&self, key: &[u8]) -> Option<KeyValue> {
        let (key, entry) = self.entries.get_key_value(key)?;
        Some(entry.newest.as_ref()?.of(key).key_value())
    }

    /// The revision of the newest value.
    pub fn newest_revision(&self, key: &[u8]) -> Option<Revision> {
        self.entries.get(key)?.newest.as_ref().map(|newest| newest.revision)
    }

    /// The version of `key` that `revision` sees.
    pub fn at(&self, key: &[u8], revision: Revision) -> Option<Found> {
        let (key, entry) = self.entries.get_key_value(key)?;
        entry.at(key, revision)
    }

    /// The keys of a range that exist at `revision`.
    pub fn range(&self, request: &RangeRequest, revision: Revision) -> Selection {
        let mut selection = Selection::default();
        let Some(bounds) = range_bounds(request) else { return selection };
        for (key, entry) in self.entries.range::<[u8], _>(bounds) {
            if !entry.exists_at(revision) {
                continue;
            }
            selection.count += 1;
            if request.limit == 0 || selection.items.len() < request.limit {
                selection.items.extend(entry.at(key, revision));
            }
        }
        selection
    }

    /// The changes under `prefix` among up to `limit` from revision `from` up to `to`, and the revision up to which these are all. Those
    /// that are compacted are not there.
    pub fn changes(&self, prefix: &[u8], (from, to): (Revision, Revision), limit: usize) -> (Vec<FoundChange>, Revision) {
        let begin = self.changes.partition_point(|(revision, _)| *revision < from);
        let mut looked_at = self.changes.range(begin..).take_while(|(revision, _)| *revision <= to);
        let (mut found, mut reached) = (Vec::new(), to);
        for (at, (revision, key)) in looked_at.by_ref().take(limit).enumerate() {
            if key.starts_with(prefix) {
                found.extend(self.entries.get(key).and_then(|entry| entry.change(key, *revision)));
            }
            if at + 1 == limit {
                reached = *revision;
            }
        }
        (found, reached)
    }

    /// Forgets what no reader at or after `revision` sees.
    pub fn compact(&mut self, revision: Revision) {
        while self.changes.front().is_some_and(|(changed, _)| *changed <= revision) {
            let Some((_, key)) = self.changes.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            self.needed -= entry.compact(revision);
            if entry.newest.is_none() && entry.older.is_empty() {
                self.entries.remove(&key);
            }
        }
        // What a burst of writes needed does not stay.
        if self.changes.capacity() / 4 > self.changes.len() {
            self.changes.shrink_to(2 * self.changes.len());
        }
    }

    /// Bytes of the log's frames that are needed.
    pub fn needed(&self) -> u64 {
        self.needed
    }

    /// Bytes of the log's frames that hold nothing but history.
    pub fn history_bytes(&self) -> u64 {
        self.needed - self.newest
    }

    /// The revision up to which has to be compacted to let go of so many bytes of history, or of all there is.
    pub fn revision_that_frees(&self, bytes: u64) -> Option<Revision> {
        let mut freed = 0;
        for (revision, key) in &self.changes {
            freed += self.entries.get(key).map_or(0, |entry| entry.ended_by(*revision));
            if freed >= bytes {
                return Some(*revision);
            }
        }
        self.changes.back().map(|(revision, _)| *revision)
    }

    /// Whether the record of this revision at `place` is needed, and which revision ended it if it is history.
    pub fn need_of(&self, key: &[u8], revision: Revision, place: &Place) -> Option<Option<Revision>> {
        let entry = self.entries.get(key)?;
        if let Some(newest) = entry.newest.as_ref().filter(|newest| newest.revision == revision) {
            return (newest.place == *place).then_some(None);
        }
        let at = entry.position(revision).ok()?;
        (entry.older[at].place == *place).then(|| Some(entry.end_of(at)))
    }

    /// The record of this revision has been carried to another place.
    pub fn relocate(&mut self, key: &[u8], revision: Revision, place: Place) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let held = match &mut entry.newest {
            Some(newest) if newest.revision == revision => {
                self.newest += place.length();
                self.newest -= newest.place.length();
                &mut newest.place
            }
            _ => match entry.position(revision) {
                Ok(at) => &mut entry.older[at].place,
                Err(_) => return,
            },
        };
        self.needed += need(&place);
        self.needed -= let_go(&std::mem::replace(held, place));
    }

    /// Takes in a record as it is found in the log when that is opened, where all up to `compacted` is. Records come in the order in
    /// which they became durable; those that were carried forward may come twice, and history late.
    pub fn recall(&mut self, record: Record, revision: Revision, ended: Option<Revision>, place: Place, compacted: Revision) {
        if ended.is_some_and(|ended| ended <= compacted) {
            return;
        }
        // Sharing the key's bytes with the version before keeps one copy per key.
        let key = self.entries.get_key_value(&record.key).map_or(record.key, |(key, _)| key.clone());
        if revision > compacted {
            self.changes.push_back((revision, key.clone()));
        }
        let entry = self.entries.entry(key.clone()).or_default();
        self.needed += need(&place);
        let newest = entry.newest.as_ref().map(|newest| newest.revision);
        let last = newest.or(entry.older.last().map(|version| version.revision));
        if last.is_none_or(|last| last < revision) {
            self.newest -= entry.end_newest();
            match record.value {
                Some(value) => {
                    self.newest += place.length();
                    let value = Packed::new(value, name(&key));
                    entry.newest = Some(Newest { value, create_revision: record.create_revision, revision, place });
                }
                None => entry.older.push(Version { revision, create_revision: Revision::ZERO, place }),
            }
        } else if newest == Some(revision) {
            self.newest += place.length();
            self.newest -= entry.newest.as_ref().map_or(0, |newest| newest.place.length());
            let held = entry.newest.as_mut().map(|newest| std::mem::replace(&mut newest.place, place));
            self.needed -= held.as_ref().map_or(0, let_go);
        } else {
            match entry.position(revision) {
                Ok(at) => self.needed -= let_go(&std::mem::replace(&mut entry.older[at].place, place)),
                Err(at) => entry.older.insert(at, Version { revision, create_revision: record.create_revision, place }),
            }
        }
        self.needed -= entry.compact(compacted);
        if entry.newest.is_none() && entry.older.is_empty() {
            self.entries.remove(&key);
        }
    }

    /// All records have been recalled.
    pub fn recalled(&mut self) {
        let mut changes = std::mem::take(&mut self.changes).into_iter().collect::<Vec<_>>();
        changes.sort_unstable_by_key(|(revision, _)| *revision);
        changes.dedup_by_key(|(revision, _)| *revision);
        changes.shrink_to_fit();
        self.changes = changes.into();
    }

    /// All newest values, in key order.
    #[cfg(test)]
    pub fn live(&self) -> impl Iterator<Item = KeyValue> {
        self.entries.iter().filter_map(|(key, entry)| entry.newest.as_ref().map(|newest| newest.of(key).key_value()))
    }
}

impl Entry {
    fn at(&self, key: &Bytes, revision: Revision) -> Option<Found> {
        match &self.newest {
            Some(newest) if newest.revision <= revision => Some(Found::Here(newest.of(key))),
            _ => self.older_at(revision)?.found(),
        }
    }

    fn exists_at(&self, revision: Revision) -> bool {
        let is_newest = self.newest.as_ref().is_some_and(|newest| newest.revision <= revision);
        is_newest || self.older_at(revision).is_some_and(|version| !version.is_deletion())
    }

    fn older_at(&self, revision: Revision) -> Option<&Version> {
        let behind = self.older.partition_point(|version| version.revision <= revision);
        self.older[..behind].last()
    }

    /// What happened at a revision.
    fn change(&self, key: &Bytes, revision: Revision) -> Option<FoundChange> {
        let value = match &self.newest {
            Some(newest) if newest.revision == revision => Some(Found::Here(newest.of(key))),
            _ => self.older[self.position(revision).ok()?].found(),
        };
        Some(FoundChange { key: key.clone(), revision, value, previous: self.at(key, Revision(revision.0 - 1)) })
    }

    fn position(&self, revision: Revision) -> Result<usize, usize> {
        self.older.binary_search_by_key(&revision, |version| version.revision)
    }

    /// The revision that made the older version at `at` history. A deletion ends itself: it is nothing that could be read.
    fn end_of(&self, at: usize) -> Revision {
        let version = &self.older[at];
        if version.is_deletion() {
            return version.revision;
        }
        let following = self.older.get(at + 1).map(|version| version.revision);
        let newest = self.newest.as_ref().map(|newest| newest.revision);
        following.or(newest).unwrap_or(Revision(u64::MAX))
    }

    /// Bytes of what the change of this revision made history.
    fn ended_by(&self, revision: Revision) -> u64 {
        let at = self.position(revision).unwrap_or_else(|at| at);
        let own = self.older.get(at).filter(|version| version.revision == revision && version.is_deletion());
        let before = at.checked_sub(1).and_then(|before| self.older.get(before)).filter(|version| !version.is_deletion());
        own.into_iter().chain(before).map(|version| version.place.length()).sum()
    }

    /// The newest value becomes an older one; gives the bytes of its frame.
    fn end_newest(&mut self) -> u64 {
        let Some(Newest { create_revision, revision, place, .. }) = self.newest.take() else { return 0 };
        let length = place.length();
        self.older.push(Version { revision, create_revision, place });
        length
    }

    /// Forgets what ended at `revision` or before; gives the bytes that are not needed any more.
    fn compact(&mut self, revision: Revision) -> u64 {
        let dead = (0..self.older.len()).take_while(|at| self.end_of(*at) <= revision).count();
        let freed = self.older.drain(..dead).map(|version| let_go(&version.place)).sum();
        if self.older.capacity() / 4 >= self.older.len() {
            self.older.shrink_to_fit();
        }
        freed
    }
}

impl Version {
    fn is_deletion(&self) -> bool {
        self.create_revision == Revision::ZERO
    }

    fn found(&self) -> Option<Found> {
        (!self.is_deletion()).then(|| Found::InLog { place: self.place.clone(), revision: self.revision })
    }
}

/// The value of a change as the index keeps it. It takes some microseconds: no reader should wait for it.
pub fn packed(event: &StoreEvent) -> Option<Packed> {
    match event {
        StoreEvent::Put { kv, .. } => Some(Packed::new(kv.value.clone(), name(&kv.key))),
        StoreEvent::Delete { .. } => None,
    }
}

/// The name of the object that lies under a key.
fn name(key: &[u8]) -> &str {
    let name = key.rsplit(|byte| *byte == b'/').next().unwrap_or(key);
    std::str::from_utf8(name).unwrap_or_default()
}

/// Notes that a frame is needed; gives its bytes.
fn need(place: &Place) -> u64 {
    place.need();
    place.length()
}

/// Notes that it is not any more; gives its bytes.
fn let_go(place: &Place) -> u64 {
    place.let_go();
    place.length()
}
