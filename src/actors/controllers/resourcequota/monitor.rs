//! Watches everything that quotas may count, and wakes the quotas that what happened concerns.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use parking_lot::Mutex;
use tokio::time::Instant;
use troupe_api::{
    meta::{Cause, GroupResource, ObjectKey},
    quota::Evaluator,
    resources::{Registry, Resource},
    service::{EventType, Target, WatchItem, WatchOptions},
    status::Status,
    stored::StoredObject,
};
use troupe_api_client::Client;

use super::is_countable;
use crate::runtime::{
    cache::{Cache, Caches},
    controller::Waker,
    freshness::Freshness,
    resume::{Resume, still_follows},
    system::TaskHandle,
    turn::Turn,
};

/// How often new and removed resources are looked for.
const DISCOVERY: Duration = Duration::from_secs(5);

/// The watches of all countable resources.
pub struct Monitors {
    caches: Caches,
    quotas: Cache<ResourceQuota>,
    discovery: Mutex<Option<TaskHandle>>,
}

impl Monitors {
    pub fn new(caches: &Caches, quotas: Cache<ResourceQuota>) -> Self {
        Monitors { caches: caches.clone(), quotas, discovery: Mutex::default() }
    }

    /// Follows what is served, for as long as this lives. Starting again replaces the watches.
    pub fn start(&self, waker: Waker) {
        let (caches, quotas) = (self.caches.clone(), self.quotas.clone());
        let task = self.caches.system().spawn_task("resourcequota/discovery", move || discover(caches.clone(), quotas.clone(), waker.clone()));
        *self.discovery.lock() = Some(task);
    }
}

/// Keeps a watch for each resource that is served.
async fn discover(caches: Caches, quotas: Cache<ResourceQuota>, waker: Waker) {
    let mut watched = BTreeMap::<GroupResource, (Arc<Resource>, TaskHandle)>::new();
    let mut known: Option<Arc<Registry>> = None;
    loop {
        let registry = caches.client().service().registry();
        if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, &registry)) {
            tokio::time::sleep(DISCOVERY).await;
            continue;
        }
        let rows: BTreeMap<_, _> = registry.reachable().filter(|row| is_countable(row)).map(|row| (row.group_resource(), row.clone())).collect();
        watched.retain(|name, (known, _)| rows.get(name).is_some_and(|now| still_follows(known, now)));
        for (name, resource) in rows {
            watched.entry(name.clone()).or_insert_with(|| {
                let evaluator = Evaluator::of(&name);
                let known = resource.clone();
                let path = format!("resourcequota/{name}");
                let freshness = Freshness::new(path.as_str());
                caches.lags().follow(&freshness, name);
                let (client, quotas, waker) = (caches.client().clone(), quotas.clone(), waker.clone());
                let monitor = Arc::new(Monitor { client, resource, evaluator, quotas, waker, freshness });
                (known, caches.system().spawn_task(&path, move || monitor.clone().run()))
            });
        }
        known = Some(registry);
        tokio::time::sleep(DISCOVERY).await;
    }
}

struct Monitor {
    client: Client,
    resource: Arc<Resource>,
    evaluator: Evaluator,
    quotas: Cache<ResourceQuota>,
    waker: Waker,
    freshness: Arc<Freshness>,
}

impl Monitor {
    async fn run(self: Arc<Self>) {
        let mut resume = Resume::of(&self.resource);
        loop {
            let outcome = self.follow(&mut resume).await;
            if let Err(status) = &outcome {
                tracing::debug!(resource = %self.resource.group_resource(), error = %status.message, "watch ended");
            }
            tokio::time::sleep(resume.ended(&outcome, Instant::now())).await;
        }
    }

    /// Without a revision to resume from, everything there is passes by once, and what went meanwhile is counted then.
    async fn follow(&self, resume: &mut Resume) -> Result<(), Status> {
        let afresh = resume.revision().is_none();
        let options = WatchOptions {
            resource_version: resume.revision(),
            allow_bookmarks: true,
            progress: true,
            send_initial_events: afresh.then_some(true),
            ..WatchOptions::default()
        };
        let version = self.resource.metadata_version();
        let target = Target { resource: self.resource.clone(), version, namespace: "".into(), name: "".into(), subresource: "".into() };
        let watch = self.client.service().watch(self.client.user().clone(), target, options, Cause::default());
        let mut events = self.freshness.unless_stuck(watch).await?;
        resume.begins(Instant::now());
        let mut initial = afresh;
        let mut turn = Turn::default();
        while let Some(item) = events.next().await {
            self.freshness.hears();
            match item {
                WatchItem::Event { event, object, cause } => {
                    resume.saw(object.revision);
                    self.shows(resume);
                    if !initial && self.frees(event, &object) {
                        self.wake(&object.key.namespace, &cause);
                    }
                }
                WatchItem::Bookmark { revision, initial_end } => {
                    if initial && initial_end {
                        initial = false;
                        self.wake("", &Cause::default());
                    }
                    if !initial {
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

    /// Everything up to where the watch would resume was seen.
    fn shows(&self, resume: &Resume) {
        self.freshness.shows(resume.revision().unwrap_or_default());
    }

    /// Whether an event may change usage in a way that no charge covers.
    fn frees(&self, event: EventType, object: &Arc<StoredObject>) -> bool {
        match event {
            EventType::Deleted => true,
            EventType::Added => false,
            EventType::Modified => match self.evaluator {
                Evaluator::Pods => is_finished(object) || object.meta().generation > 1,
                Evaluator::Services | Evaluator::Claims | Evaluator::ResourceClaims => true,
                Evaluator::Count { .. } => false,
            },
        }
    }

    /// Wakes the quotas of a namespace, or of all, that count this resource.
    fn wake(&self, namespace: &str, cause: &Cause) {
        for quota in self.quotas.list(namespace) {
            let limits = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
            if limits.is_some_and(|limits| limits.keys().any(|name| self.evaluator.tracks(name))) {
                let meta = &quota.metadata;
                let key = ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
                self.waker.wake(key, cause.clone());
            }
        }
    }
}

fn is_finished(object: &Arc<StoredObject>) -> bool {
    object.typed::<Pod>().is_ok_and(|pod| crate::controllers::pods::is_finished(&pod))
}
