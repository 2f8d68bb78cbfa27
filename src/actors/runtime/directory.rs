//! The directory of live actors, and of caches with how far they are behind: what `troupe actors` shows.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::Message;
use futures::future::join_all;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use super::{
    chaos::Chaos,
    freshness::Freshness,
    recorder::Name,
    totals::{ActorKind, ActorNumbers, Totals},
};

/// What the runtime tells a host besides its unit's messages.
pub enum Control {
    /// Panic now with this text.
    Crash(String),
    /// End in good order.
    Stop,
    Observe(oneshot::Sender<Value>),
    /// What does it say about one of the things that it works on?
    Ask(String, oneshot::Sender<Option<Value>>),
}

impl Message for Control {
    type Result = ();
}

/// Where a unit is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorState {
    Starting,
    Running,
    Restarting,
    /// It failed too often, and is tried again slowly.
    Quarantined,
}

/// One live actor, as the directory reports it. Durations are in microseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActorStatus {
    pub path: Arc<str>,
    pub unit: &'static str,
    pub state: ActorState,
    pub mailbox: u64,
    /// At most this old is the oldest waiting message.
    pub oldest_us: u64,
    pub handled: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub restarts: u64,
    pub last_failure: Option<String>,
    /// What the unit says of itself; null when it did not answer in time.
    pub status: Value,
}

/// Counts by power of two of nanoseconds. Most actors of a large cluster have one object that never changes, and handle no message at all.
type Latency = [AtomicU64; 40];

/// The directory's book on one actor.
pub struct Entry {
    path: Arc<str>,
    unit: &'static str,
    name: Name,
    born: Instant,
    state: AtomicU8,
    queued: AtomicU64,
    /// Nanoseconds after `born` at which the oldest waiting message may have been sent.
    oldest: AtomicU64,
    handled: AtomicU64,
    restarts: AtomicU64,
    /// Handling times by power of two of nanoseconds.
    latency: OnceLock<Box<Latency>>,
    /// It is to end, also if it rests between two starts.
    ending: AtomicBool,
    /// Made when there is something in it: most actors never fail, and there may be very many.
    trouble: OnceLock<Box<Trouble>>,
    control: Box<dyn Fn(Control) + Send + Sync>,
}

/// What is known of an actor that failed or is to, and of one that ends.
#[derive(Default)]
struct Trouble {
    last_failure: Mutex<Option<String>>,
    chaos: Chaos,
    ended: Notify,
    /// Something changed that may have made it fail.
    lifted: Notify,
}

/// That of actors for which the chaos switch is off. Nobody turns it on: who does has [`Entry::trouble`].
static CALM: Chaos = Chaos::new();

impl Entry {
    pub(crate) fn new(path: Arc<str>, unit: &'static str, name: Name, control: Box<dyn Fn(Control) + Send + Sync>) -> Arc<Self> {
        Arc::new(Entry {
            path,
            unit,
            name,
            born: tokio::time::Instant::now().into_std(),
            state: AtomicU8::new(0),
            queued: AtomicU64::new(0),
            oldest: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            latency: OnceLock::new(),
            ending: AtomicBool::new(false),
            trouble: OnceLock::new(),
            control,
        })
    }

    fn trouble(&self) -> &Trouble {
        self.trouble.get_or_init(Box::default)
    }

    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    pub fn name(&self) -> Name {
        self.name
    }

    /// Which actors it is counted together with.
    fn kind(&self) -> ActorKind {
        let end = self.path.match_indices('/').nth(1).map_or(self.path.len(), |(at, _)| at);
        ActorKind { place: self.path[..end].into(), unit: self.unit }
    }

    fn since_birth(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn message_queued(&self) {
        if self.queued.fetch_add(1, Relaxed) == 0 {
            self.oldest.store(self.since_birth(tokio::time::Instant::now().into_std()), Relaxed);
        }
    }

    pub(crate) fn message_refused(&self) {
        // Saturating: messages sent past the counting address never went in.
        let _ = self.queued.fetch_update(Relaxed, Relaxed, |queued| Some(queued.saturating_sub(1)));
    }

    pub(crate) fn message_taken(&self, enqueued: Instant) {
        self.message_refused();
        self.oldest.store(self.since_birth(enqueued), Relaxed);
    }

    pub(crate) fn message_handled(&self, took: Duration) {
        self.handled.fetch_add(1, Relaxed);
        let bucket = (u128::BITS - took.as_nanos().leading_zeros()).min(39);
        let latency = self.latency.get_or_init(|| Box::new([const { AtomicU64::new(0) }; 40]));
        latency[bucket as usize].fetch_add(1, Relaxed);
    }

    fn numbers(&self) -> ActorNumbers {
        let mailbox = self.queued.load(Relaxed);
        let now = self.since_birth(tokio::time::Instant::now().into_std());
        let oldest = if mailbox == 0 { 0 } else { now.saturating_sub(self.oldest.load(Relaxed)) };
        ActorNumbers { mailbox, oldest, handled: self.handled.load(Relaxed), restarts: self.restarts.load(Relaxed) }
    }

    pub(crate) fn set_running(&self) {
        self.state.store(1, Relaxed);
    }

    pub(crate) fn set_restarting(&self, why: &str) {
        self.state.store(2, Relaxed);
        *self.trouble().last_failure.lock() = Some(why.to_owned());
    }

    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_quarantined(&self) {
        self.state.store(3, Relaxed);
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        self.state.load(Relaxed) == 3
    }

    /// Lets a quarantined unit try again soon.
    pub(crate) fn lift(&self) {
        if self.is_quarantined() {
            self.trouble().lifted.notify_one();
        }
    }

    /// Ends the unit in good order, or at once where it rests after a failure.
    pub(crate) fn end(&self) {
        self.ending.store(true, Relaxed);
        self.trouble().ended.notify_one();
        self.control(Control::Stop);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Relaxed)
    }

    /// Waits until the pause is over or the unit is to end.
    pub(crate) async fn rest(&self, pause: Duration) {
        // In a fixed order, so that simulations repeat themselves.
        tokio::select! { biased; () = self.trouble().ended.notified() => {}, () = tokio::time::sleep(pause) => {} }
    }

    /// The same for a quarantine, that may be lifted once `least` has passed.
    pub(crate) async fn rest_in_quarantine(&self, least: Duration, pause: Duration) {
        self.rest(least).await;
        if !self.is_ending() {
            tokio::select! { biased; () = self.trouble().lifted.notified() => {}, () = self.rest(pause.saturating_sub(least)) => {} }
        }
    }

    /// The chaos switch, to look at.
    pub(crate) fn chaos(&self) -> &Chaos {
        self.trouble.get().map_or(&CALM, |trouble| &trouble.chaos)
    }

    pub(crate) fn control(&self, control: Control) {
        (self.control)(control);
    }

    /// The handling time in microseconds that `share` of the messages stay below.
    fn quantile(&self, share: f64) -> f64 {
        let counts: Vec<u64> = self.latency.get().into_iter().flat_map(|latency| latency.iter()).map(|bucket| bucket.load(Relaxed)).collect();
        let wanted = counts.iter().sum::<u64>() as f64 * share;
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen > 0 && seen as f64 >= wanted
        });
        bucket.map_or(0.0, |bucket| (1u64 << bucket) as f64 / 1000.0)
    }

    fn status(&self, status: Value) -> ActorStatus {
        let ActorNumbers { mailbox, oldest, handled, restarts } = self.numbers();
        let state = match self.state.load(Relaxed) {
            0 => ActorState::Starting,
            1 => ActorState::Running,
            2 => ActorState::Restarting,
            _ => ActorState::Quarantined,
        };
        ActorStatus {
            path: self.path.clone(),
            unit: self.unit,
            state,
            mailbox,
            oldest_us: oldest / 1000,
            handled,
            p50_us: self.quantile(0.5),
            p99_us: self.quantile(0.99),
            restarts,
            last_failure: self.trouble.get().and_then(|trouble| trouble.last_failure.lock().clone()),
            status,
        }
    }
}

/// All live actors by path.
#[derive(Default)]
pub struct Directory {
    entries: RwLock<BTreeMap<Arc<str>, Arc<Entry>>>,
    /// What actors that are gone had counted, so that totals never fall.
    gone: Mutex<Totals>,
    /// Caches that are no actors themselves. Those that are gone are left out.
    caches: Mutex<Vec<Weak<Freshness>>>,
}

/// A cache as the directory reports it: what its watches brought counts as handled.
fn cache_status(cache: &Freshness, now: Instant) -> ActorStatus {
    let numbers = cache.numbers(now);
    let status = json!({
        "revision": numbers.shown.0,
        "newest": numbers.newest.0,
        "lagSeconds": numbers.behind.as_secs_f64(),
        "lagEpisodes": numbers.episodes,
        "replacedWatches": numbers.replaced,
    });
    ActorStatus {
        path: cache.path().clone(),
        unit: "Cache",
        state: if numbers.shown.0 == 0 { ActorState::Starting } else { ActorState::Running },
        mailbox: 0,
        oldest_us: 0,
        handled: numbers.heard,
        p50_us: 0.0,
        p99_us: 0.0,
        restarts: 0,
        last_failure: None,
        status,
    }
}

impl Directory {
    pub(crate) fn insert(&self, entry: Arc<Entry>) {
        let replaced = self.entries.write().insert(entry.path.clone(), entry);
        if let Some(replaced) = replaced {
            self.gone.lock().entry(replaced.kind()).or_default().retire(replaced.numbers());
        }
    }

    pub(crate) fn remove(&self, entry: &Arc<Entry>) {
        let mut entries = self.entries.write();
        if entries.get(&entry.path).is_some_and(|current| Arc::ptr_eq(current, entry)) {
            entries.remove(&entry.path);
            self.gone.lock().entry(entry.kind()).or_default().retire(entry.numbers());
        }
    }

    /// Numbers of all actors, together for those of one kind.
    pub fn totals(&self) -> Totals {
        // Nobody leaves between the two looks.
        let entries = self.entries.read();
        let mut totals = self.gone.lock().clone();
        for entry in entries.values() {
            totals.entry(entry.kind()).or_default().add(entry.numbers());
        }
        totals
    }

    pub fn get(&self, path: &str) -> Option<Arc<Entry>> {
        self.entries.read().get(path).cloned()
    }

    /// The entries below a path, not itself.
    pub(crate) fn below(&self, path: &str) -> Vec<Arc<Entry>> {
        let prefix = format!("{path}/");
        let entries = self.entries.read();
        let from = entries.range::<str, _>((std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded));
        from.take_while(|(path, _)| path.starts_with(&prefix)).map(|(_, entry)| entry.clone()).collect()
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.read().values().cloned().collect()
    }

    /// Lists a cache for as long as it lives.
    pub fn list_cache(&self, cache: &Arc<Freshness>) {
        let mut caches = self.caches.lock();
        caches.retain(|known| known.strong_count() > 0);
        caches.push(Arc::downgrade(cache));
    }

    /// The caches that are no actors, in path order. Several of one process may have the same path.
    pub fn caches(&self) -> Vec<Arc<Freshness>> {
        let mut living: Vec<_> = self.caches.lock().iter().filter_map(Weak::upgrade).collect();
        living.sort_by(|one, other| one.path().cmp(other.path()));
        living
    }

    /// Counters of all actors, in path order, without asking them.
    pub fn snapshot(&self) -> Vec<ActorStatus> {
        self.all().iter().map(|entry| entry.status(Value::Null)).collect()
    }

    /// What the actor at this path says about one of the things that it works on; `None` if there is no such actor, it knows nothing of that, or
    /// does not answer within `patience`.
    pub async fn ask(&self, path: &str, about: &str, patience: Duration) -> Option<Value> {
        let entry = self.all().into_iter().find(|entry| &*entry.path == path)?;
        let (reply, answer) = oneshot::channel();
        entry.control(Control::Ask(about.to_owned(), reply));
        tokio::time::timeout(patience, answer).await.ok()?.ok()?
    }

    /// Like [`Self::snapshot`], with the status of every actor that answers within `patience`, and behind them the caches that are no actors.
    pub async fn observe(&self, patience: Duration) -> Vec<ActorStatus> {
        let asked = self.all().into_iter().map(|entry| async move {
            let (reply, answer) = oneshot::channel();
            entry.control(Control::Observe(reply));
            let status = tokio::time::timeout(patience, answer).await.ok().and_then(Result::ok);
            entry.status(status.unwrap_or_default())
        });
        let mut observed = join_all(asked).await;
        let now = tokio::time::Instant::now().into_std();
        observed.extend(self.caches().iter().map(|cache| cache_status(cache, now)));
        observed
    }
}

/// The chaos switch.
impl Directory {
    /// Makes the unit at `path` panic at once. `false` when there is none.
    pub fn kill(&self, path: &str) -> bool {
        let found = self.get(path);
        if let Some(entry) = &found {
            entry.control(Control::Crash("killed by the chaos switch".to_owned()));
        }
        found.is_some()
    }

    /// Makes the unit at `path` panic at its next message. `false` when there is none.
    pub fn poison(&self, path: &str) -> bool {
        let found = self.get(path);
        if let Some(entry) = &found {
            entry.trouble().chaos.poison();
        }
        found.is_some()
    }

    /// Makes the unit at `path` panic whenever it works on a key (`namespace/name`), or ends that; with an empty key whatever
    /// it does. `false` when there is no such unit.
    pub fn poison_key(&self, path: &str, key: &str, poisoned: bool) -> bool {
        let found = self.get(path);
        if let Some(entry) = &found {
            entry.trouble().chaos.set_poisoned(key, poisoned);
        }
        found.is_some()
    }

    /// Each message of the unit waits a random time up to `most`; zero ends it. `false` when there is none.
    pub fn delay(&self, path: &str, most: Duration) -> bool {
        let found = self.get(path);
        if let Some(entry) = &found {
            entry.trouble().chaos.set_delay(most);
        }
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small_and_knows_of_trouble_once_there_is_some() {
        assert!(size_of::<Entry>() <= 144, "{}: there are as many as objects", size_of::<Entry>());
        let entry = Entry::new("p/a".into(), "Unit", Name::OUTSIDE, Box::new(|_| {}));
        assert_eq!(entry.status(Value::Null).last_failure, None);
        assert!(!entry.chaos().is_poisoned(""));
        entry.set_restarting("asked to");
        entry.trouble().chaos.set_poisoned("", true);
        assert_eq!(entry.status(Value::Null).last_failure.as_deref(), Some("asked to"));
        assert!(entry.chaos().is_poisoned("") && !CALM.is_poisoned(""), "nobody else is poisoned with it");
    }
}
