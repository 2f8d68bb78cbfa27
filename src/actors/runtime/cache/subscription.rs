//! Who hears of changes, and how far each has heard of what there is.

use std::{collections::BTreeMap, sync::Arc};

use troupe_api::stored::KubeObject;

use super::{Cache, change::Change, cursor::Cursor};
use crate::runtime::turn::{Turn, give_way};

type Listener<K> = Arc<dyn Fn(&Change<K>) + Send + Sync>;

struct Subscriber<K> {
    listener: Listener<K>,
    heard: Cursor,
}

/// All who hear of a cache's changes.
pub struct Subscribers<K> {
    all: BTreeMap<u64, Subscriber<K>>,
    next: u64,
}

impl<K> Default for Subscribers<K> {
    fn default() -> Self {
        Subscribers { all: BTreeMap::new(), next: 0 }
    }
}

impl<K: KubeObject> Subscribers<K> {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Tells those who have heard of everything up to this key.
    pub fn announce(&self, changes: &[Change<K>]) {
        for subscriber in self.all.values() {
            changes.iter().filter(|change| subscriber.heard.covers(&change.key)).for_each(|change| (subscriber.listener)(change));
        }
    }

    fn add(&mut self, listener: Listener<K>) -> u64 {
        self.next += 1;
        self.all.insert(self.next, Subscriber { listener, heard: Cursor::Nothing });
        self.next
    }
}

/// How far a walk came in a turn.
enum Walk {
    Done,
    GoesOn,
    /// A new list is being announced: first that.
    Waits,
}

/// Ends its subscription when dropped.
#[must_use = "nothing is heard without it"]
pub struct Subscription<K: KubeObject> {
    cache: Cache<K>,
    id: u64,
}

impl<K: KubeObject> Subscription<K> {
    pub(super) fn new(cache: &Cache<K>, listener: Listener<K>) -> Self {
        let id = cache.0.subscribers.lock().add(listener);
        Subscription { cache: cache.clone(), id }
    }

    /// Tells the subscriber of every object there is, a turn at a time. Resolves when it has heard of all, and the first list
    /// is in. Whoever subscribes awaits this: before, it hears of nothing.
    pub fn filled(&self) -> impl Future<Output = ()> + Send + use<K> {
        let (cache, id) = (self.cache.clone(), self.id);
        async move {
            loop {
                match cache.tell_some(id) {
                    Walk::Done => break,
                    Walk::GoesOn => give_way().await,
                    Walk::Waits => cache.announced().await,
                }
            }
            cache.synced().await;
        }
    }
}

impl<K: KubeObject> Cache<K> {
    fn tell_some(&self, id: u64) -> Walk {
        let mut subscribers = self.0.subscribers.lock();
        let Some(subscriber) = subscribers.all.get_mut(&id) else { return Walk::Done };
        if self.is_announcing() {
            return Walk::Waits;
        }
        let objects = self.0.objects.load();
        let mut turn = Turn::default();
        let mut last = None;
        for (key, stored) in subscriber.heard.rest_of(&objects) {
            (subscriber.listener)(&Change::between(key.clone(), None, Some(stored.clone()), self.cause_of(key, stored)));
            last = Some(key);
            if turn.count() {
                break;
            }
        }
        let ahead = last.filter(|last| objects.get_max().is_some_and(|(key, _)| key != *last));
        subscriber.heard = ahead.cloned().map_or(Cursor::Everything, Cursor::UpTo);
        if ahead.is_some() { Walk::GoesOn } else { Walk::Done }
    }
}

impl<K: KubeObject> Drop for Subscription<K> {
    fn drop(&mut self) {
        self.cache.0.subscribers.lock().all.remove(&self.id);
    }
}
