//! Fan-out of committed events to the watches of one store.
//!
//! In: batches of durable events in revision order. Out: each watch's own events, each once. Sending never blocks: a
//! watcher whose queue is full gets [`WatchMessage::Ended`] behind what it already has, and resumes from there.

use bytes::Bytes;
use tokio::sync::mpsc;
use troupe_api::meta::Revision;

use super::{StoreEvent, WatchMessage};

/// Messages a watcher may lag behind; a message carries all events of one commit.
const QUEUE: usize = 1023;

/// The sending half of a watch. One slot of the queue is kept for the message that ends it.
pub(super) struct Outlet {
    prefix: Bytes,
    sender: mpsc::Sender<WatchMessage>,
    last: mpsc::OwnedPermit<WatchMessage>,
}

impl Outlet {
    /// A new watch's queue.
    pub fn new(prefix: Bytes) -> (Self, mpsc::Receiver<WatchMessage>) {
        Outlet::with_room(prefix, QUEUE)
    }

    /// As [`Outlet::new`], with room for `messages`.
    pub fn with_room(prefix: Bytes, messages: usize) -> (Self, mpsc::Receiver<WatchMessage>) {
        let (sender, receiver) = mpsc::channel(messages + 1);
        let last = sender.clone().try_reserve_owned().expect("a new queue has room");
        (Outlet { prefix, sender, last }, receiver)
    }

    /// Ends the watch, behind everything sent before.
    pub fn end(self, compacted: Option<Revision>) {
        self.last.send(WatchMessage::Ended { compacted });
    }

    /// Waits for room for one message; `None` when the watcher is gone.
    pub async fn room(&self) -> Option<mpsc::OwnedPermit<WatchMessage>> {
        self.sender.clone().reserve_owned().await.ok()
    }

    /// Waits until the watcher has taken all messages but one: whoever reads ahead for it holds no more than that.
    pub async fn taken(&self) {
        let all = self.sender.max_capacity() - 1;
        // An error means that the watcher is gone, which shows at the next message.
        let _ = self.sender.reserve_many(all.saturating_sub(1)).await;
    }

    /// Room for one message if there is some right now.
    pub fn room_now(&self) -> Option<mpsc::OwnedPermit<WatchMessage>> {
        self.sender.clone().try_reserve_owned().ok()
    }

    /// Resolves when the watcher is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// This watch's share of some events.
    pub fn select(&self, events: impl Iterator<Item = StoreEvent>) -> Vec<StoreEvent> {
        events.filter(|event| event.key().starts_with(&self.prefix)).collect()
    }

    /// The prefix watched.
    pub fn prefix(&self) -> &Bytes {
        &self.prefix
    }
}

/// A live watch.
struct Watcher {
    outlet: Outlet,
    /// The first revision it still wants.
    next: Revision,
    /// The last revision it knows to be complete.
    told: Revision,
}

/// The live watches of one store.
#[derive(Default)]
pub(super) struct Watchers {
    live: Vec<Watcher>,
}

impl Watchers {
    /// Makes a watch live. `backlog` are its events from `next` up to `current`; they go out through `slot`.
    pub fn attach(&mut self, outlet: Outlet, slot: mpsc::OwnedPermit<WatchMessage>, next: Revision, backlog: Vec<StoreEvent>, current: Revision) {
        let in_future = next > current.next();
        if !backlog.is_empty() {
            slot.send(WatchMessage::Events(backlog));
            if let Some(slot) = outlet.room_now() {
                slot.send(WatchMessage::Progress(current));
            }
        } else if !in_future {
            slot.send(WatchMessage::Progress(current));
        }
        self.live.push(Watcher { outlet, next: next.max(current.next()), told: current });
    }

    /// Sends committed events, which are in revision order, to the watches they concern.
    pub fn publish(&mut self, events: &[StoreEvent]) {
        let mut at = 0;
        while at < self.live.len() {
            if self.live[at].offer(events) {
                at += 1;
            } else {
                self.live.swap_remove(at).outlet.end(None);
            }
        }
    }

    /// Tells watches without recent events how far they are complete, and forgets those whose watcher is gone.
    pub fn progress(&mut self, current: Revision) {
        self.live.retain_mut(|watcher| {
            if watcher.told < current
                && watcher.next <= current.next()
                && let Some(slot) = watcher.outlet.room_now()
            {
                slot.send(WatchMessage::Progress(current));
                watcher.told = current;
            }
            !watcher.outlet.sender.is_closed()
        });
    }
}

impl Watcher {
    /// Queues the events this watch wants; false when its queue is full or its receiver gone.
    fn offer(&mut self, events: &[StoreEvent]) -> bool {
        let wanted = events.iter().filter(|event| event.revision() >= self.next);
        let mine = self.outlet.select(wanted.cloned());
        let (Some(last), Some(end)) = (mine.last().map(StoreEvent::revision), events.last().map(StoreEvent::revision)) else { return true };
        self.told = last;
        self.next = self.next.max(end.next());
        self.outlet.sender.try_send(WatchMessage::Events(mine)).is_ok()
    }
}
