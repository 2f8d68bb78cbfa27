//! What a reconcile may use.

use std::{cell::RefCell, sync::Arc, time::Duration};

use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use troupe_api::{
    meta::{Clock, ObjectKey, Revision},
    stored::KubeObject,
};
use troupe_api_client::Client;

use crate::runtime::{cache::Cache, events::EventRecorder, system::System};

/// Who plans without having seen what it wrote may do it twice. So a key waits for its writes to show as long as upstream's controllers do
/// (`ExpectationsTimeout`); a watch that is stuck is replaced much sooner.
const PATIENCE: Duration = Duration::from_secs(300);

/// Handed to each reconcile.
pub struct ReconcileContext {
    pub(super) client: Client,
    pub(super) system: System,
    pub(super) events: EventRecorder,
    pub(super) writes: RefCell<Vec<BoxFuture<'static, bool>>>,
}

impl ReconcileContext {
    /// A client whose calls carry what led to this reconcile.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn system(&self) -> &System {
        &self.system
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.system.clock()
    }

    /// Wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// Writes events under the controller's name.
    pub fn events(&self) -> &EventRecorder {
        &self.events
    }

    /// Writes an event about an object, a warning or not.
    pub fn tell<K: KubeObject>(&self, about: &K, warning: bool, reason: &str, message: impl Into<String>) {
        let about = ReconcileContext::reference(about);
        if warning { self.events.warning(&about, reason, message) } else { self.events.normal(&about, reason, message) }
    }

    /// The object was written: the key runs again only when `cache` shows it.
    pub fn wrote<K: KubeObject>(&self, cache: &Cache<K>, object: &K) {
        let revision: Option<Revision> = object.metadata().resource_version.as_deref().and_then(|text| text.parse().ok());
        let Some(revision) = revision else { return };
        let cache = cache.clone();
        self.writes.borrow_mut().push(Box::pin(async move { cache.wait_for(revision, PATIENCE).await }));
    }

    /// The object was deleted: the key runs again only when `cache` shows it gone or going.
    pub fn deleted<K: KubeObject>(&self, cache: &Cache<K>, key: ObjectKey, uid: impl Into<String>) {
        let (cache, uid) = (cache.clone(), uid.into());
        self.writes.borrow_mut().push(Box::pin(async move { cache.wait_gone(&key, &uid, PATIENCE).await }));
    }

    /// Waits until every write shows in its cache; `false` when patience ran out for one.
    pub(super) async fn settle(&self) -> bool {
        let writes = self.writes.take();
        join_all(writes).await.into_iter().all(|shown| shown)
    }

    /// A reference to an object for events.
    pub fn reference<K: KubeObject>(object: &K) -> ObjectReference {
        let meta = object.metadata();
        ObjectReference {
            api_version: Some(K::API_VERSION.into()),
            kind: Some(K::KIND.into()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: None,
        }
    }
}
