//! What is known of a pod's use, while it is counted and in between.

use std::{sync::Arc, time::Instant};

use super::{
    measure::Counting,
    usage::{Place, PodUse},
};

/// What is known of a pod's use.
#[derive(Default)]
pub struct Record {
    /// While it is counted.
    pub counting: Option<Arc<Counting>>,
    used: Option<(PodUse, Instant)>,
    /// Bytes a second.
    pub growth: u64,
}

impl Record {
    /// The most that is known to be there.
    pub fn used(&self) -> Option<PodUse> {
        let counting = self.counting.as_ref().map(|counting| counting.sum());
        let last = self.used.as_ref().map(|(used, _)| used);
        match (counting, last) {
            (Some(counting), Some(last)) if counting.at(Place::All).bytes < last.at(Place::All).bytes => Some(last.clone()),
            (Some(counting), _) => Some(counting),
            (None, last) => last.cloned(),
        }
    }

    /// Takes in what was counted.
    pub fn counted(&mut self, now: Instant) {
        let Some(counting) = self.counting.take() else { return };
        let used = counting.sum();
        if let Some((before, at)) = &self.used {
            let grown = used.at(Place::All).bytes.saturating_sub(before.at(Place::All).bytes);
            let millis = now.saturating_duration_since(*at).as_millis().max(1);
            self.growth = u64::try_from(u128::from(grown) * 1000 / millis).unwrap_or(u64::MAX);
        }
        self.used = Some((used, now));
    }
}
