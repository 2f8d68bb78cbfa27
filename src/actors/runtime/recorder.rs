//! The recorder: two fixed-size rings per process, one of every hop, one of hops that changed something.
//!
//! A hop is recorded without allocation: names are interned, object versions are shared. The rings are split in shards,
//! one per thread in practice, so that a record is an uncontended lock and a copy. `record.rs` is their form for others,
//! [`chain`] makes the story of an object of them, also of those of several processes.

pub mod chain;
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

pub use self::record::HopRecord;

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
            into.extend(shard.lock().hops.iter().cloned());
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

/// The two rings.
pub struct Recorder {
    /// Tells apart the recorders of a process, whose addresses may be used again.
    id: usize,
    names: RwLock<Names>,
    hops: Shards,
    changes: Shards,
    enabled: AtomicBool,
}

impl Recorder {
    /// Rings of so many hops and so many changing hops.
    pub fn new(hops: usize, changes: usize) -> Self {
        let (id, names) = (NEXT_RECORDER.fetch_add(1, Relaxed), RwLock::default());
        let recorder = Recorder { id, names, hops: Shards::new(4, hops), changes: Shards::new(4, changes), enabled: AtomicBool::new(true) };
        recorder.intern("outside");
        recorder
    }

    /// Switches recording of hops on or off; changing hops are always kept.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Relaxed);
    }

    /// The name of a text; allocates only for a new one.
    pub fn intern(&self, text: &str) -> Name {
        if let Some(name) = self.names.read().by_text.get(text) {
            return *name;
        }
        let mut names = self.names.write();
        if let Some(name) = names.by_text.get(text) {
            return *name;
        }
        let name = Name(u32::try_from(names.texts.len()).expect("fewer than 2^32 names"));
        let text: Arc<str> = text.into();
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

    /// Records a hop; in both rings when it changed something.
    pub fn hop(&self, hop: Hop) {
        if hop.produced.is_some() {
            return self.keep(hop);
        }
        if self.enabled.load(Relaxed) {
            self.hops.push(hop);
        }
    }

    /// Records a hop in both rings: one that changed something, be it in the API or outside.
    pub fn keep(&self, hop: Hop) {
        self.changes.push(hop.clone());
        if self.enabled.load(Relaxed) {
            self.hops.push(hop);
        }
    }

    /// Records that `to` committed `produced` because of `cause`.
    pub fn changed(&self, from: Name, to: Name, message: Name, cause: Cause, produced: Arc<ObjectVersion>, took: Duration) {
        let at = tokio::time::Instant::now().into_std();
        let at = at.checked_sub(took).unwrap_or(at);
        self.hop(Hop {
            from,
            to,
            message,
            waited: Duration::ZERO,
            handled: took,
            outcome: Outcome::Done,
            cause,
            span: 0,
            produced: Some(produced),
            at,
        });
    }

    /// Every recorded hop, oldest first.
    pub fn hops(&self) -> Vec<Hop> {
        let mut all = Vec::new();
        self.hops.collect(&mut all);
        let mut changes = Vec::new();
        self.changes.collect(&mut changes);
        let oldest = all.iter().map(|hop| hop.at).min();
        all.extend(changes.into_iter().filter(|hop| !self.enabled.load(Relaxed) || oldest.is_none_or(|oldest| hop.at < oldest)));
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
            let cause = Cause { trace, span: trace as u64, object: cause };
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
}
