//! The watchers of one resource and the fan-out to their bounded queues.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use troupe_api::{meta::Revision, service::WatchItem};

use super::{
    Change, Delivery, Selection,
    queue::{Queued, Refused, Sender, queue},
};

/// How often a watcher that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(55);
/// How long before its end a watch gets its last bookmark.
const BEFORE_END: Duration = Duration::from_secs(2);

struct Subscriber {
    selection: Arc<Selection>,
    queue: Sender,
    /// Changes up to this revision are not news to it.
    from: Revision,
    /// When the next bookmark is due, for those who asked for them.
    next_bookmark: Option<Instant>,
    ends: Option<Instant>,
}

/// When a watch that got a bookmark now gets the next one: after a while, but shortly before its end in any case.
fn next_bookmark(now: Instant, ends: Option<Instant>) -> Instant {
    let regular = now + BOOKMARK_EVERY;
    let last = ends.and_then(|ends| ends.checked_sub(BEFORE_END)).filter(|last| *last > now);
    last.map_or(regular, |last| last.min(regular))
}

/// All watchers of one resource.
#[derive(Default)]
pub struct Subscribers {
    all: Vec<Subscriber>,
    /// Watchers dropped because their queue was full.
    pub overflowed: u64,
}

impl Subscribers {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Adds a watcher of changes behind `from`; `bookmarks` holds the end of its watch, if it wants any.
    pub fn add(&mut self, selection: Arc<Selection>, from: Revision, bookmarks: Option<Option<Instant>>, now: Instant) -> mpsc::Receiver<Queued> {
        let (queue, receiver) = queue();
        let next_bookmark = bookmarks.map(|ends| next_bookmark(now, ends));
        self.all.push(Subscriber { selection, queue, from, next_bookmark, ends: bookmarks.flatten() });
        receiver
    }

    /// Hands a change to everybody who selects it. Whoever is gone or full is dropped, which ends its stream.
    pub fn fan_out(&mut self, change: &Change) {
        self.deliver(|subscriber| if subscriber.from >= change.revision { None } else { subscriber.selection.deliver(change) });
    }

    /// Sends the bookmarks that are due, and forgets watchers that are gone.
    pub fn bookmark(&mut self, revision: Revision, now: Instant) {
        self.deliver(|subscriber| {
            let due = subscriber.next_bookmark.is_some_and(|due| due <= now);
            if !due || subscriber.from > revision {
                return None;
            }
            subscriber.next_bookmark = Some(next_bookmark(now, subscriber.ends));
            Some(Delivery::Item(WatchItem::Bookmark { revision, initial_end: false }))
        });
    }

    fn deliver(&mut self, mut item_for: impl FnMut(&mut Subscriber) -> Option<Delivery>) {
        let mut overflowed = 0;
        self.all.retain_mut(|subscriber| match item_for(subscriber) {
            None => !subscriber.queue.is_closed(),
            Some(item) => match subscriber.queue.send(item) {
                Ok(()) => true,
                Err(Refused::Closed) => false,
                Err(Refused::Full) => {
                    overflowed += 1;
                    false
                }
            },
        });
        self.overflowed += overflowed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookmarks_come_now_and_then_and_shortly_before_the_end() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(next_bookmark(start, None), after(55));
        assert_eq!(next_bookmark(start, Some(after(600))), after(55));
        assert_eq!(next_bookmark(start, Some(after(30))), after(28));
        assert_eq!(next_bookmark(after(29), Some(after(30))), after(29 + 55), "the last one was sent");
    }
}
