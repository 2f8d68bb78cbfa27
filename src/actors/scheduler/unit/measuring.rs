//! Keeping an eye on what nodes use, while pods are scheduled.

use std::time::Instant;

use super::SchedulerUnit;
use crate::{
    runtime::host::UnitContext,
    scheduler::usage::{self, Figures, NodeUsage},
};

/// When nodes were asked, and what they said.
pub(super) struct Measuring {
    wanted: bool,
    usage: NodeUsage,
    asked: Option<Instant>,
    answered: Option<Instant>,
    /// A question is on its way.
    underway: bool,
}

impl Measuring {
    pub fn new(wanted: bool, usage: NodeUsage) -> Self {
        Measuring { wanted, usage, asked: None, answered: None, underway: false }
    }

    /// Whether it is time to ask again, in a cluster of so many nodes.
    fn is_due(&self, now: Instant, nodes: usize) -> bool {
        let is_long_ago = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= usage::PERIOD);
        self.wanted && !self.underway && is_long_ago && (2..=usage::MOST_NODES).contains(&nodes)
    }

    /// What was said long ago counts no more.
    fn forget_old(&mut self, now: Instant) {
        if self.answered.is_some_and(|answered| now.saturating_duration_since(answered) >= usage::FRESH) {
            self.answered = None;
            self.usage.set(Figures::new());
        }
    }
}

impl SchedulerUnit {
    /// Asks what nodes use, if it is time and pods wait.
    pub(super) fn measure_nodes(&mut self, now: Instant, cx: &mut UnitContext<'_, Self>) {
        self.measuring.forget_old(now);
        if self.queue.depth().active == 0 || !self.measuring.is_due(now, self.snapshot.nodes().len()) {
            return;
        }
        (self.measuring.asked, self.measuring.underway) = (Some(now), true);
        let client = self.client.clone();
        cx.spawn_then(async move { usage::fetch(&client).await }, |unit, fetched, cx| {
            unit.measuring.underway = false;
            match fetched {
                Ok(figures) => {
                    unit.measuring.answered = Some(cx.system().instant());
                    unit.measuring.usage.set(figures);
                }
                Err(why) => tracing::debug!(why, "what nodes use is not known"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::usage::Usage;

    #[test]
    fn nodes_are_asked_now_and_then_and_what_they_said_is_forgotten() {
        let (now, usage) = (Instant::now(), NodeUsage::default());
        let mut measuring = Measuring::new(true, usage.clone());
        assert!(measuring.is_due(now, 2));
        assert!(!measuring.is_due(now, 1), "there is nothing to choose");
        assert!(!measuring.is_due(now, usage::MOST_NODES + 1));
        measuring.asked = Some(now);
        assert!(!measuring.is_due(now + usage::PERIOD / 2, 2) && measuring.is_due(now + usage::PERIOD, 2));
        usage.set([("n".to_owned(), Usage::default())].into());
        measuring.answered = Some(now);
        measuring.forget_old(now + usage::FRESH / 2);
        assert_eq!(usage.figures().len(), 1);
        measuring.forget_old(now + usage::FRESH);
        assert!(usage.figures().is_empty());
        assert!(!Measuring::new(false, usage).is_due(now, 2));
    }
}
