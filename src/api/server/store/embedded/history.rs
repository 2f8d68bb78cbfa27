//! The newest events, kept in memory within a byte budget so that watches resume without reading the disk.

use std::collections::VecDeque;

use troupe_api::meta::Revision;

use crate::store::{KeyValue, StoreEvent};

/// What an event costs beside its bytes.
const OVERHEAD: usize = 256;

/// A window of events that ends at the newest.
pub struct History {
    events: VecDeque<StoreEvent>,
    bytes: usize,
    limit: usize,
    /// Events up to this revision are not here.
    floor: Revision,
}

impl History {
    /// An empty window behind `floor` that may hold about `limit` bytes.
    pub fn new(floor: Revision, limit: usize) -> Self {
        History { events: VecDeque::new(), bytes: 0, limit, floor }
    }

    pub fn push(&mut self, event: StoreEvent) {
        self.bytes += cost(&event);
        self.events.push_back(event);
        while self.bytes > self.limit {
            self.forget_oldest();
        }
    }

    /// All events from `from` on; `None` where some of them are no longer here.
    pub fn since(&self, from: Revision) -> Option<impl Iterator<Item = &StoreEvent>> {
        let begin = self.events.partition_point(|event| event.revision() < from);
        (from > self.floor).then(|| self.events.range(begin..))
    }

    /// Events up to this revision are not here.
    pub fn floor(&self) -> Revision {
        self.floor
    }

    /// Forgets events up to a compacted revision.
    pub fn compact(&mut self, compacted: Revision) {
        while self.events.front().is_some_and(|event| event.revision() <= compacted) {
            self.forget_oldest();
        }
        // What a burst of writes needed does not stay.
        if self.events.capacity() / 4 > self.events.len() {
            self.events.shrink_to(2 * self.events.len());
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= cost(&event);
            self.floor = event.revision();
        }
    }
}

fn cost(event: &StoreEvent) -> usize {
    let size = |kv: &KeyValue| kv.key.len() + kv.value.len();
    match event {
        StoreEvent::Put { kv, previous } => OVERHEAD + size(kv) + previous.as_ref().map_or(0, size),
        StoreEvent::Delete { previous, .. } => OVERHEAD + size(previous),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64) -> StoreEvent {
        let revision = Revision(revision);
        let kv = KeyValue { key: "k".into(), value: vec![0; 744].into(), create_revision: revision, mod_revision: revision };
        StoreEvent::Put { kv, previous: None }
    }

    #[test]
    fn the_window_keeps_the_newest_within_its_bytes_and_knows_where_it_begins() {
        let mut history = History::new(Revision(1), 5_005);
        for revision in 2..=10 {
            history.push(event(revision));
        }
        assert_eq!(history.floor(), Revision(5));
        assert!(history.since(Revision(5)).is_none());
        assert_eq!(history.since(Revision(6)).map(Iterator::count), Some(5));
        assert_eq!(history.since(Revision(11)).map(Iterator::count), Some(0));
        history.compact(Revision(8));
        assert_eq!((history.floor(), history.since(Revision(9)).map(Iterator::count)), (Revision(8), Some(2)));
    }
}
