//! The queue of one watcher, bounded in events and in the bytes of the objects that they keep in memory.
//!
//! An object that others overwrite stays as long as a queue has it: a watcher that does not read would otherwise keep every version.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::mpsc;
use troupe_api::{service::WatchItem, stored::StoredObject};

use super::Delivery;

/// Events a watcher may lag behind before its stream ends; it resumes from the last revision it saw.
pub const QUEUE: usize = 1024;
/// And bytes of objects.
const MOST_OF_ONE: usize = 16 << 20;
/// While more than this waits in all queues, a watcher may lag by less.
const MOST_OF_ALL: usize = 128 << 20;
const WHILE_MUCH_WAITS: usize = 64 << 10;

/// The bytes that wait in all queues of the process.
static ALL: AtomicUsize = AtomicUsize::new(0);

/// An item that waits. In a box: a channel has room for 32 items from its beginning, and most watches are of what seldom changes.
#[derive(Debug)]
pub struct Queued(Box<Waiting>);

#[derive(Debug)]
struct Waiting {
    item: Delivery,
    _place: Place,
}

impl Queued {
    /// The item, which waits no longer.
    pub fn take(self) -> Delivery {
        self.0.item
    }
}

/// The bytes of one item; given back when dropped.
#[derive(Debug)]
struct Place {
    bytes: usize,
    own: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.own.fetch_sub(self.bytes, Relaxed);
        ALL.fetch_sub(self.bytes, Relaxed);
    }
}

/// Why nothing more is sent to a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Full,
    Closed,
}

/// The sending half.
#[derive(Debug)]
pub struct Sender {
    items: mpsc::Sender<Queued>,
    own: Arc<AtomicUsize>,
}

/// A new queue.
pub fn queue() -> (Sender, mpsc::Receiver<Queued>) {
    let (items, receiver) = mpsc::channel(QUEUE);
    (Sender { items, own: Arc::default() }, receiver)
}

impl Sender {
    /// Queues an item. An empty queue takes any.
    ///
    /// # Errors
    /// The watcher lags too far behind, or is gone.
    pub fn send(&self, item: Delivery) -> Result<(), Refused> {
        let bytes = length(&item);
        let (own, all) = (self.own.load(Relaxed), ALL.load(Relaxed));
        if own > 0 && own + bytes > if all > MOST_OF_ALL { WHILE_MUCH_WAITS } else { MOST_OF_ONE } {
            return Err(if self.is_closed() { Refused::Closed } else { Refused::Full });
        }
        self.own.fetch_add(bytes, Relaxed);
        ALL.fetch_add(bytes, Relaxed);
        let place = Place { bytes, own: self.own.clone() };
        self.items.try_send(Queued(Box::new(Waiting { item, _place: place }))).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Refused::Full,
            mpsc::error::TrySendError::Closed(_) => Refused::Closed,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.items.is_closed()
    }
}

/// The bytes of the objects that an item keeps.
fn length(item: &Delivery) -> usize {
    let of = |object: &Arc<StoredObject>| object.encoded_length();
    match item {
        Delivery::Item(WatchItem::Event { object, .. }) => of(object),
        Delivery::Item(_) => 0,
        Delivery::Change(change) => change.previous.as_ref().map_or(0, of) + change.current.as_ref().map_or(0, of),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_api::{meta::Object, service::EventType};

    use super::*;

    fn event(bytes: usize) -> Delivery {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "data": {"a": "x".repeat(bytes)}});
        let object = StoredObject::from_object(&Object::from_value(map).expect("an object")).expect("the store's form");
        Delivery::Item(WatchItem::Event { event: EventType::Modified, object: Arc::new(object), cause: Default::default() })
    }

    #[test]
    fn a_queue_in_which_nothing_waits_has_room_for_boxes_alone() {
        assert_eq!(size_of::<Queued>(), size_of::<usize>());
    }

    #[test]
    fn a_watcher_that_does_not_read_keeps_only_so_many_bytes() {
        let (sender, mut receiver) = queue();
        let large = event(1 << 20);
        let taken = (0..QUEUE).take_while(|_| sender.send(large.clone()).is_ok()).count();
        assert_eq!(taken, 15);
        assert_eq!(sender.send(large.clone()), Err(Refused::Full));
        drop(receiver.try_recv().expect("one").take());
        assert_eq!(sender.send(large.clone()), Ok(()), "what was taken waits no longer");
        drop(receiver);
        assert_eq!(sender.own.load(Relaxed), 0);
        assert_eq!(sender.send(large), Err(Refused::Closed));
        let (sender, _receiver) = queue();
        assert_eq!(sender.send(event(20 << 20)), Ok(()), "an empty queue takes any");
        let (sender, _receiver) = queue();
        let small = event(1);
        assert_eq!((0..2 * QUEUE).take_while(|_| sender.send(small.clone()).is_ok()).count(), QUEUE);
    }
}
