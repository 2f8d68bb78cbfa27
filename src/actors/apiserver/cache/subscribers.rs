//! The watchers of one resource and the fan-out to their bounded queues.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{self, error::TrySendError};
use troupe_api::{meta::Revision, service::WatchItem};

use super::{Change, Selection};

/// Events a watcher may lag behind before its stream ends; it resumes from the last revision it saw.
pub const QUEUE: usize = 1024;
/// How often a watcher that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(55);

struct Subscriber {
    selection: Arc<Selection>,
    queue: mpsc::Sender<WatchItem>,
    /// Changes up to this revision are not news to it.
    from: Revision,
    bookmarks: bool,
    last_bookmark: Instant,
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

    /// Adds a watcher of changes behind `from`.
    pub fn add(&mut self, selection: Arc<Selection>, from: Revision, bookmarks: bool, now: Instant) -> mpsc::Receiver<WatchItem> {
        let (queue, receiver) = mpsc::channel(QUEUE);
        self.all.push(Subscriber { selection, queue, from, bookmarks, last_bookmark: now });
        receiver
    }

    /// Hands a change to everybody who selects it. Whoever is gone or full is dropped, which ends its stream.
    pub fn fan_out(&mut self, change: &Change) {
        self.deliver(|subscriber| if subscriber.from >= change.revision { None } else { subscriber.selection.view(change) });
    }

    /// Sends the bookmarks that are due, and forgets watchers that are gone.
    pub fn bookmark(&mut self, revision: Revision, now: Instant) {
        self.deliver(|subscriber| {
            let due = subscriber.bookmarks && now.saturating_duration_since(subscriber.last_bookmark) >= BOOKMARK_EVERY;
            if !due || subscriber.from > revision {
                return None;
            }
            subscriber.last_bookmark = now;
            Some(WatchItem::Bookmark { revision, initial_end: false })
        });
    }

    fn deliver(&mut self, mut item_for: impl FnMut(&mut Subscriber) -> Option<WatchItem>) {
        let mut overflowed = 0;
        self.all.retain_mut(|subscriber| match item_for(subscriber) {
            None => !subscriber.queue.is_closed(),
            Some(item) => match subscriber.queue.try_send(item) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    overflowed += 1;
                    false
                }
            },
        });
        self.overflowed += overflowed;
    }
}
