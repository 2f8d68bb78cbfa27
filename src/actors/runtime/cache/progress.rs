//! How far a cache is. Who waits is woken in the order in which the waiting began, so that simulations repeat themselves
//! (tokio's watch channel wakes in random order).

use parking_lot::Mutex;
use tokio::sync::Notify;
use troupe_api::meta::Revision;

/// The revision up to which a cache shows everything; none before the first list.
#[derive(Default)]
pub struct Progress {
    seen: Mutex<Option<Revision>>,
    moved: Notify,
}

impl Progress {
    pub fn get(&self) -> Option<Revision> {
        *self.seen.lock()
    }

    /// Raises the revision, and lets every waiter look again even if it was there already.
    pub fn advance(&self, to: Revision) {
        let mut seen = self.seen.lock();
        *seen = (*seen).max(Some(to));
        drop(seen);
        self.moved.notify_waiters();
    }

    /// Lets every waiter look again.
    pub fn nudge(&self) {
        self.moved.notify_waiters();
    }

    /// Resolves once `done` holds; it is asked at once and after every step.
    pub async fn until(&self, done: impl Fn(Option<Revision>) -> bool) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // From here on no step is missed.
            moved.as_mut().enable();
            if done(self.get()) {
                return;
            }
            moved.await;
        }
    }
}
