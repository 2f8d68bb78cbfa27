//! etcd's watch responses as whole revisions, in order, none missing and none twice. Pure.
//!
//! A response may be a fragment: then its last revision may go on in the next. Every key is watched, so that every revision
//! has an event, a missing number is a missing event (old etcds lose a deletion that is compacted while a watch is
//! behind), and each event tells how far the watch is complete, also those of keys that are not delivered.

use bytes::Bytes;
use etcd_client::proto::{PbEvent, PbWatchResponse};
use thiserror::Error;
use troupe_api::meta::Revision;

use super::txn::{key_value, revision};
use crate::store::StoreEvent;

const DELETE: i32 = 1;

/// Something that was to come will never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the watch misses something between revisions {after} and {at}")]
pub struct Gap {
    pub after: Revision,
    pub at: Revision,
}

/// Changes ready to be delivered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub events: Vec<StoreEvent>,
    /// Nothing up to here is missing.
    pub complete: Option<Revision>,
}

/// Puts one watch's responses together, over any number of connections.
pub struct Assembler {
    /// What is delivered: changes of keys with this prefix.
    prefix: Bytes,
    /// Everything up to here is delivered, or was never wanted.
    seen: Revision,
    /// Events of the revision behind `seen` that may go on in the next fragment.
    unfinished: Vec<PbEvent>,
}

impl Assembler {
    /// For a watch of changes behind `seen`.
    pub fn new(prefix: Bytes, seen: Revision) -> Self {
        Assembler { prefix, seen, unfinished: Vec::new() }
    }

    /// Where a connection must begin: at what was seen last. etcd then tells if that is compacted; beginning behind it,
    /// etcd would not tell that a deletion right there is lost. It cannot begin at 0, which means "now".
    pub fn resume_at(&mut self) -> Revision {
        self.unfinished.clear();
        self.seen.max(Revision(1))
    }

    /// How far the watch is.
    pub fn seen(&self) -> Revision {
        self.seen
    }

    /// Takes a response.
    pub fn take(&mut self, response: PbWatchResponse) -> Result<Batch, Gap> {
        let mut events = std::mem::take(&mut self.unfinished);
        events.extend(response.events);
        if response.fragment {
            let last = events.last().map_or(0, event_revision);
            let whole = events.partition_point(|event| event_revision(event) < last);
            self.unfinished = events.split_off(whole);
        }
        let (mut batch, before) = (Batch::default(), self.seen);
        for event in events {
            let at = revision(event_revision(&event));
            if at <= before {
                continue;
            }
            if at != self.seen {
                self.move_on(at)?;
            }
            batch.events.extend(self.event(event, at)?);
        }
        batch.complete = (self.seen > before).then_some(self.seen);
        Ok(batch)
    }

    fn move_on(&mut self, at: Revision) -> Result<(), Gap> {
        // Revision 1 is the empty store, which no event made.
        if at > self.seen.max(Revision(1)).next() {
            return Err(Gap { after: self.seen, at });
        }
        self.seen = at;
        Ok(())
    }

    /// An event in our form; `None` where its key is not one of those that are delivered.
    fn event(&self, event: PbEvent, at: Revision) -> Result<Option<StoreEvent>, Gap> {
        // The version before is missing where it is compacted already.
        let gap = Gap { after: self.seen, at };
        let kv = event.kv.ok_or(gap)?;
        if !kv.key.starts_with(&self.prefix) {
            return Ok(None);
        }
        let previous = event.prev_kv.map(key_value);
        if event.r#type == DELETE {
            let previous = previous.ok_or(gap)?;
            return Ok(Some(StoreEvent::Delete { key: kv.key.into(), revision: at, previous }));
        }
        if kv.version > 1 && previous.is_none() {
            return Err(gap);
        }
        Ok(Some(StoreEvent::Put { kv: key_value(kv), previous }))
    }
}

fn event_revision(event: &PbEvent) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::PbKeyValue;

    use super::*;

    fn kv(key: &str, mod_revision: i64, version: i64) -> PbKeyValue {
        PbKeyValue { key: key.into(), value: b"v".to_vec(), create_revision: mod_revision, mod_revision, version, ..PbKeyValue::default() }
    }

    fn put(key: &str, at: i64) -> PbEvent {
        PbEvent { r#type: 0, kv: Some(kv(key, at, 1)), prev_kv: None }
    }

    fn delete(key: &str, at: i64) -> PbEvent {
        PbEvent { r#type: DELETE, kv: Some(kv(key, at, 0)), prev_kv: Some(kv(key, at - 1, 1)) }
    }

    fn response(events: Vec<PbEvent>, fragment: bool) -> PbWatchResponse {
        PbWatchResponse { events, fragment, ..PbWatchResponse::default() }
    }

    fn all(seen: u64) -> Assembler {
        Assembler::new("/registry/".into(), Revision(seen))
    }

    fn revisions(batch: &Batch) -> Vec<u64> {
        batch.events.iter().map(|event| event.revision().0).collect()
    }

    #[test]
    fn a_new_connection_repeats_the_last_revision_and_nobody_sees_it_twice() {
        let mut watch = all(4);
        assert_eq!(watch.resume_at(), Revision(4));
        let batch = watch.take(response(vec![put("/registry/a", 4), put("/registry/b", 5), put("/registry/c", 6)], false)).expect("no gap");
        assert_eq!((revisions(&batch), batch.complete), (vec![5, 6], Some(Revision(6))));
        assert_eq!(watch.resume_at(), Revision(6));
        let batch = watch.take(response(vec![put("/registry/c", 6)], false)).expect("no gap");
        assert_eq!(batch, Batch::default());
    }

    #[test]
    fn other_keys_count_and_are_not_delivered() {
        let mut watch = all(1);
        let batch = watch.take(response(vec![put("/other/a", 2), put("/registry/b", 3), put("/other/a", 4)], false)).expect("no gap");
        assert_eq!((revisions(&batch), batch.complete), (vec![3], Some(Revision(4))));
    }

    #[test]
    fn a_revision_in_two_fragments_is_delivered_whole() {
        let mut watch = all(4);
        let batch = watch.take(response(vec![put("/registry/a", 5), delete("/registry/b", 6)], true)).expect("no gap");
        assert_eq!((revisions(&batch), batch.complete), (vec![5], Some(Revision(5))));
        let batch = watch.take(response(vec![delete("/registry/c", 6)], true)).expect("no gap");
        assert_eq!(batch, Batch::default());
        let batch = watch.take(response(vec![delete("/registry/d", 6), put("/registry/a", 7)], false)).expect("no gap");
        assert_eq!((revisions(&batch), batch.complete), (vec![6, 6, 6, 7], Some(Revision(7))));
    }

    #[test]
    fn a_fragment_whose_rest_is_lost_comes_again_with_the_next_connection() {
        let mut watch = all(4);
        watch.take(response(vec![put("/registry/a", 5), delete("/registry/b", 6)], true)).expect("no gap");
        assert_eq!(watch.resume_at(), Revision(5));
        let again = vec![put("/registry/a", 5), delete("/registry/b", 6), delete("/registry/c", 6)];
        assert_eq!(revisions(&watch.take(response(again, false)).expect("no gap")), [6, 6]);
    }

    #[test]
    fn a_missing_revision_or_version_before_is_noticed() {
        assert_eq!(all(4).take(response(vec![put("/registry/a", 6)], false)), Err(Gap { after: Revision(4), at: Revision(6) }));
        let unknown = PbEvent { prev_kv: None, ..delete("/registry/a", 5) };
        assert!(all(4).take(response(vec![unknown], false)).is_err());
        let replaced = PbEvent { kv: Some(kv("/registry/a", 5, 2)), ..put("/registry/a", 5) };
        assert!(all(4).take(response(vec![replaced], false)).is_err());
    }

    #[test]
    fn a_watch_of_few_keys_knows_how_far_it_is_by_all_others() {
        let mut watch = Assembler::new("/registry/pods/".into(), Revision(4));
        let batch = watch.take(response(vec![put("/registry/nodes/a", 5), put("/registry/nodes/b", 6)], false)).expect("no gap");
        assert_eq!((revisions(&batch), batch.complete), (vec![], Some(Revision(6))));
        let batch = watch.take(response(vec![put("/registry/nodes/a", 7), put("/registry/pods/a", 8)], false)).expect("no gap");
        assert_eq!((revisions(&batch), batch.complete), (vec![8], Some(Revision(8))));
    }

    #[test]
    fn an_empty_store_begins_behind_revision_1() {
        let mut watch = all(0);
        assert_eq!(watch.resume_at(), Revision(1));
        assert_eq!(revisions(&watch.take(response(vec![put("/registry/a", 2)], false)).expect("no gap")), [2]);
    }
}
