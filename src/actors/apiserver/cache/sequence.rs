//! A revision that only grows, and that tasks can wait for.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use troupe_api::meta::Revision;

/// A growing revision. Waiting costs an allocation only when the revision is not reached yet; each waiter is woken once, and who gives up
/// leaves nothing behind: some revisions are never reached.
#[derive(Debug, Default)]
pub struct Sequence {
    value: AtomicU64,
    waiters: Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>,
}

impl Sequence {
    pub fn get(&self) -> Revision {
        Revision(self.value.load(Ordering::SeqCst))
    }

    /// Raises the revision and wakes whoever waited for it. A lower one changes nothing.
    pub fn advance(&self, to: Revision) {
        self.value.fetch_max(to.0, Ordering::SeqCst);
        let mut waiters = self.waiters.lock();
        if waiters.first_key_value().is_none_or(|(first, _)| *first > to.0) {
            return;
        }
        let later = waiters.split_off(&(to.0 + 1));
        let reached = std::mem::replace(&mut *waiters, later);
        drop(waiters);
        for waiter in reached.into_values().flatten() {
            // A waiter that gave up is no loss.
            let _ = waiter.send(());
        }
    }

    /// Resolves once the revision is at least `target`.
    pub async fn reached(&self, target: Revision) {
        if self.get() >= target {
            return;
        }
        let mut waiting = {
            let mut waiters = self.waiters.lock();
            if self.get() >= target {
                return;
            }
            let (sender, woken) = oneshot::channel();
            waiters.entry(target.0).or_default().push(sender);
            Waiting { sequence: self, target: target.0, woken }
        };
        // The sender lives in `self`, which outlives this borrow.
        let _ = (&mut waiting.woken).await;
    }
}

/// Somebody who waits, until dropped.
struct Waiting<'a> {
    sequence: &'a Sequence,
    target: u64,
    woken: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.woken.close();
        let mut waiters = self.sequence.waiters.lock();
        // There are none of a revision that was reached.
        let Some(others) = waiters.get_mut(&self.target) else { return };
        others.retain(|waiter| !waiter.is_closed());
        if others.is_empty() {
            waiters.remove(&self.target);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[tokio::test]
    async fn waiters_wake_when_their_revision_is_reached_and_not_before() {
        let sequence = Arc::new(Sequence::default());
        let waiting = tokio::spawn({
            let sequence = sequence.clone();
            async move { sequence.reached(Revision(5)).await }
        });
        sequence.advance(Revision(4));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!waiting.is_finished());
        sequence.advance(Revision(6));
        waiting.await.expect("no panic");
        sequence.advance(Revision(2));
        assert_eq!(sequence.get(), Revision(6));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind_and_takes_nobody_along() {
        let sequence = Sequence::default();
        let gives_up = async || tokio::time::timeout(Duration::from_millis(5), sequence.reached(Revision(7))).await.is_err();
        assert!(gives_up().await);
        assert!(sequence.waiters.lock().is_empty());
        let advances = async {
            assert!(gives_up().await);
            assert_eq!(sequence.waiters.lock()[&7_u64].len(), 1);
            sequence.advance(Revision(7));
        };
        tokio::join!(sequence.reached(Revision(7)), advances);
        assert!(sequence.waiters.lock().is_empty());
    }
}
