//! What readers of one resource see: an immutable snapshot, swapped after each batch of changes.

use std::{
    collections::VecDeque,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use imbl::{OrdMap, OrdSet, ordmap::DiffItem};
use parking_lot::Mutex;
use troupe_api::{
    meta::{ObjectKey, Revision},
    resources::Resource,
    service::ListerChange,
    stored::StoredObject,
};

use super::{Sequence, Ticks};

/// How long a paged list may take.
const PIN_FOR: Duration = Duration::from_secs(300);
/// Snapshots pinned for paged lists at one time, per resource.
const MAX_PINNED: usize = 16;

/// All objects of one resource at one revision.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub objects: OrdMap<ObjectKey, Arc<StoredObject>>,
    /// What lies in the store and no key opens: it is there, and nobody can say what it is. What it was when it could be read is still among
    /// the objects.
    pub unreadable: OrdSet<ObjectKey>,
    /// All objects as they are encoded.
    pub bytes: usize,
    /// The revision of the last change to this resource that it holds.
    pub revision: Revision,
}

impl Snapshot {
    /// Puts an object in its place; gives the one that was there. Its key is kept as the object has it.
    pub fn insert(&mut self, key: ObjectKey, object: Arc<StoredObject>) -> Option<Arc<StoredObject>> {
        let key = shared(key, &object);
        self.bytes += object.encoded_length();
        let previous = self.objects.insert(key, object);
        self.bytes -= previous.as_ref().map_or(0, |previous| previous.encoded_length());
        previous
    }

    /// Takes an object out.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        let previous = self.objects.remove(key);
        self.bytes -= previous.as_ref().map_or(0, |previous| previous.encoded_length());
        previous
    }

    /// Objects in key order, of one namespace unless it is empty, behind `after` where given.
    pub fn scan<'a>(&'a self, namespace: &'a str, after: Option<&ObjectKey>) -> impl Iterator<Item = &'a Arc<StoredObject>> + use<'a> {
        self.entries(namespace, after).map(|(_, object)| object)
    }

    /// Whether a scan meets more than `most` objects. Looks at none of them.
    pub fn has_more_than(&self, most: usize, namespace: &str, after: Option<&ObjectKey>) -> bool {
        self.objects.len() > most && (namespace.is_empty() && after.is_none() || self.entries(namespace, after).nth(most).is_some())
    }

    fn entries<'a>(
        &'a self,
        namespace: &'a str,
        after: Option<&ObjectKey>,
    ) -> impl Iterator<Item = (&'a ObjectKey, &'a Arc<StoredObject>)> + use<'a> {
        let start = match after {
            Some(key) => Bound::Excluded(key.clone()),
            None => Bound::Included(ObjectKey::new(namespace, "")),
        };
        self.objects.range((start, Bound::Unbounded)).take_while(move |(key, _)| namespace.is_empty() || &*key.namespace == namespace)
    }

    /// Takes over what is known of what cannot be read any more.
    pub fn keep_unreadable(&mut self, before: &Snapshot) {
        let known: Vec<_> = self.unreadable.iter().filter_map(|key| Some((key.clone(), before.objects.get(key)?.clone()))).collect();
        for (key, object) in known {
            self.insert(key, object);
        }
    }

    /// Whether nothing is known of something that is stored.
    pub fn has_unknown(&self) -> bool {
        self.unreadable.iter().any(|key| !self.objects.contains_key(key))
    }

    /// The first of what cannot be read, in one namespace unless it is empty.
    pub fn first_unreadable<'a>(&'a self, namespace: &'a str) -> Option<&'a ObjectKey> {
        self.all_unreadable(namespace).next()
    }

    /// What cannot be read, in one namespace unless it is empty.
    pub fn all_unreadable<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
        self.unreadable.iter().filter(move |key| namespace.is_empty() || &*key.namespace == namespace)
    }

    /// What makes `newer` of this snapshot. What they share is not looked at.
    pub fn changes_to(&self, newer: &Snapshot) -> Vec<ListerChange> {
        let change = |item| match item {
            DiffItem::Add(_, new) => ListerChange { old: None, new: Some(Arc::clone(new)) },
            DiffItem::Update { old: (_, old), new: (_, new) } => ListerChange { old: Some(Arc::clone(old)), new: Some(Arc::clone(new)) },
            DiffItem::Remove(_, old) => ListerChange { old: Some(Arc::clone(old)), new: None },
        };
        self.objects.diff(&newer.objects).map(change).collect()
    }
}

/// The key, with the texts that an object of that key has already.
pub(super) fn shared(key: ObjectKey, object: &StoredObject) -> ObjectKey {
    if key == object.key { object.key.clone() } else { key }
}

/// The read side of one resource's watch cache, shared by readers and the actor that feeds it.
#[derive(Debug)]
pub struct ResourceCache {
    /// The row whose storage prefix this is; of several rows that share it, the first.
    pub resource: Arc<Resource>,
    snapshot: ArcSwap<Snapshot>,
    /// The last revision that the snapshot holds.
    pub applied: Sequence,
    /// Stands at 1 once everything was read; a cache that is not filled answers nothing.
    pub(super) loaded: Sequence,
    /// Stands at 1 once another cache, or none, has taken its place: it is not fed any more.
    ended: Sequence,
    /// The revision of the last change that was sent to the actor.
    sent: AtomicU64,
    /// Set when a change could not be delivered to the actor: it must load everything again.
    pub(super) stale: AtomicBool,
    /// Set as long as changes may pass by: nothing is loaded then.
    held: AtomicBool,
    /// Microseconds that it was behind the store when that was last looked at.
    lag: AtomicU64,
    /// The newest change that all watches of it have been told of.
    announced: AtomicU64,
    /// When the actor wants a tick.
    pub(super) ticks: Ticks,
    pinned: Mutex<VecDeque<(Instant, Revision, Arc<Snapshot>)>>,
}

impl ResourceCache {
    /// Has the actor load everything again within a moment: what lies in the store reads otherwise than before.
    pub fn load_again(&self) {
        self.stale.store(true, Ordering::SeqCst);
    }

    pub fn new(resource: Arc<Resource>) -> Self {
        ResourceCache {
            resource,
            snapshot: ArcSwap::default(),
            applied: Sequence::default(),
            loaded: Sequence::default(),
            ended: Sequence::default(),
            sent: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            held: AtomicBool::new(false),
            lag: AtomicU64::new(0),
            announced: AtomicU64::new(0),
            ticks: Ticks::default(),
            pinned: Mutex::default(),
        }
    }

    /// A cache that is not loaded before it is released.
    pub(super) fn held(resource: Arc<Resource>) -> Self {
        ResourceCache { held: AtomicBool::new(true), ..ResourceCache::new(resource) }
    }

    pub(super) fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.snapshot.load().objects.get(key).cloned()
    }

    /// Whether everything that existed at some time has been read.
    pub fn is_filled(&self) -> bool {
        self.applied.get() > Revision::ZERO
    }

    /// Resolves once everything that exists has been read.
    pub async fn filled(&self) {
        self.loaded.reached(Revision(1)).await;
    }

    /// Resolves once it holds every change of its own up to `revision`, or will never.
    pub async fn shows(&self, revision: Revision) {
        tokio::select! {
            biased;
            () = self.applied.reached(revision) => {}
            () = self.ended.reached(Revision(1)) => {}
        }
    }

    /// Nobody feeds it any more.
    pub(super) fn end(&self) {
        self.ended.advance(Revision(1));
    }

    /// Whether nobody feeds it any more: what is newer is in another cache, or nowhere.
    pub fn has_ended(&self) -> bool {
        self.ended.get() > Revision::ZERO
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Shows what another cache of the resource showed, to those who do not wait until this one is filled.
    pub(super) fn show(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
    }

    /// How far it was behind the store when that was last looked at, as [`crate::runtime::lag`] has it.
    pub fn lag(&self) -> Duration {
        Duration::from_micros(self.lag.load(Ordering::Relaxed))
    }

    pub(super) fn set_lag(&self, lag: Duration) {
        self.lag.store(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The newest change that all watches of it were told of before now: by an event, or by a bookmark where they asked for progress. It is a
    /// change and no other revision, so that watches at other servers on the same store are told of it too.
    pub fn announced(&self) -> Revision {
        Revision(self.announced.load(Ordering::SeqCst))
    }

    pub(super) fn announce(&self, revision: Revision) {
        self.announced.fetch_max(revision.0, Ordering::SeqCst);
    }

    /// The revision of the last change that was sent to the actor.
    pub(super) fn sent(&self) -> Revision {
        Revision(self.sent.load(Ordering::SeqCst))
    }

    pub(super) fn note_sent(&self, revision: Revision) {
        self.sent.fetch_max(revision.0, Ordering::SeqCst);
    }

    /// Waits until this cache holds every change up to `revision`, or has ended; `dispatched` is how far the store's watch has been routed.
    pub async fn fresh(&self, revision: Revision, dispatched: &Sequence) {
        let shown = async {
            self.filled().await;
            dispatched.reached(revision).await;
            self.applied.reached(self.sent()).await;
        };
        tokio::select! {
            biased;
            () = shown => {}
            () = self.ended.reached(Revision(1)) => {}
        }
    }

    /// A revision such that every change up to it is in the snapshot loaded after this call; none before everything was read.
    pub fn progress(&self, dispatched: &Sequence) -> Revision {
        // The order matters: what was routed up to `routed` is counted in `sent`, as long as this cache had not ended then.
        let routed = dispatched.get();
        let sent = self.sent();
        let applied = self.applied.get();
        let is_fed = self.is_filled() && !self.has_ended();
        if is_fed && applied >= sent { applied.max(routed) } else { applied }
    }

    /// Keeps `snapshot` for the next pages of a list that began at `revision`.
    pub fn pin(&self, revision: Revision, snapshot: Arc<Snapshot>, now: Instant) {
        let mut pinned = self.pinned.lock();
        pinned.retain(|(since, ..)| now.saturating_duration_since(*since) < PIN_FOR);
        // Whoever asks for its pages does not make it last longer.
        if pinned.iter().any(|(_, at, _)| *at == revision) {
            return;
        }
        if pinned.len() >= MAX_PINNED {
            pinned.pop_front();
        }
        pinned.push_back((now, revision, snapshot));
    }

    /// Lets go of all snapshots that are kept for pages: those that come are read from the store.
    pub fn unpin(&self) {
        self.pinned.lock().clear();
    }

    /// The snapshot that was pinned for `revision`.
    pub fn pinned(&self, revision: Revision, now: Instant) -> Option<Arc<Snapshot>> {
        let pinned = self.pinned.lock();
        let found = pinned.iter().find(|(since, at, _)| *at == revision && now.saturating_duration_since(*since) < PIN_FOR);
        found.map(|(_, _, snapshot)| snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_api::{
        meta::Object,
        resources::{Registry, builtin},
    };

    use super::*;

    #[test]
    fn keys_are_texts_that_their_objects_have_anyway() {
        let tree = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}});
        let object = Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"));
        let mut snapshot = Snapshot::default();
        for name in ["p", "p", "other"] {
            // As it is read from where it lies in the store.
            snapshot.insert(ObjectKey::new("n", name), object.clone());
        }
        let keys: Vec<&ObjectKey> = snapshot.objects.keys().collect();
        assert_eq!(keys.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["other", "p"], "one that is called otherwise stays where it lies");
        assert!(Arc::ptr_eq(&keys[1].name, &object.key.name) && Arc::ptr_eq(&keys[1].namespace, &object.key.namespace));
        assert!(Arc::ptr_eq(&object.key.name, &object.meta().name));
    }

    #[tokio::test]
    async fn a_cache_promises_nothing_before_it_is_filled_and_nothing_new_once_it_has_ended() {
        let cache = ResourceCache::new(Registry::new(builtin()).by_kind("", "Pod").expect("a kind"));
        let dispatched = Sequence::default();
        dispatched.advance(Revision(7));
        assert_eq!(cache.progress(&dispatched), Revision::ZERO);
        cache.applied.advance(Revision(5));
        assert_eq!(cache.progress(&dispatched), Revision(7));
        cache.end();
        assert_eq!(cache.progress(&dispatched), Revision(5));
        cache.note_sent(Revision(8));
        let waited = tokio::time::timeout(Duration::from_secs(5), cache.fresh(Revision(9), &dispatched)).await;
        assert!(waited.is_ok(), "nobody waits for what never comes");
    }
}
