//! Numbers of actors of one kind together: there may be thousands of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What actors are counted together by: the first two segments of their path, and their unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActorKind {
    pub place: Arc<str>,
    pub unit: &'static str,
}

/// The numbers of all actors of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindNumbers {
    /// Living ones.
    pub actors: u64,
    /// Messages in their mailboxes.
    pub mailbox: u64,
    /// At most this long the oldest message waits.
    pub oldest: Duration,
    /// Messages handled, by those that are gone as well.
    pub handled: u64,
    /// Restarts after a failure, of those that are gone as well.
    pub restarts: u64,
}

/// All actors by kind.
pub type Totals = BTreeMap<ActorKind, KindNumbers>;

impl KindNumbers {
    /// Counts a living actor in.
    pub(super) fn add(&mut self, actor: ActorNumbers) {
        self.actors += 1;
        self.mailbox += actor.mailbox;
        self.oldest = self.oldest.max(Duration::from_nanos(actor.oldest));
        self.retire(actor);
    }

    /// Keeps what an actor counted in its life.
    pub(super) fn retire(&mut self, actor: ActorNumbers) {
        self.handled += actor.handled;
        self.restarts += actor.restarts;
    }
}

/// The numbers of one actor.
#[derive(Clone, Copy, Debug)]
pub(super) struct ActorNumbers {
    /// Messages waiting.
    pub mailbox: u64,
    /// Nanoseconds that the oldest of them has waited at most.
    pub oldest: u64,
    pub handled: u64,
    pub restarts: u64,
}
