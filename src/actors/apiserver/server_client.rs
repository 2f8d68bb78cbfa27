//! What the API server reads and writes by itself: objects that must exist, statuses that it keeps.

use std::sync::Arc;

use serde_json::Value;
use troupe_api::{
    meta::{Cause, Clock, GroupVersion, Object},
    resources::{Registry, Resource},
    service::{Body, Target},
    status::Status,
};

use super::{
    cache::ResourceCache,
    listers::CacheListers,
    read::Reader,
    write::{Change, WritePath},
    writer::Writer,
};

/// The server as its own client. Cheap to clone.
#[derive(Clone)]
pub struct ServerClient {
    pub path: Arc<WritePath>,
    pub reader: Arc<Reader>,
    pub listers: Arc<CacheListers>,
    pub clock: Arc<dyn Clock>,
}

impl ServerClient {
    /// The row of a resource.
    pub fn row(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.listers.row(group, plural)
    }

    /// The cache of a stored resource; `None` for what is not stored.
    pub fn cache(&self, resource: &Resource) -> Option<Arc<ResourceCache>> {
        self.listers.caches.cache(resource)
    }

    /// The rows of the moment.
    pub fn registry(&self) -> Arc<Registry> {
        self.listers.registry.load_full()
    }

    /// Changes an object.
    pub async fn update(&self, writer: &Writer, change: Change) -> Result<(), Status> {
        self.path.update(writer, change, Vec::new()).await.map(drop)
    }

    /// The server as writer of `object`.
    pub fn writer_for(&self, object: &Value) -> Result<Writer, Status> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let GroupVersion { group, version } = GroupVersion::parse(text("/apiVersion"));
        let resource = self.listers.registry.load().by_kind(&group, text("/kind")).ok_or_else(Status::page_not_found)?;
        let target =
            Target { resource, version, namespace: text("/metadata/namespace").into(), name: text("/metadata/name").into(), subresource: "".into() };
        Ok(Writer::server(target, Cause::root()))
    }

    /// Creates `object` unless it exists.
    pub async fn exists(&self, object: Value) -> Result<(), Status> {
        let writer = self.writer_for(&object)?;
        if self.reader.read_live(&writer.target.resource, &writer.target.key()).await?.is_some() {
            return Ok(());
        }
        match self.path.create(&writer, body(object)?).await {
            Err(status) if !status.is_already_exists() => Err(status),
            _ => Ok(()),
        }
    }

    /// Changes the object that `object` names.
    pub async fn change(&self, object: Value, change: impl Fn(&Object) -> Object + Send + Sync + 'static) -> Result<(), Status> {
        let writer = self.writer_for(&object)?;
        self.update(&writer, Change::Transform(Arc::new(move |current| Ok(change(current))))).await
    }

    /// Creates `object`, or brings what exists to it; fields that `object` does not name stay.
    pub async fn reconcile(&self, object: Value) -> Result<(), Status> {
        self.exists(object.clone()).await?;
        let writer = self.writer_for(&object)?;
        let wanted = Object::from_value(object).ok_or_else(|| Status::internal("bootstrap objects are objects"))?;
        let change = Change::Transform(Arc::new(move |current| {
            let mut new = current.clone();
            for (field, value) in wanted.root().iter().filter(|(field, _)| !matches!(field.as_str(), "metadata" | "kind" | "apiVersion")) {
                new.set(&[field], value.clone());
            }
            Ok(new)
        }));
        self.update(&writer, change).await
    }
}

fn body(object: Value) -> Result<Body, Status> {
    Object::from_value(object).map(Body::Tree).ok_or_else(|| Status::internal("bootstrap objects are objects"))
}
