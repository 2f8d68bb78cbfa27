use super::*;
use crate::store::embedded::log::Places;

/// An index and places for its records.
#[derive(Default)]
struct Fixture {
    index: Index,
    places: Places,
}

impl Fixture {
    fn put(&mut self, key: &'static str, revision: u64) {
        let previous = self.index.newest(key.as_bytes());
        let create_revision = previous.as_ref().map_or(Revision(revision), |kv| kv.create_revision);
        let kv = KeyValue { key: key.into(), value: format!("{revision}").into(), create_revision, mod_revision: Revision(revision) };
        self.apply(&StoreEvent::Put { kv, previous }, revision);
    }

    fn delete(&mut self, key: &'static str, revision: u64) {
        let previous = self.index.newest(key.as_bytes()).expect("exists");
        let event = StoreEvent::Delete { key: key.into(), revision: Revision(revision), previous };
        self.apply(&event, revision);
    }

    /// As the writer takes changes in.
    fn apply(&mut self, event: &StoreEvent, place: u64) {
        self.index.apply(event, packed(event), self.places.at(place));
    }

    /// Compacts and says how many records are needed then; each counts as one byte.
    fn compact(&mut self, revision: u64) -> u64 {
        self.index.compact(Revision(revision));
        assert_eq!(self.index.needed(), self.places.needed());
        self.index.needed()
    }

    /// Lets go of so many bytes of history; gives the revision up to which that is compacted, and what is left of it.
    fn free(&mut self, bytes: u64) -> (Option<u64>, u64) {
        let revision = self.index.revision_that_frees(bytes);
        if let Some(revision) = revision {
            self.compact(revision.0);
        }
        (revision.map(|revision| revision.0), self.index.history_bytes())
    }

    fn in_log(&self, key: &str, revision: u64) -> Option<u64> {
        match self.index.at(key.as_bytes(), Revision(revision)) {
            Some(Found::InLog { revision, .. }) => Some(revision.0),
            _ => None,
        }
    }

    fn recall(&mut self, key: &'static str, revision: u64, value: Option<&'static str>, ended: Option<u64>, place: u64, compacted: u64) {
        let record = Record { key: key.into(), value: value.map(Bytes::from), create_revision: Revision(u64::from(value.is_some())), expiry: None };
        self.index.recall(record, Revision(revision), ended.map(Revision), self.places.at(place), Revision(compacted));
    }
}

#[test]
fn all_versions_of_a_key_share_its_bytes() {
    let mut it = Fixture::default();
    for revision in 2..=4 {
        // As each write brings its own.
        let key = Bytes::copy_from_slice(b"/registry/pods/n/p");
        let previous = it.index.newest(&key);
        let kv = KeyValue { key, value: "v".into(), create_revision: Revision(2), mod_revision: Revision(revision) };
        it.apply(&StoreEvent::Put { kv, previous }, revision);
    }
    let (first, _) = it.index.entries.first_key_value().expect("a key");
    assert_eq!(it.index.newest(first).map(|kv| kv.key.as_ptr()), Some(first.as_ptr()));
    assert!(it.index.changes.iter().all(|(_, key)| key.as_ptr() == first.as_ptr()));
}

#[test]
fn values_that_are_alike_are_packed_and_come_back_as_they_were() {
    let key = |at: u64| Bytes::from(format!("/registry/configmaps/n/of-the-index-x{at}"));
    let value = |at: u64| {
        let data: Vec<String> = (0..60).map(|field| format!("\"field{field}\":\"value\"")).collect();
        let head = format!("\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"of-the-index-x{at}\"}}");
        Bytes::from(format!("{{{head},\"data\":{{{}}}}}", data.join(",")))
    };
    let kv = |at: u64| KeyValue { key: key(at), value: value(at), create_revision: Revision(at), mod_revision: Revision(at) };
    let mut it = Fixture::default();
    for at in 1..=5 {
        it.apply(&StoreEvent::Put { kv: kv(at), previous: None }, at);
    }
    let record = Record { key: key(6), value: Some(value(6)), create_revision: Revision(6), expiry: None };
    it.index.recall(record, Revision(6), None, it.places.at(6), Revision::ZERO);
    let kept = |at: u64| it.index.entries[&key(at)].newest.as_ref().map_or(0, |newest| newest.value.footprint());
    assert!(kept(1) >= value(1).len() && (2..=6).all(|at| kept(at) < 100), "{:?}", [1, 2, 6].map(kept));
    let here = |found: Found| match found {
        Found::Here(held) => Some(held.key_value()),
        Found::InLog { .. } => None,
    };
    for at in 1..=6 {
        assert_eq!(it.index.newest(&key(at)), Some(kv(at)));
        assert_eq!(it.index.at(&key(at), Revision(9)).and_then(here), Some(kv(at)));
    }
    let request = RangeRequest { start: key(1), end: key(9), limit: 4, at: None };
    let Selection { items, count } = it.index.range(&request, Revision(9));
    assert_eq!(items.into_iter().filter_map(here).collect::<Vec<_>>(), (1..=4).map(kv).collect::<Vec<_>>());
    assert_eq!(count, 6);
}

#[test]
fn compaction_keeps_what_its_revision_sees_and_lets_the_rest_go() {
    let mut it = Fixture::default();
    it.put("a", 2);
    it.put("a", 3);
    it.put("b", 4);
    it.put("a", 5);
    it.delete("b", 6);
    it.put("a", 7);
    assert_eq!(it.compact(5), 4, "2 and 3 go");
    assert_eq!((it.in_log("a", 5), it.in_log("b", 5), it.in_log("a", 4)), (Some(5), Some(4), None));
    assert_eq!(it.index.at(b"b", Revision(6)), None);
    assert_eq!(it.compact(7), 1, "4, 5 and 6 go");
    assert_eq!(it.index.live().count(), 1);
    assert_eq!(it.compact(7), 1);
}

#[test]
fn a_key_made_again_after_deletion_keeps_its_history_until_compacted() {
    let mut it = Fixture::default();
    it.put("a", 2);
    it.delete("a", 3);
    it.put("a", 4);
    assert_eq!((it.in_log("a", 2), it.in_log("a", 3)), (Some(2), None));
    assert_eq!(it.compact(3), 1);
    assert!(it.index.newest(b"a").is_some());
}

#[test]
fn a_record_is_needed_where_it_lies_and_history_knows_its_end() {
    let mut it = Fixture::default();
    it.put("a", 2);
    it.put("a", 3);
    it.delete("a", 4);
    it.put("a", 5);
    let need_of = |it: &Fixture, revision, place| it.index.need_of(b"a", Revision(revision), &it.places.at(place));
    let ends = [2, 3, 4, 5].map(|revision| need_of(&it, revision, revision));
    assert_eq!(ends, [Some(Some(Revision(3))), Some(Some(Revision(4))), Some(Some(Revision(4))), Some(None)]);
    assert_eq!(need_of(&it, 5, 9), None, "that copy is not the one");
    it.index.relocate(b"a", Revision(5), it.places.at(9));
    it.index.relocate(b"a", Revision(3), it.places.at(8));
    assert_eq!((need_of(&it, 5, 9), need_of(&it, 3, 8)), (Some(None), Some(Some(Revision(4)))));
    assert_eq!((need_of(&it, 5, 5), need_of(&it, 3, 3)), (None, None));
    assert_eq!(it.compact(4), 1);
}

#[test]
fn changes_are_told_by_revision_with_what_they_replaced() {
    let mut it = Fixture::default();
    it.put("a", 2);
    it.put("b", 3);
    it.put("a", 4);
    it.delete("b", 5);
    let told = |it: &Fixture, from, to, limit| {
        let (changes, _) = it.index.changes(b"", (Revision(from), Revision(to)), limit);
        changes.into_iter().map(|change| (change.revision.0, change.value.is_some(), change.previous.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(told(&it, 2, 5, 10), [(2, true, false), (3, true, false), (4, true, true), (5, false, true)]);
    assert_eq!(told(&it, 3, 4, 10), [(3, true, false), (4, true, true)]);
    assert_eq!(told(&it, 2, 5, 1), [(2, true, false)]);
    let of_b = |limit| {
        let (changes, reached) = it.index.changes(b"b", (Revision(2), Revision(5)), limit);
        (changes.len(), reached.0)
    };
    assert_eq!((of_b(1), of_b(2), of_b(9)), ((0, 2), (1, 3), (2, 5)), "how far it looked is told, whatever it found");
    it.compact(4);
    assert_eq!(told(&it, 0, 9, 10), [(5, false, true)]);
}

#[test]
fn records_are_recalled_in_any_order_that_carrying_forward_makes() {
    let mut it = Fixture::default();
    // As it lies: `a` was written at 5, 7 and 9, and 5 was carried behind 9; `b` was carried whole; `c` is gone, and a copy is left.
    it.recall("a", 7, Some("7"), None, 1, 6);
    it.recall("b", 3, Some("3"), None, 2, 6);
    it.recall("a", 9, Some("9"), None, 3, 6);
    it.recall("a", 5, Some("5"), Some(7), 4, 6);
    it.recall("b", 3, Some("3"), None, 5, 6);
    it.recall("c", 2, Some("2"), Some(4), 6, 6);
    it.recall("d", 2, Some("2"), None, 7, 6);
    it.recall("d", 6, None, None, 8, 6);
    it.recall("e", 4, Some("4"), None, 9, 6);
    it.recall("e", 8, None, None, 10, 6);
    it.index.recalled();
    let live: Vec<_> = it.index.live().map(|kv| (kv.key, kv.value)).collect();
    assert_eq!(live, [("a", "9"), ("b", "3")].map(|(key, value)| (Bytes::from(key), Bytes::from(value))));
    assert_eq!((it.in_log("a", 6), it.in_log("a", 8), it.in_log("e", 7), it.in_log("e", 8)), (Some(5), Some(7), Some(4), None));
    assert_eq!(it.index.changes(b"", (Revision(0), Revision(99)), 99).0.len(), 3, "7, 8 and 9");
    assert_eq!(it.compact(6), 6, "three of a, one of b, two of e");
    assert_eq!(it.compact(9), 2);
}

#[test]
fn so_much_history_goes_as_is_asked_for_and_nothing_else() {
    let mut it = Fixture::default();
    for revision in 2..=11 {
        it.put("a", revision);
    }
    for revision in 12..=21 {
        it.put("b", revision);
    }
    it.delete("b", 22);
    assert_eq!(it.index.history_bytes(), 9 + 10 + 1, "each record counts as one byte, and a deletion is history");
    assert_eq!(it.free(1), (Some(3), 19), "the first change made nothing history");
    assert_eq!(it.free(4), (Some(7), 15));
    it.index.relocate(b"a", Revision(11), it.places.at(1000));
    assert_eq!(it.index.history_bytes(), 15);
    assert_eq!(it.free(6), (Some(14), 9));
    assert_eq!(it.in_log("a", 10), None);
    assert_eq!(it.free(1000), (Some(22), 0));
    assert_eq!(it.index.live().map(|kv| kv.mod_revision.0).collect::<Vec<_>>(), [11]);
    assert_eq!(it.free(1), (None, 0));
}

#[test]
fn history_is_counted_in_what_a_log_is_opened_with() {
    let mut it = Fixture::default();
    it.recall("a", 2, Some("1"), Some(5), 2, 0);
    it.recall("a", 5, Some("2"), None, 5, 0);
    it.recall("a", 2, Some("1"), Some(5), 12, 0);
    it.recall("a", 5, Some("2"), None, 15, 0);
    it.recall("b", 6, Some("1"), None, 16, 0);
    it.recall("b", 7, None, Some(7), 17, 0);
    it.index.recalled();
    assert_eq!((it.index.needed(), it.index.history_bytes()), (4, 3));
    assert_eq!(it.free(1), (Some(5), 2));
}
