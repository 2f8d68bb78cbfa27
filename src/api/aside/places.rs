//! Places for work, taken in turns: who wants many waits for their own work, and not everybody else for it.

use std::{mem, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::turn_queue::TurnQueue;

/// So many places.
#[derive(Clone)]
pub struct Places(Arc<Mutex<Free>>);

struct Free {
    places: u32,
    /// So many more may hold places at one time, however few places they hold.
    holders: usize,
    waiting: TurnQueue<Waiting>,
}

struct Waiting {
    wanted: u32,
    granted: oneshot::Sender<Place>,
}

/// Places that are taken; given back when dropped.
pub struct Place {
    places: Places,
    count: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(mem::take(&mut self.count));
    }
}

impl Places {
    pub fn new(places: u32) -> Self {
        Places::for_holders(places, usize::MAX)
    }

    /// Places that no more than so many hold at one time.
    pub fn for_holders(places: u32, holders: usize) -> Self {
        Places(Arc::new(Mutex::new(Free { places, holders, waiting: TurnQueue::default() })))
    }

    /// Takes `wanted` places on behalf of somebody, who waits for their turn.
    pub async fn take(&self, behalf: &Arc<str>, wanted: u32) -> Option<Place> {
        let granted = {
            let mut free = self.0.lock();
            if free.waiting.is_empty() && free.take(wanted) {
                return Some(Place { places: self.clone(), count: wanted });
            }
            let (sender, granted) = oneshot::channel();
            free.waiting.push(behalf, Waiting { wanted, granted: sender });
            granted
        };
        // Whoever holds the sender answers it.
        granted.await.ok()
    }

    fn give_back(&self, count: u32) {
        if count == 0 {
            return;
        }
        let mut free = self.0.lock();
        free.give_back(count);
        while let Some(waiting) = free.next() {
            let place = Place { places: self.clone(), count: waiting.wanted };
            if let Err(mut unwanted) = waiting.granted.send(place) {
                // Who waited is gone.
                free.give_back(mem::take(&mut unwanted.count));
            }
        }
    }
}

impl Free {
    /// Takes places, if there are so many.
    fn take(&mut self, wanted: u32) -> bool {
        let there = self.places >= wanted && self.holders > 0;
        if there {
            self.places -= wanted;
            self.holders -= 1;
        }
        there
    }

    fn give_back(&mut self, count: u32) {
        self.places += count;
        self.holders = self.holders.saturating_add(1);
    }

    /// The next one whose turn it is and for whom there is room; its places are taken. Who wants much is not passed by.
    fn next(&mut self) -> Option<Waiting> {
        let wanted = self.waiting.front()?.wanted;
        if self.take(wanted) { self.waiting.pop() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_has_a_turn() {
        let (places, served) = (Places::new(10), Arc::new(Mutex::new(Vec::new())));
        let first = places.take(&"ann".into(), 10).await.expect("all are free");
        let mut tasks = Vec::new();
        for (who, wanted) in [("ann", 10), ("ann", 10), ("ann", 10), ("bob", 10), ("cid", 3), ("bob", 2)] {
            let (places, served) = (places.clone(), served.clone());
            tasks.push(tokio::spawn(async move {
                let place = places.take(&who.into(), wanted).await.expect("its turn comes");
                served.lock().push(who);
                tokio::task::yield_now().await;
                drop(place);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.expect("ends");
        }
        assert_eq!(*served.lock(), ["ann", "bob", "cid", "ann", "bob", "ann"]);
        assert_eq!(places.0.lock().places, 10);
    }

    #[tokio::test]
    async fn who_gives_up_takes_no_places_along() {
        let places = Places::new(1);
        let first = places.take(&"ann".into(), 1).await.expect("is free");
        let mut second = Box::pin(async { places.take(&"bob".into(), 1).await });
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        drop(first);
        assert!(places.take(&"cid".into(), 1).await.is_some());
        assert_eq!(places.0.lock().places, 1);
    }

    #[tokio::test]
    async fn no_more_hold_places_at_once_than_may() {
        let places = Places::for_holders(100, 2);
        let (first, _second) = (places.take(&"ann".into(), 1).await.expect("is free"), places.take(&"ann".into(), 1).await.expect("is free"));
        let mut third = Box::pin(async { places.take(&"ann".into(), 1).await });
        let mut other = Box::pin(async { places.take(&"bob".into(), 1).await });
        assert!(futures::poll!(&mut third).is_pending() && futures::poll!(&mut other).is_pending());
        drop(first);
        let held = third.await.expect("its turn comes");
        assert!(futures::poll!(&mut other).is_pending());
        drop(held);
        assert!(other.await.is_some());
        let free = places.0.lock();
        assert_eq!((free.places, free.holders), (99, 1));
    }
}
