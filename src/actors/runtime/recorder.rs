//! The recorder: fixed-size rings per process. Each hop is in one of them, so that what is frequent pushes out only its like:
//!
//! - hops that changed something, and the steps that led to such: these make the story of an object, and are remembered for long;
//! - renewals of leases, which change something every few seconds and belong to no story;
//! - all other hops, the messages: there may be thousands in a second, so these are remembered for seconds to minutes.
//!
//! A hop is recorded without allocation: names are interned, object versions are shared. The ring of messages is split in shards,
//! one per thread in practice, so that a record is an uncontended lock and a copy; the others are for all threads, as only few write
//! and then all of their room is for these. A hop takes 128 bytes at most, and the object versions that it names a few hundred more:
//! in rings of 8192 messages and 16,384 hops that changed something that is 3.1 MiB for hops, and about 10 MiB with everything that they name.
//! `record.rs` is their form for others, [`chain`] makes the story of an object of them, also of those of several processes. Hops of requests that
//! are sampled leave as spans, too (`export.rs`).

pub mod chain;
mod export;
mod record;

use std::{
    any::TypeId,
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use troupe_api::meta::{Cause, ObjectKey, ObjectVersion};

use self::export::Exports;
pub use self::record::HopRecord;

/// Renewals that are remembered.
const RENEWALS: usize = 1024;

/// Names that come from outside are interned up to so many in all; the rest are one.
const NAMES: usize = 50_000;

/// An interned name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Name(u32);

impl Name {
    /// The sender that is no unit.
    pub const OUTSIDE: Name = Name(0);
}

/// How a hop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Done,
    Failed,
    Panicked,
}

/// One message from one unit to another.
#[derive(Clone, Debug)]
pub struct Hop {
    pub from: Name,
    pub to: Name,
    pub message: Name,
    pub waited: Duration,
    pub handled: Duration,
    pub outcome: Outcome,
    pub cause: Cause,
    /// What its calls and messages carry as their cause's span; 0 when it made none of its own.
    pub span: u64,
    /// The object version this hop committed.
    pub produced: Option<Arc<ObjectVersion>>,
    /// When handling began.
    pub at: Instant,
}

impl Hop {
    /// That `to` committed `produced` because of `cause`.
    pub fn commit(from: Name, to: Name, message: Name, cause: Cause, produced: Arc<ObjectVersion>, took: Duration) -> Self {
        let now = tokio::time::Instant::now().into_std();
        Hop {
            from,
            to,
            message,
            waited: Duration::ZERO,
            handled: took,
            outcome: Outcome::Done,
            cause,
            span: 0,
            produced: Some(produced),
            at: now.checked_sub(took).unwrap_or(now),
        }
    }
}

struct Ring {
    hops: Vec<Hop>,
    next: usize,
    capacity: usize,
}

impl Ring {
    fn push(&mut self, hop: Hop) {
        if self.hops.len() < self.capacity {
            self.hops.push(hop);
        } else {
            self.hops[self.next] = hop;
        }
        self.next = (self.next + 1) % self.capacity;
    }

    /// The oldest first.
    fn in_order(&self) -> impl Iterator<Item = &Hop> {
        // As long as there is room, the next place is the end.
        let (newer, older) = self.hops.split_at(self.next.min(self.hops.len()));
        older.iter().chain(newer)
    }
}

struct Shards(Vec<Mutex<Ring>>);

impl Shards {
    fn new(shards: usize, capacity: usize) -> Self {
        let ring = || Mutex::new(Ring { hops: Vec::new(), next: 0, capacity: capacity.div_ceil(shards).max(1) });
        Shards((0..shards).map(|_| ring()).collect())
    }

    fn push(&self, hop: Hop) {
        self.0[SHARD.with(|shard| *shard) % self.0.len()].lock().push(hop);
    }

    fn collect(&self, into: &mut Vec<Hop>) {
        for shard in &self.0 {
            into.extend(shard.lock().in_order().cloned());
        }
    }
}

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);
static NEXT_RECORDER: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = NEXT_SHARD.fetch_add(1, Relaxed);
    static TYPE_NAMES: RefCell<HashMap<(usize, TypeId), Name>> = RefCell::default();
}

#[derive(Default)]
struct Names {
    by_text: HashMap<Arc<str>, Name>,
    texts: Vec<Arc<str>>,
}

/// See the module.
pub struct Recorder {
    /// Tells apart the recorders of a process, whose addresses may be used again.
    id: usize,
    names: RwLock<Names>,
    hops: Shards,
    changes: Shards,
    renewals: Shards,
    enabled: AtomicBool,
    exports: Exports,
}

impl Recorder {
    /// Rings of so many messages and so many hops that changed something.
    pub fn new(hops: usize, changes: usize) -> Self {
        let (id, names) = (NEXT_RECORDER.fetch_add(1, Relaxed), RwLock::default());
        let (changes, renewals) = (Shards::new(1, changes), Shards::new(1, RENEWALS));
        let (hops, enabled) = (Shards::new(4, hops), AtomicBool::new(true));
        let recorder = Recorder { id, names, hops, changes, renewals, enabled, exports: Exports::default() };
        recorder.intern("outside");
        recorder
    }

    /// Switches recording of messages on or off; what changed something is always kept.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Relaxed);
    }

    /// The name of a text; allocates only for a new one.
    pub fn intern(&self, text: &str) -> Name {
        self.name_of(text, || text.into())
    }

    /// The same of a text that is kept anyway: it is shared.
    pub fn intern_shared(&self, text: &Arc<str>) -> Name {
        self.name_of(text, || text.clone())
    }

    fn name_of(&self, text: &str, kept: impl FnOnce() -> Arc<str>) -> Name {
        if let Some(name) = self.names.read().by_text.get(text) {
            return *name;
        }
        let mut names = self.names.write();
        if let Some(name) = names.by_text.get(text) {
            return *name;
        }
        let name = Name(u32::try_from(names.texts.len()).expect("fewer than 2^32 names"));
        let text = kept();
        names.texts.push(text.clone());
        names.by_text.insert(text, name);
        name
    }

    /// The name of a text that others choose, such as a user's: there may be no end of these.
    pub fn intern_foreign(&self, text: &str) -> Name {
        let full = {
            let names = self.names.read();
            names.texts.len() >= NAMES && !names.by_text.contains_key(text)
        };
        if full { Name::OUTSIDE } else { self.intern(text) }
    }

    /// The text of a name.
    pub fn text(&self, name: Name) -> Arc<str> {
        self.names.read().texts[name.0 as usize].clone()
    }

    /// The name of a message type, without its module path.
    pub fn type_name<M: 'static>(&self) -> Name {
        let key = (self.id, TypeId::of::<M>());
        TYPE_NAMES.with_borrow_mut(|names| {
            *names.entry(key).or_insert_with(|| {
                let full = std::any::type_name::<M>();
                let head = full.split('<').next().unwrap_or(full);
                self.intern(head.rsplit("::").next().unwrap_or(head))
            })
        })
    }

    /// Who sent what `cause` led to: the actor of the resource whose change it was.
    pub fn origin(&self, cause: &Cause) -> Name {
        cause.object.as_ref().map_or(Name::OUTSIDE, |version| self.intern(&format!("apiserver/{}", version.resource)))
    }

    /// Records a hop.
    pub fn hop(&self, hop: Hop) {
        if hop.produced.is_some() {
            return self.keep(hop);
        }
        if hop.cause.sampled && hop.span != 0 {
            self.export(&hop);
        }
        if self.enabled.load(Relaxed) {
            self.hops.push(hop);
        }
    }

    /// Records a hop that changed something, be it in the API or outside, or that led to such a change.
    pub fn keep(&self, hop: Hop) {
        if hop.cause.sampled {
            self.export(&hop);
        }
        self.changes.push(hop);
    }

    /// Records a hop of a renewal.
    pub fn renewal(&self, hop: Hop) {
        self.renewals.push(hop);
    }

    /// Records that `to` committed `produced` because of `cause`.
    pub fn changed(&self, from: Name, to: Name, message: Name, cause: Cause, produced: Arc<ObjectVersion>, took: Duration) {
        self.keep(Hop::commit(from, to, message, cause, produced, took));
    }

    /// Every recorded hop, oldest first.
    pub fn hops(&self) -> Vec<Hop> {
        let mut all = Vec::new();
        for ring in [&self.changes, &self.renewals, &self.hops] {
            ring.collect(&mut all);
        }
        all.sort_by_key(|hop| hop.at);
        all
    }

    /// Every recorded hop as others read it, oldest first. `now` is the wall-clock time at `instant`.
    pub fn records(&self, now: Timestamp, instant: Instant) -> Vec<HopRecord> {
        let hops = self.hops();
        let texts = self.names.read().texts.clone();
        hops.iter().map(|hop| HopRecord::of(hop, &texts, now, instant)).collect()
    }

    /// The causal chain of an object as far as it is recorded here: what led to it and what came of it, in time order.
    pub fn trace_of(&self, resource: &str, key: &ObjectKey) -> Vec<HopRecord> {
        let object = chain::object_name(resource, key);
        chain::chain(self.records(Timestamp::now(), Instant::now()), &object)
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::meta::Revision;

    use super::*;

    fn version(resource: &str, name: &str, revision: u64) -> Arc<ObjectVersion> {
        Arc::new(ObjectVersion { resource: resource.into(), key: ObjectKey::new("n", name), revision: Revision(revision) })
    }

    #[test]
    fn a_trace_is_joined_through_processes_that_have_traces_of_their_own() {
        let recorder = Recorder::new(64, 64);
        let commit = |trace, cause: Option<Arc<ObjectVersion>>, produced: Arc<ObjectVersion>| {
            let cause = Cause { trace, span: trace as u64, object: cause, sampled: false };
            recorder.changed(Name::OUTSIDE, recorder.intern("apiserver"), recorder.intern("Commit"), cause, produced, Duration::ZERO);
        };
        let (web, set, pod) = (version("deployments.apps", "web", 2), version("replicasets.apps", "web-1", 3), version("pods", "web-1-x", 4));
        commit(1, None, web.clone());
        commit(2, Some(web), set.clone());
        commit(3, Some(set), pod);
        commit(4, None, version("pods", "stranger", 5));
        commit(5, Some(version("replicasets.apps", "web-1", 3)), version("pods", "web-1-y", 6));
        let steps = recorder.trace_of("pods", &ObjectKey::new("n", "web-1-x"));
        let produced: Vec<_> = steps.iter().filter_map(|step| step.produced.as_deref()).collect();
        assert_eq!(produced, ["deployments.apps n/web@2", "replicasets.apps n/web-1@3", "pods n/web-1-x@4"]);
    }

    impl Recorder {
        /// A step of a unit: what led to it, and the span of what it does.
        pub(super) fn step(&self, to: &str, message: &str, cause: &Cause, span: u64) -> Hop {
            Hop {
                from: self.origin(cause),
                to: self.intern(to),
                message: self.intern(message),
                waited: Duration::ZERO,
                handled: Duration::ZERO,
                outcome: Outcome::Done,
                cause: cause.clone(),
                span,
                produced: None,
                at: tokio::time::Instant::now().into_std(),
            }
        }
    }

    /// A pod from the write that made it to the status that its kubelet wrote.
    fn tell_of_a_pod(recorder: &Recorder) {
        let because = |span, object: Option<Arc<ObjectVersion>>| Cause { trace: 1, span, object, sampled: false };
        let commit = |span, object: Option<Arc<ObjectVersion>>, revision| {
            let (to, produced) = (recorder.intern("apiserver/pods"), version("pods", "web", revision));
            recorder.changed(Name::OUTSIDE, to, recorder.intern("Commit"), because(span, object), produced.clone(), Duration::ZERO);
            Some(produced)
        };
        recorder.keep(recorder.step("apiserver", "create", &because(0, None), 1));
        let made = commit(1, None, 2);
        recorder.keep(recorder.step("scheduler", "Schedule", &because(0, made.clone()), 2));
        let bound = commit(2, made, 3);
        recorder.keep(recorder.step("kubelet/pods/n/web", "RunPodSandbox", &because(0, bound.clone()), 0));
        recorder.keep(recorder.step("kubelet/pods/n/web", "WriteStatus", &because(0, bound.clone()), 3));
        commit(3, bound, 4);
    }

    fn messages_of(recorder: &Recorder) -> Vec<String> {
        recorder.trace_of("pods", &ObjectKey::new("n", "web")).into_iter().map(|step| step.message).collect()
    }

    #[test]
    fn the_chain_of_a_pod_is_whole_after_fifty_thousand_messages_on_some_threads() {
        let recorder = Recorder::new(8192, 16_384);
        let noise = |number: usize| {
            let cause = Cause { trace: 7, span: 1000 + number as u64, ..Cause::default() };
            recorder.hop(recorder.step("noise", "Tick", &cause, 0));
        };
        // Somebody who says little keeps what he said for long.
        std::thread::scope(|scope| scope.spawn(|| noise(0)).join().expect("it ends"));
        tell_of_a_pod(&recorder);
        let whole = ["create", "Commit", "Schedule", "Commit", "RunPodSandbox", "WriteStatus", "Commit"];
        assert_eq!(messages_of(&recorder), whole);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                scope.spawn(move || (0..20_000).for_each(|number| noise(thread * 20_000 + number)));
            }
        });
        (0..50_000).for_each(noise);
        for number in 0..20_000 {
            let (to, produced) = (recorder.intern("apiserver/leases.coordination.k8s.io"), version("leases.coordination.k8s.io", "leader", number));
            recorder.renewal(Hop::commit(Name::OUTSIDE, to, recorder.intern("Commit"), Cause::root(), produced, Duration::ZERO));
        }
        assert_eq!(messages_of(&recorder), whole);
        assert!(recorder.hops().len() <= 8192 + 16_384 + RENEWALS, "the rings are bounded");
    }

    #[test]
    fn a_ring_forgets_the_oldest_and_tells_the_rest_in_order() {
        let recorder = Recorder::new(1, 4);
        for number in 0..6 {
            recorder.keep(Hop { waited: Duration::from_secs(number), ..recorder.step("u", "m", &Cause::default(), 0) });
            let told: Vec<u64> = recorder.changes.0[0].lock().in_order().map(|hop| hop.waited.as_secs()).collect();
            assert_eq!(told, (number.saturating_sub(3)..=number).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_text_that_is_kept_anyway_is_shared_and_has_one_name() {
        let recorder = Recorder::new(1, 1);
        let path: Arc<str> = "proxy/services/n/a".into();
        let name = recorder.intern_shared(&path);
        assert!(Arc::ptr_eq(&recorder.text(name), &path));
        assert_eq!(recorder.intern("proxy/services/n/a"), name);
    }

    #[test]
    fn a_hop_is_as_small_as_the_module_says() {
        assert!(size_of::<Hop>() <= 128, "{}", size_of::<Hop>());
    }
}
