//! Whose transaction is next. All of the machine's take turns in the kernel, whatever their table: what keeps packets out must not wait behind a
//! thousand that only lead some anywhere.

use std::time::Duration;

use tokio::sync::watch;

/// How long others wait at most: who keeps writing urgently must not keep them from it for good.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    #[default]
    Usual,
    /// No transaction of others is begun while one of these waits or is under way.
    Urgent,
}

/// The turns of those who write to one packet filter.
#[derive(Debug)]
pub struct Turns {
    /// How many urgent transactions wait or are under way.
    urgent: watch::Sender<usize>,
}

/// A transaction that may be under way.
#[derive(Debug)]
pub struct Turn<'a> {
    urgent: Option<&'a watch::Sender<usize>>,
}

impl Default for Turns {
    fn default() -> Self {
        Turns { urgent: watch::Sender::new(0) }
    }
}

impl Turns {
    /// Waits for the turn, which lasts until what this gives is dropped.
    pub async fn take(&self, urgency: Urgency) -> Turn<'_> {
        if urgency == Urgency::Urgent {
            self.urgent.send_modify(|urgent| *urgent += 1);
            return Turn { urgent: Some(&self.urgent) };
        }
        let mut waiting = self.urgent.subscribe();
        // Whether it is its turn or it has waited long enough: the kernel keeps transactions apart by itself.
        let _ = tokio::time::timeout(PATIENCE, waiting.wait_for(|urgent| *urgent == 0)).await;
        Turn { urgent: None }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(urgent) = self.urgent {
            urgent.send_modify(|urgent| *urgent -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn others_wait_while_something_urgent_does_and_not_for_good() {
        let turns = Turns::default();
        let usual = turns.take(Urgency::Usual).now_or_never().expect("nobody else writes");
        let urgent = turns.take(Urgency::Urgent).now_or_never().expect("waits for nobody here");
        let again = turns.take(Urgency::Urgent).now_or_never().expect("waits for nobody here");
        drop(usual);
        let mut next = Box::pin(turns.take(Urgency::Usual));
        assert!((&mut next).now_or_never().is_none());
        drop(urgent);
        assert!((&mut next).now_or_never().is_none(), "another one is under way");
        drop(again);
        assert!(next.now_or_never().is_some());

        let _urgent = turns.take(Urgency::Urgent).await;
        let begun = tokio::time::Instant::now();
        turns.take(Urgency::Usual).await;
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
    }
}
