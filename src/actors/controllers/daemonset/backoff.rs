//! How long failed daemon pods of a node are left alone before they are replaced. Pure.
//!
//! A kubelet that rejects a pod does so again at once: replacing without a pause would never end.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use troupe_api::meta::time::passed;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug)]
struct Pause {
    since: Timestamp,
    length: Duration,
}

/// Pauses of one DaemonSet's nodes. A new generation of the set begins anew.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    generation: Option<i64>,
    pauses: BTreeMap<String, Pause>,
}

impl Backoff {
    /// The pauses as they are for a generation of the set.
    pub fn of_generation(&mut self, generation: Option<i64>) -> &mut Self {
        if self.generation != generation {
            *self = Backoff { generation, pauses: BTreeMap::new() };
        }
        self
    }

    /// How long to wait still before the node's failed pod may be replaced; `None`: now.
    pub fn left(&self, node: &str, now: Timestamp) -> Option<Duration> {
        let pause = self.pauses.get(node)?;
        pause.length.checked_sub(passed(pause.since, now, pause.length)).filter(|left| !left.is_zero())
    }

    /// A failed pod of the node is replaced: the next one waits twice as long, unless this one held out.
    pub fn replaced(&mut self, node: &str, now: Timestamp) {
        let before = self.pauses.get(node).filter(|pause| !is_old(pause, now));
        let length = before.map_or(FIRST, |pause| (pause.length * 2).min(LONGEST));
        self.pauses.insert(node.to_owned(), Pause { since: now, length });
        self.pauses.retain(|_, pause| !is_old(pause, now));
    }
}

fn is_old(pause: &Pause, now: Timestamp) -> bool {
    passed(pause.since, now, LONGEST) > 2 * LONGEST
}
