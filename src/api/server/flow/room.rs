//! The requests of one priority level: those in work, those that wait, and how many there were.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;
use troupe_api::service::UserInfo;

use super::{queues::Queues, work::WorkEstimate};

/// The requests of one level, where those that wait are `W`; outlives changes of its bounds.
#[derive(Debug)]
pub struct Room<W> {
    /// Seats that are taken.
    pub(super) taken: AtomicUsize,
    pub(super) state: Mutex<State<W>>,
    pub(super) counts: Counts,
}

impl<W> Default for Room<W> {
    fn default() -> Self {
        Room { taken: AtomicUsize::default(), state: Mutex::default(), counts: Counts::default() }
    }
}

/// What a lock of the level guards.
#[derive(Debug)]
pub struct State<W> {
    pub queues: Queues<W>,
    /// Requests in work, by number.
    pub executing: HashMap<u64, Executing>,
    next: u64,
}

impl<W> Default for State<W> {
    fn default() -> Self {
        State { queues: Queues::default(), executing: HashMap::new(), next: 0 }
    }
}

/// A request in work.
#[derive(Debug)]
pub struct Executing {
    /// The one that it waited in, where the level has queues.
    pub queue: Option<u64>,
    pub asked: Arc<Asked>,
    pub work: WorkEstimate,
    pub began: Instant,
}

/// How many requests of a level ended in what way since the start.
#[derive(Debug, Default)]
pub struct Counts {
    pub dispatched: AtomicU64,
    pub rejected: AtomicU64,
    pub timed_out: AtomicU64,
    pub cancelled: AtomicU64,
}

/// What is told of a request while it waits or is in work.
#[derive(Debug)]
pub struct Asked {
    pub schema: Arc<str>,
    pub method: Distinguisher,
    pub arrived: Instant,
    pub user: Arc<UserInfo>,
    pub parts: Parts,
}

/// By what a schema tells flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinguisher {
    None,
    User,
    Namespace,
}

/// The verb, path, namespace, name, `group/version`, resource and subresource of a request, in one text.
#[derive(Debug)]
pub struct Parts(Box<str>);

const BETWEEN: &str = "\0";

impl Parts {
    pub fn new(parts: [&str; 7]) -> Self {
        Parts(parts.join(BETWEEN).into())
    }

    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.0.split(BETWEEN)
    }

    fn namespace(&self) -> &str {
        self.all().nth(2).unwrap_or_default()
    }
}

impl Asked {
    /// What tells its flow from others of its schema.
    pub fn distinguisher(&self) -> &str {
        match self.method {
            Distinguisher::None => "",
            Distinguisher::User => &self.user.name,
            Distinguisher::Namespace => self.parts.namespace(),
        }
    }
}

impl<W> Room<W> {
    /// A request is in work; gives its number. The state is the room's own, locked by the caller.
    pub(super) fn begin(&self, state: &mut State<W>, executing: Executing) -> u64 {
        self.counts.dispatched.fetch_add(1, Relaxed);
        state.next += 1;
        state.executing.insert(state.next, executing);
        state.next
    }

    /// A request is in work no longer. Its seats are not free yet.
    pub(super) fn end(&self, number: u64) {
        let mut state = self.state.lock();
        let Some(Executing { queue, work, began, .. }) = state.executing.remove(&number) else { return };
        if let Some(queue) = queue {
            state.queues.end(queue, &work, began.elapsed());
        }
    }

    /// The seats of a request are free.
    pub(super) fn free(&self, queue: Option<u64>, seats: usize) {
        self.taken.fetch_sub(seats, Relaxed);
        if let Some(queue) = queue {
            self.state.lock().queues.free(queue, seats);
        }
    }
}
