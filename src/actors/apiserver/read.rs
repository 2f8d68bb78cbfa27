//! GET, LIST and WATCH: reads from the snapshots, as fresh as the caller asks for.

mod unreadable;

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use tokio_stream::wrappers::ReceiverStream;
use troupe_api::{
    aside,
    memory::MemoryGauge,
    meta::{Cause, Clock, ObjectKey, Revision},
    resources::Resource,
    service::{EventType, ListOptions, ListReply, Target, VersionMatch, WatchItem, WatchOptions, WatchStream},
    status::{Status, StatusCause},
    stored::StoredObject,
};
use troupe_api_server::{
    store::{Store, keys},
    underway::{Underway, Unsent},
};

use super::{
    cache::{Backlog, Change, Changes, Delivery, Queued, ResourceCache, Route, Selection, Sequence, Snapshot, Start, Subscribe, Subscription},
    continue_token::{ContinueToken, expired, expired_exact},
    listers::CacheListers,
    old_watch::Replay,
    page::{Source, page},
    past::{Past, PastError},
    selection::{LONG_SCAN, check_fields, selected, selection},
    store_status::store_status,
    subscribe::{WAIT_FRESH, subscribe},
    versions::ObjectVersions,
};

/// How long a read waits until this server has seen all there is. While the store changes its leader, reads take longer
/// instead of failing, as they do upstream.
const WAIT_NEWEST: Duration = Duration::from_secs(10);
/// How long the beginning of a watch may take to send.
const WATCH_BEGINS: Duration = Duration::from_secs(60);
/// So many objects are looked at in less time than the way to another thread and back is worth.
const FEW: usize = 8 << 10;
/// So many objects of those that there are when a watch begins are looked at at a time.
const AT_ONCE: usize = 256;

/// Reads of what is stored.
pub struct Reader {
    store: Arc<dyn Store>,
    listers: Arc<CacheListers>,
    dispatched: Arc<Sequence>,
    past: Past,
    /// What watches begin with, until it is sent.
    underway: Underway,
    clock: Arc<dyn Clock>,
    /// Whether lists that fail name all that cannot be read.
    names_unreadable: bool,
    /// What is read in other versions than it lies in the store.
    pub(super) versions: Arc<ObjectVersions>,
}

impl Reader {
    pub fn new(
        store: Arc<dyn Store>,
        listers: Arc<CacheListers>,
        dispatched: Arc<Sequence>,
        clock: Arc<dyn Clock>,
        versions: Arc<ObjectVersions>,
    ) -> Self {
        let (past, underway, names_unreadable) = (Past::new(store.clone()), Underway::default(), false);
        Reader { past, underway, store, listers, dispatched, clock, names_unreadable, versions }
    }

    /// Has lists that fail name all that cannot be read.
    pub fn naming_unreadable(self, names_unreadable: bool) -> Self {
        Reader { names_unreadable, ..self }
    }

    /// Lets go of what watches begin with where that takes too long to send.
    pub fn look_at_slow_watches(&self, memory: &dyn MemoryGauge) {
        self.underway.look(memory, WATCH_BEGINS);
    }

    /// One object as of now, past the cache where the cache may be behind.
    pub async fn read_live(&self, resource: &Resource, key: &ObjectKey) -> Result<Option<Arc<StoredObject>>, Status> {
        let (found, _) = self.store.get(&keys::object(&resource.storage_prefix, key), None).await.map_err(store_status)?;
        let object = found.map(|kv| resource.read(kv.value, kv.mod_revision)).transpose();
        object.map(|object| object.map(Arc::new)).map_err(Status::internal)
    }

    /// One object as the cache has it; 404 for what is not stored.
    pub fn cached(&self, resource: &Resource, key: &ObjectKey) -> Result<Option<Arc<StoredObject>>, Status> {
        Ok(self.listers.cache(resource)?.get(key))
    }

    /// Waits until `cache` reflects all writes acknowledged before this call; returns the revision it reached.
    pub async fn linearize(&self, cache: &ResourceCache) -> Result<Revision, Status> {
        let newest = self.store.current_revision().await.map_err(store_status)?;
        self.wait_for(cache, newest, WAIT_NEWEST).await?;
        Ok(newest)
    }

    async fn wait_for(&self, cache: &ResourceCache, revision: Revision, patience: Duration) -> Result<(), Status> {
        match tokio::time::timeout(patience, cache.fresh(revision, &self.dispatched)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(too_large(revision, cache.progress(&self.dispatched))),
        }
    }

    /// Waits as `resourceVersion` asks: `None` the newest, 0 anything, else not older than that.
    async fn settle(&self, cache: &ResourceCache, wanted: Option<Revision>) -> Result<(), Status> {
        match wanted {
            None => self.linearize(cache).await.map(drop),
            Some(Revision::ZERO) if cache.is_filled() => Ok(()),
            Some(Revision::ZERO) => self.wait_for(cache, Revision::ZERO, WAIT_FRESH).await,
            Some(revision) if cache.progress(&self.dispatched) >= revision => Ok(()),
            Some(revision) => self.wait_for(cache, revision, WAIT_FRESH).await,
        }
    }

    /// The cache of a resource, as fresh as `resourceVersion` asks. One that another took the place of meanwhile shows nothing new any more.
    pub async fn settled(&self, resource: &Resource, wanted: Option<Revision>) -> Result<Arc<ResourceCache>, Status> {
        loop {
            let cache = self.listers.cache(resource)?;
            self.settle(&cache, wanted).await?;
            if !cache.has_ended() {
                return Ok(cache);
            }
            // The other one is there in a moment.
            tokio::task::yield_now().await;
        }
    }

    /// GET of what is stored, as the target's version shows it.
    pub async fn get(&self, target: &Target, wanted: Option<Revision>) -> Result<Arc<StoredObject>, Status> {
        let cache = self.settled(&target.resource, wanted).await?;
        if cache.load().unreadable.contains(&target.key()) {
            return Err(self.unreadable(&cache, &target.key()).await);
        }
        let Some(object) = cache.get(&target.key()) else {
            return Err(Status::not_found(&target.group_resource(), &target.name));
        };
        self.versions.shown(target, object).await
    }

    /// LIST.
    pub async fn list(&self, target: &Target, options: &ListOptions) -> Result<ListReply, Status> {
        check_fields(target, &options.fields)?;
        let selection = selection(target, &options.labels, &options.fields);
        let (cache, source) = self.list_source(target, options).await?;
        self.all_readable(&cache, &target.namespace).await?;
        // As upstream: whoever takes any state gets all of it.
        let limit = if options.resource_version == Some(Revision::ZERO) && options.continue_token.is_none() { 0 } else { options.limit };
        let now = self.clock.instant();
        if selection.asks_webhook() {
            return self.versions.list(target, &cache, Arc::new(selection), source, limit, now).await;
        }
        let work = scan_cost(&source.snapshot, &selection, source.after.as_ref());
        let list = aside::compute(work, move || page(&cache, &selection, source, limit, now)).await;
        Ok(ListReply { items: self.versions.all(target, list.items).await?, ..list })
    }

    /// Where the items of a list come from, with the cache that keeps it for further pages.
    async fn list_source(&self, target: &Target, options: &ListOptions) -> Result<(Arc<ResourceCache>, Source), Status> {
        if let Some(token) = &options.continue_token {
            let token = ContinueToken::decode(token)?;
            if options.resource_version.is_some_and(|revision| revision > Revision::ZERO) {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            return self.continued(target, token).await;
        }
        if let Some(exact) = exact_revision(options) {
            let cache = self.listers.cache(&target.resource)?;
            let source = self.source_at(&cache, &target.namespace, exact, None, || expired_exact(exact)).await?;
            return Ok((cache, source));
        }
        let cache = self.settled(&target.resource, options.resource_version).await?;
        // Read before the snapshot: what it names is in there.
        let progress = cache.progress(&self.dispatched);
        let snapshot = cache.load();
        let revision = snapshot.revision.max(progress);
        Ok((cache, Source { snapshot, revision, after: None, is_whole: true }))
    }

    async fn continued(&self, target: &Target, token: ContinueToken) -> Result<(Arc<ResourceCache>, Source), Status> {
        let Some(revision) = token.revision else {
            // The caller took the offer to go on at the newest state.
            let cache = self.settled(&target.resource, None).await?;
            let revision = cache.progress(&self.dispatched);
            let source = Source { snapshot: cache.load(), revision, after: Some(token.last), is_whole: true };
            return Ok((cache, source));
        };
        let cache = self.listers.cache(&target.resource)?;
        let source = self.source_at(&cache, &target.namespace, revision, Some(token.last.clone()), || expired(&token.last)).await?;
        Ok((cache, source))
    }

    /// The resource at exactly `revision`: the current snapshot, a pinned one, or the part that is asked for of one that is read from the
    /// store.
    async fn source_at(
        &self,
        cache: &ResourceCache,
        namespace: &str,
        revision: Revision,
        after: Option<ObjectKey>,
        gone: impl Fn() -> Status,
    ) -> Result<Source, Status> {
        let whole = |snapshot: Arc<Snapshot>, after| Source { snapshot, revision, after, is_whole: true };
        if let Some(snapshot) = cache.pinned(revision, self.clock.instant()) {
            return Ok(whole(snapshot, after));
        }
        let progress = cache.progress(&self.dispatched);
        let failed = |error| match error {
            PastError::Compacted => gone(),
            PastError::Future => too_large(revision, progress),
            PastError::Store(error) => store_status(error),
            PastError::Undecodable(why) => Status::internal(why),
        };
        let snapshot = cache.load();
        if snapshot.revision <= revision && revision <= progress {
            // Nothing has changed since; but it is as old as the rest of what the store forgets.
            let remembered = revision == progress || self.past.remembers(&cache.resource, revision).await.map_err(&failed)?;
            return if remembered { Ok(whole(snapshot, after)) } else { Err(gone()) };
        }
        if revision > progress {
            self.wait_for(cache, revision, WAIT_FRESH).await?;
        }
        let snapshot = self.past.read(&cache.resource, namespace, revision).await.map_err(failed)?;
        Ok(Source { snapshot, revision, after, is_whole: namespace.is_empty() })
    }

    /// Where a watch begins, waiting for as fresh a cache as it asks for.
    async fn watch_start(&self, cache: &ResourceCache, options: &WatchOptions) -> Result<Start, Status> {
        match (options.send_initial_events, options.resource_version) {
            (Some(false), None) => self.linearize(cache).await.map(Start::After),
            (Some(false), Some(Revision::ZERO)) => {
                self.settle(cache, Some(Revision::ZERO)).await?;
                Ok(Start::After(cache.progress(&self.dispatched)))
            }
            (None | Some(false), Some(revision)) if revision > Revision::ZERO => Ok(Start::After(revision)),
            (_, wanted) => {
                self.settle(cache, wanted).await?;
                Ok(Start::Initial)
            }
        }
    }

    /// A watch that begins, of the cache that is fed: where another takes its place meanwhile, of that one. Without a subscription, with
    /// the oldest revision to resume from.
    async fn begun(
        &self,
        target: &Target,
        options: &WatchOptions,
        selection: &Arc<Selection>,
    ) -> Result<(Route, Subscribe, Result<Subscription, Revision>), Status> {
        let ends = options.lasts.and_then(|lasts| self.clock.instant().checked_add(lasts));
        loop {
            let route = self.listers.route(&target.resource)?;
            let start = self.watch_start(&route.cache, options).await?;
            if matches!(start, Start::Initial) {
                self.all_readable(&route.cache, &target.namespace).await?;
            }
            let (bookmarks, progress) = (options.allow_bookmarks, options.allow_bookmarks && options.progress);
            let request = Subscribe { selection: selection.clone(), start, bookmarks, progress, ends };
            match subscribe(&route, request.clone()).await {
                Err(_) if route.cache.has_ended() => tokio::task::yield_now().await,
                outcome => return Ok((route, request, outcome?)),
            }
        }
    }

    /// WATCH.
    pub async fn watch(&self, target: &Target, options: WatchOptions) -> Result<WatchStream, Status> {
        check_fields(target, &options.fields)?;
        let selection = Arc::new(selection(target, &options.labels, &options.fields));
        let (route, request, outcome) = self.begun(target, &options, &selection).await?;
        let subscription = match outcome {
            Ok(subscription) => subscription,
            Err(oldest) => {
                let after = options.resource_version.unwrap_or_default();
                let replay = Replay { store: &*self.store, route: &route, request, after, oldest };
                return Ok(self.versions.watched(target, selection, replay.start().await?));
            }
        };
        let initial_end = (options.send_initial_events == Some(true) && options.allow_bookmarks)
            .then_some(Delivery::Item(WatchItem::Bookmark { revision: subscription.revision, initial_end: true }));
        let backlog = match subscription.backlog {
            Backlog::Changes(changes) => missed_events(self.underway.send(changes), selection.clone()).boxed(),
            Backlog::Objects(snapshot, recent) => {
                initial_events(self.underway.send(Initial { snapshot, recent, after: None }), selection.clone()).boxed()
            }
        };
        let news = ReceiverStream::new(subscription.queue).map(Queued::take);
        let deliveries = backlog.chain(stream::iter(initial_end)).chain(news).boxed();
        Ok(self.versions.watched(target, selection, deliveries))
    }
}

/// What a watch has missed, so many changes at a time, as [`initial_events`].
fn missed_events(unsent: Unsent<Changes>, selection: Arc<Selection>) -> impl Stream<Item = Delivery> {
    let behalf = aside::behalf();
    let pieces = stream::unfold(Some(unsent), move |unsent| {
        let (selection, behalf) = (selection.clone(), behalf.clone());
        async move {
            let unsent = unsent?;
            let (changes, is_last) = match unsent.with(|changes| (changes.take(AT_ONCE), changes.is_empty())) {
                Ok(taken) => taken,
                Err(cut) => return Some((vec![Delivery::Item(WatchItem::End(Status::timeout(cut.to_string())))], None)),
            };
            let told = aside::on_behalf_of(behalf, selected(changes, selection)).await;
            // Others have their turn, also while nothing is found.
            tokio::task::yield_now().await;
            Some((told, (!is_last).then_some(unsent)))
        }
    });
    pieces.flat_map(stream::iter)
}

/// The revision that a list shows and no other: asked for by name, or by a first page of a revision without a match.
fn exact_revision(options: &ListOptions) -> Option<Revision> {
    let paged = options.version_match.is_none() && options.limit > 0;
    let exact = options.version_match == Some(VersionMatch::Exact) || paged;
    options.resource_version.filter(|revision| exact && *revision > Revision::ZERO)
}

/// What scanning a snapshot counts for among work aside: as a document of that length if it is short, else as [`LONG_SCAN`].
fn scan_cost(snapshot: &Snapshot, selection: &Selection, after: Option<&ObjectKey>) -> usize {
    if snapshot.has_more_than(FEW, &selection.namespace, after) {
        return LONG_SCAN;
    }
    if !selection.reads_documents() {
        return 0;
    }
    let mut cost = 0;
    for object in snapshot.scan(&selection.namespace, after).filter(|object| !object.knows_fields()) {
        cost += object.encoded_length();
        if cost > aside::SMALL {
            return LONG_SCAN;
        }
    }
    cost
}

/// What there is when a watch begins, as far as it is not told yet.
struct Initial {
    snapshot: Arc<Snapshot>,
    /// The newest changes, which say what caused the versions that they made.
    recent: Changes,
    /// Up to here it is told.
    after: Option<ObjectKey>,
}

impl Initial {
    /// The next objects, each with what caused it as far as that is known.
    fn take(&mut self, namespace: &str) -> Vec<(Arc<StoredObject>, Cause)> {
        let objects = self.snapshot.scan(namespace, self.after.as_ref()).take(AT_ONCE);
        let objects: Vec<_> = objects.map(|object| (object.clone(), self.recent.cause_of(object).cloned().unwrap_or_default())).collect();
        self.after = objects.last().map(|(object, _)| object.key.clone());
        objects
    }
}

/// What there is when a watch begins, so many objects at a time: who takes them slowly keeps nothing but the snapshot, and that not for ever.
fn initial_events(unsent: Unsent<Initial>, selection: Arc<Selection>) -> impl Stream<Item = Delivery> {
    // They are asked for where nobody knows any more who wants them.
    let behalf = aside::behalf();
    let pieces = stream::unfold(Some(unsent), move |unsent| {
        let (selection, behalf) = (selection.clone(), behalf.clone());
        async move {
            let unsent = unsent?;
            // A watch that is cut ends: its client begins anew.
            let objects = match unsent.with(|initial| initial.take(&selection.namespace)) {
                Ok(objects) => objects,
                Err(cut) => return Some((vec![Delivery::Item(WatchItem::End(Status::timeout(cut.to_string())))], None)),
            };
            let is_last = objects.len() < AT_ONCE;
            let unknown = objects.iter().filter(|(object, _)| !object.knows_fields());
            let bytes = if selection.reads_documents() { unknown.map(|(object, _)| object.encoded_length()).sum() } else { 0 };
            let all = move || objects.iter().filter_map(|(object, cause)| added(object, cause, &selection)).collect::<Vec<_>>();
            let added = aside::compute(bytes, all);
            let added = aside::on_behalf_of(behalf, added).await;
            // Others have their turn, also while nothing is found.
            tokio::task::yield_now().await;
            Some((added, (!is_last).then_some(unsent)))
        }
    });
    pieces.flat_map(stream::iter)
}

fn added(object: &Arc<StoredObject>, cause: &Cause, selection: &Selection) -> Option<Delivery> {
    if selection.shows.is_some() {
        let change = Change { revision: object.revision, previous: None, current: Some(object.clone()), cause: cause.clone() };
        return selection.deliver(&change);
    }
    let item = || WatchItem::Event { event: EventType::Added, object: object.clone(), cause: cause.clone() };
    selection.matches(object).then(|| Delivery::Item(item()))
}

fn too_large(wanted: Revision, current: Revision) -> Status {
    const CAUSE: &str = "Too large resource version";
    let mut status = Status::timeout(format!("Timeout: {CAUSE}: {wanted}, current: {current}"));
    let cause = StatusCause { reason: "ResourceVersionTooLarge".into(), message: CAUSE.into(), ..StatusCause::default() };
    status.details.get_or_insert_default().retry_after_seconds = 1;
    status.with_causes(vec![cause])
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_api::{
        meta::{FieldSelector, LabelSelector, Object},
        resources::{Registry, builtin},
    };

    use super::*;

    fn pods(count: usize) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for at in 0..count {
            let pod =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{at}"), "namespace": "default"}, "spec": {"nodeName": "n"}});
            let stored = StoredObject::from_object(&Object::from_value(pod).expect("an object")).expect("the store's form");
            snapshot.insert(stored.key.clone(), Arc::new(stored));
        }
        snapshot
    }

    #[test]
    fn a_scan_is_long_when_it_decodes_much_or_there_is_much() {
        let resource = Registry::new(builtin()).by_kind("", "Pod").expect("a kind");
        let target = Target { resource, version: "v1".into(), namespace: "default".into(), name: "".into(), subresource: "".into() };
        let select = |fields: &str| selection(&target, &LabelSelector::everything(), &FieldSelector::parse(fields).expect("parses"));
        let cost = |snapshot: &Snapshot, fields: &str| scan_cost(snapshot, &select(fields), None);
        let (few, many) = (pods(1000), pods(10_000));
        assert!(cost(&few, "") <= aside::SMALL && cost(&few, "metadata.name=p1") <= aside::SMALL);
        assert_eq!((cost(&many, ""), cost(&few, "spec.nodeName=n")), (LONG_SCAN, LONG_SCAN));
        // Fields that were decoded once are known.
        let on_node = select("spec.nodeName=n");
        assert!(few.scan("default", None).all(|pod| on_node.matches(pod)));
        assert!(cost(&few, "spec.nodeName=n") <= aside::SMALL);
    }
}
