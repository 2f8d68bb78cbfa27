//! Objects of custom resources in the version that somebody speaks: what is read, what a write works on, and what is stored.
//!
//! The caches hold every object in the version in which it lies in the store, so filling them asks nobody. What is in the right version
//! already costs nothing here; the rest goes through [`troupe_api_server::conversion`]. A watch that meets an object which cannot be converted ends
//! with that error, as upstream's.

use std::{borrow::Cow, sync::Arc, time::Instant};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use troupe_api::{
    aside,
    meta::Object,
    resources::{Resource, custom::Versions},
    service::{ApiReply, ListReply, ReplyBody, Target, WatchItem, WatchStream},
    status::{Reason, Status},
    stored::StoredObject,
};
use troupe_api_server::conversion::Converter;

use super::{
    cache::{Change, Delivery, ResourceCache, Selection},
    listers::CacheListers,
    page::{self, Source},
};

/// So many objects are converted at one time.
const AT_ONCE: usize = 250;

/// What shows objects of custom resources in their versions.
pub struct ObjectVersions {
    converter: Arc<Converter>,
    listers: Arc<CacheListers>,
}

impl ObjectVersions {
    pub fn new(converter: Arc<Converter>, listers: Arc<CacheListers>) -> Self {
        ObjectVersions { converter, listers }
    }

    /// Stored objects as the target's version shows them.
    pub async fn all(&self, target: &Target, objects: Vec<Arc<StoredObject>>) -> Result<Vec<Arc<StoredObject>>, Status> {
        self.converter.all(&target.resource, &target.version, objects).await
    }

    /// A stored object as the target's version shows it.
    pub async fn shown(&self, target: &Target, object: Arc<StoredObject>) -> Result<Arc<StoredObject>, Status> {
        let is_other = |versions: &Versions| !versions.is_of(object.api_version(), &target.version);
        if !target.resource.versions().is_some_and(is_other) {
            return Ok(object);
        }
        // The one in the cache remembers what it was converted to.
        let known = self.listers.cache(&target.resource)?.get(&object.key).filter(|known| known.revision == object.revision);
        self.converter.one(&target.resource, &target.version, known.unwrap_or(object)).await
    }

    /// A reply with its object as the target's version shows it.
    pub async fn shown_reply(&self, target: &Target, reply: ApiReply) -> Result<ApiReply, Status> {
        let ApiReply { body, code, warnings } = reply;
        let body = match body {
            ReplyBody::Object(object) => ReplyBody::Object(self.shown(target, object).await?),
            other => other,
        };
        Ok(ApiReply { body, code, warnings })
    }

    /// The tree that a write at `target` works on: see [`Resource::working`].
    pub async fn worked_on(&self, target: &Target, current: &Arc<StoredObject>) -> Result<Object, Status> {
        Ok(self.shown(target, current.clone()).await?.to_object())
    }

    /// A tree in another version of its resource.
    pub async fn tree(&self, resource: &Arc<Resource>, version: &str, object: Object) -> Result<Object, Status> {
        self.converter.tree(resource, version, object).await
    }

    /// An object as it is stored: in the version that is for storage.
    pub async fn stored_form<'a>(&self, resource: &Arc<Resource>, object: &'a Object) -> Result<Cow<'a, Object>, Status> {
        let Some(versions) = resource.versions() else { return Ok(Cow::Borrowed(object)) };
        let version = &resource.storage.version;
        if versions.is_of(object.api_version(), version) {
            return Ok(Cow::Borrowed(object));
        }
        let mut converted = self.converter.tree(resource, version, object.clone()).await?;
        // What is read has all defaults of its version.
        versions.form(&mut converted);
        Ok(Cow::Owned(converted))
    }

    /// A list whose selectors say something of what webhooks may change: everything is converted that could be selected.
    pub async fn list(
        &self,
        target: &Target,
        cache: &ResourceCache,
        selection: Arc<Selection>,
        source: Source,
        limit: usize,
        now: Instant,
    ) -> Result<ListReply, Status> {
        let mut items = Vec::new();
        let mut last = source.after.clone();
        let mut more = false;
        'pages: loop {
            let objects: Vec<_> = source.snapshot.scan(&selection.namespace, last.as_ref()).take(AT_ONCE).cloned().collect();
            let Some(end) = objects.last().map(|object| object.key.clone()) else { break };
            last = Some(end);
            let covered = objects.into_iter().filter(|object| selection.covers(object)).collect();
            for object in selected(&selection, self.all(target, covered).await?).await {
                if limit > 0 && items.len() == limit {
                    more = true;
                    break 'pages;
                }
                items.push(object);
            }
        }
        let continue_token = more.then(|| page::next(cache, &items, &source, now)).flatten();
        Ok(ListReply { items, revision: source.revision, continue_token, remaining: None })
    }

    /// The items of a watch on `target`.
    pub fn watched(&self, target: &Target, selection: Arc<Selection>, deliveries: BoxStream<'static, Delivery>) -> WatchStream {
        if target.resource.versions().is_none() {
            return deliveries.filter_map(|delivery| std::future::ready(item(delivery))).boxed();
        }
        let watch = ConvertedWatch { converter: self.converter.clone(), target: target.clone(), selection, ended: false };
        let chunks = deliveries.ready_chunks(AT_ONCE);
        let items = stream::unfold((watch, chunks), |(mut watch, mut chunks)| async move {
            if watch.ended {
                return None;
            }
            // In a box: a watch waits for most of its time, and need not have the room for that meanwhile.
            let items = Box::pin(watch.items(chunks.next().await?)).await;
            Some((stream::iter(items), (watch, chunks)))
        });
        items.flatten().boxed()
    }
}

fn item(delivery: Delivery) -> Option<WatchItem> {
    match delivery {
        Delivery::Item(item) => Some(item),
        // Nobody but custom resources has them.
        Delivery::Change(_) => None,
    }
}

/// Those of the objects that are selected. Selecting by fields decodes.
async fn selected(selection: &Arc<Selection>, objects: Vec<Arc<StoredObject>>) -> Vec<Arc<StoredObject>> {
    let unknown = objects.iter().filter(|object| !object.knows_fields());
    let bytes = if selection.reads_documents() { unknown.map(|object| object.encoded_length()).sum() } else { 0 };
    let selection = selection.clone();
    aside::compute(bytes, move || objects.into_iter().filter(|object| selection.matches(object)).collect()).await
}

/// A watch on a custom resource.
struct ConvertedWatch {
    converter: Arc<Converter>,
    target: Target,
    selection: Arc<Selection>,
    ended: bool,
}

impl ConvertedWatch {
    /// What the watch shows of what has come. Where an object cannot be converted, that is its last.
    async fn items(&mut self, chunk: Vec<Delivery>) -> Vec<WatchItem> {
        if let Ok(items) = self.views(&chunk).await {
            return items;
        }
        // What came before the object that fails is shown.
        let mut items = Vec::new();
        for delivery in chunk {
            match self.views(std::slice::from_ref(&delivery)).await {
                Ok(views) => items.extend(views),
                Err(status) => {
                    self.ended = true;
                    items.push(WatchItem::End(ended(status)));
                    break;
                }
            }
        }
        items
    }

    async fn views(&self, chunk: &[Delivery]) -> Result<Vec<WatchItem>, Status> {
        let inside = self.selection.asks_webhook();
        let mut objects = Vec::new();
        for delivery in chunk {
            if let Delivery::Change(change) = delivery {
                objects.extend(change.current.clone());
                objects.extend(change.previous.clone().filter(|_| inside || change.current.is_none()));
            }
        }
        if objects.is_empty() {
            return Ok(chunk.iter().filter_map(|delivery| item(delivery.clone())).collect());
        }
        let bytes = if self.selection.reads_documents() { objects.iter().map(|object| object.encoded_length()).sum() } else { 0 };
        let mut converted = self.converter.all(&self.target.resource, &self.target.version, objects).await?.into_iter();
        let mut next = |before: &Option<Arc<StoredObject>>| before.as_ref().and_then(|_| converted.next());
        let mut changes = Vec::with_capacity(chunk.len());
        for delivery in chunk {
            changes.push(match delivery {
                Delivery::Change(change) => {
                    let current = next(&change.current);
                    // What is selected by its place alone is the same in all versions.
                    let previous = if inside || change.current.is_none() { next(&change.previous) } else { change.previous.clone() };
                    Delivery::Change(Change { current, previous, ..change.clone() })
                }
                Delivery::Item(item) => Delivery::Item(item.clone()),
            });
        }
        let selection = self.selection.clone();
        let view = move |delivery| match delivery {
            Delivery::Change(change) => selection.view(&change),
            Delivery::Item(item) => Some(item),
        };
        Ok(aside::compute(bytes, move || changes.into_iter().filter_map(view).collect()).await)
    }
}

/// The end of a watch, as upstream tells it.
fn ended(status: Status) -> Status {
    if status.reason == Reason::Unknown { Status::internal(status.message) } else { status }
}
