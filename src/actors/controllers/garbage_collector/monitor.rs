//! Watches one resource and notes what happens to the metadata of its objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::time::Instant;
use troupe_api::{
    meta::{Cause, Uid},
    resources::Resource,
    service::{EventType, Target, Verb, WatchItem, WatchOptions},
    status::Status,
    stored::StoredObject,
};
use troupe_api_client::Client;

use super::graph::{Deletion, Place, Seen};
use crate::runtime::{freshness::Freshness, resume::Resume, turn::Turn};

/// What happened to an object.
#[derive(Debug)]
pub enum Change {
    Seen(Seen),
    Gone,
}

/// A resource as owner references name it: `apiVersion` and kind.
pub type Kind = (Arc<str>, Arc<str>);

/// What the collector has not taken yet: the newest change of each object, and whole lists after a gap.
#[derive(Debug, Default)]
pub struct News {
    /// Everything that exists of a kind; what is not in here is gone. Older than `changes`.
    pub listed: BTreeMap<Kind, BTreeSet<Uid>>,
    pub changes: BTreeMap<Uid, (Change, Cause)>,
}

impl News {
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.changes.is_empty()
    }

    /// Notes all there is of a kind. Changes that an earlier watch showed of other objects are of no interest any more: their ends went unseen.
    fn list(&mut self, kind: Kind, listed: BTreeSet<Uid>) {
        let is_of = |place: &Place| (&place.api_version, &place.kind) == (&kind.0, &kind.1);
        self.changes.retain(|uid, (change, _)| !matches!(change, Change::Seen(seen) if is_of(&seen.place)) || listed.contains(uid));
        self.listed.insert(kind, listed);
    }
}

/// The changes on their way to the collector. Bounded by the number of objects: each has its newest change only.
#[derive(Default)]
pub struct Intake {
    news: Mutex<News>,
}

impl Intake {
    /// Adds to the news; `true` when there were none, so that the collector must be woken.
    fn note(&self, add: impl FnOnce(&mut News)) -> bool {
        let mut news = self.news.lock();
        let first = news.is_empty();
        add(&mut news);
        first
    }

    pub fn take(&self) -> News {
        std::mem::take(&mut self.news.lock())
    }
}

/// Whether the collector follows a resource: all that can be listed, watched and deleted, once per stored object.
/// Events own nothing and live an hour.
pub fn is_followed(row: &Resource) -> bool {
    let can = |verb: Verb| row.verbs.contains(&verb);
    row.group == row.storage_group && can(Verb::List) && can(Verb::Watch) && can(Verb::Delete) && &*row.plural != "events"
}

/// Whether nothing is looked at before everything there is of a resource was seen. An extension server is waited for when the collector
/// `starts` only: what it comes up with later must not hold up what is ours.
pub fn is_awaited(row: &Resource, starts: bool) -> bool {
    starts || !row.is_elsewhere
}

/// One watch.
pub struct Monitor {
    pub client: Client,
    pub resource: Arc<Resource>,
    pub intake: Arc<Intake>,
    /// Set when everything that exists was noted.
    pub synced: Arc<AtomicBool>,
    pub wake: Arc<dyn Fn() + Send + Sync>,
    pub freshness: Arc<Freshness>,
}

impl Monitor {
    /// Follows the resource for ever.
    pub async fn run(self: Arc<Self>) {
        let mut resume = Resume::of(&self.resource);
        loop {
            let outcome = self.follow(&mut resume).await;
            if let Err(status) = &outcome {
                tracing::debug!(resource = %self.resource.group_resource(), error = %status.message, "watch ended");
            }
            tokio::time::sleep(resume.ended(&outcome, Instant::now())).await;
        }
    }

    fn version(&self) -> Arc<str> {
        self.resource.metadata_version()
    }

    fn kind(&self) -> Kind {
        let (group, version) = (&self.resource.group, self.version());
        let api_version = if group.is_empty() { version } else { format!("{group}/{version}").into() };
        (api_version, self.resource.kind.clone())
    }

    async fn follow(&self, resume: &mut Resume) -> Result<(), Status> {
        let afresh = resume.revision().is_none();
        let (resource_version, send_initial_events) = (resume.revision(), Some(afresh));
        let options = WatchOptions { resource_version, allow_bookmarks: true, progress: true, send_initial_events, ..WatchOptions::default() };
        let resource = self.resource.clone();
        let target = Target { resource, version: self.version(), namespace: "".into(), name: "".into(), subresource: "".into() };
        let watch = self.client.service().watch(self.client.user().clone(), target, options, Cause::default());
        let mut events = self.freshness.unless_stuck(watch).await?;
        resume.begins(Instant::now());
        let mut listing = afresh.then(BTreeSet::new);
        let mut turn = Turn::default();
        while let Some(item) = events.next().await {
            self.freshness.hears();
            match item {
                WatchItem::Event { event, object, cause } => {
                    if let (Some(listing), EventType::Added) = (&mut listing, event) {
                        listing.insert(object.uid());
                    }
                    resume.saw(object.revision);
                    self.changed(event, &object, cause);
                    self.shows(resume);
                }
                WatchItem::Bookmark { revision, initial_end } => {
                    if let Some(listed) = listing.take_if(|_| initial_end) {
                        self.tell(|news| news.list(self.kind(), listed));
                        self.synced.store(true, Relaxed);
                        (self.wake)();
                    }
                    if listing.is_none() {
                        resume.reached(revision);
                        self.shows(resume);
                    }
                }
                WatchItem::End(status) => return Err(status),
            }
            // What the stream holds comes without a pause.
            turn.step().await;
        }
        Ok(())
    }

    /// Everything up to where the watch would resume was noted.
    fn shows(&self, resume: &Resume) {
        self.freshness.shows(resume.revision().unwrap_or_default());
    }

    fn changed(&self, event: EventType, object: &StoredObject, cause: Cause) {
        let change = if event == EventType::Deleted { Change::Gone } else { Change::Seen(self.seen(object)) };
        self.tell(|news| drop(news.changes.insert(object.uid(), (change, cause))));
    }

    fn seen(&self, object: &StoredObject) -> Seen {
        let ((api_version, kind), meta) = (self.kind(), object.meta());
        let place = Place { api_version, kind, key: object.key.clone() };
        Seen { uid: object.uid(), place, owners: meta.owner_references.clone(), deletion: Deletion::of(meta) }
    }

    fn tell(&self, add: impl FnOnce(&mut News)) {
        if self.intake.note(add) {
            (self.wake)();
        }
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::meta::ObjectKey;

    use super::*;

    #[test]
    fn what_a_list_lacks_is_not_taken_for_there_because_an_earlier_watch_showed_it() {
        let (kind, other) = (("v1".into(), "ConfigMap".into()), ("v1".into(), "Secret".into()));
        let seen = |kind: &Kind, name: &str| {
            let place = Place { api_version: kind.0.clone(), kind: kind.1.clone(), key: ObjectKey::new("n", name) };
            let seen = Seen { uid: Uid(name.into()), place, owners: Arc::default(), deletion: Deletion::default() };
            (Uid(name.into()), (Change::Seen(seen), Cause::default()))
        };
        let mut news = News::default();
        news.changes.extend([seen(&kind, "gone"), seen(&kind, "there"), seen(&other, "other")]);
        news.changes.insert(Uid("ended".into()), (Change::Gone, Cause::default()));
        news.list(kind, BTreeSet::from([Uid("there".into())]));
        let left: Vec<&str> = news.changes.keys().map(|uid| &*uid.0).collect();
        assert_eq!(left, ["ended", "other", "there"]);
    }

    #[test]
    fn resources_that_an_extension_server_comes_up_with_are_not_waited_for() {
        let rows = troupe_api::resources::builtin();
        let ours: &Resource = &rows[0];
        let elsewhere = Resource { is_elsewhere: true, ..ours.clone() };
        assert!(is_awaited(ours, true) && is_awaited(ours, false) && is_awaited(&elsewhere, true));
        assert!(!is_awaited(&elsewhere, false));
    }
}
