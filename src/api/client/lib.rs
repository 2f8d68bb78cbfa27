//! The client that units use: [`Api<K>`] over any [`ApiService`], local or remote, same face.

mod counts;
pub mod remote;

pub use counts::COLLECTORS;

use std::{
    collections::BTreeSet,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use serde_json::Value;
use troupe_api::{
    meta::{Cause, GroupResource, Object, Revision},
    notices::Notices,
    service::{
        ApiCall, ApiService, Body, DeleteOptions, EventType, ListOptions, Operation, PatchType, ReplyBody, Target, UserInfo, WatchItem, WatchOptions,
        WatchStream, WriteOptions,
    },
    status::Status,
    stored::{KubeObject, StoredObject},
};

use self::counts::counted;

/// An identity at one API service. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    service: Arc<dyn ApiService>,
    user: Arc<UserInfo>,
    manager: Arc<str>,
    cause: Cause,
    /// Set when a write was taken.
    wrote: Option<Arc<AtomicBool>>,
    /// Where replies of writes got lost.
    lost: Option<LostReplies>,
}

/// The resources of writes of which nobody knows whether they were taken: no reply came in time. Clones share what they note.
#[derive(Clone, Debug, Default)]
pub struct LostReplies(Arc<Mutex<BTreeSet<GroupResource>>>);

impl LostReplies {
    /// What was noted since the last time.
    pub fn take(&self) -> BTreeSet<GroupResource> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Client {
    /// A client that acts as `user`; `manager` is the field manager of its writes.
    pub fn new(service: Arc<dyn ApiService>, user: Arc<UserInfo>, manager: impl Into<Arc<str>>) -> Self {
        Client { service, user, manager: manager.into(), cause: Cause::default(), wrote: None, lost: None }
    }

    /// The client of a controller under upstream's service account, `system:serviceaccount:kube-system:{account}`.
    pub fn for_service_account(service: Arc<dyn ApiService>, account: &str, manager: impl Into<Arc<str>>) -> Self {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
        let name = format!("system:serviceaccount:kube-system:{account}");
        let user = UserInfo { name, groups: groups.map(str::to_owned).to_vec(), ..UserInfo::default() };
        Client::new(service, Arc::new(user), manager)
    }

    /// The same client with every call caused by `cause`.
    pub fn caused_by(&self, cause: Cause) -> Self {
        Client { cause, ..self.clone() }
    }

    /// The same client, which sets `wrote` once the service took a write of its own, of its clones or of what is made of it.
    pub fn noting_writes(&self, wrote: Arc<AtomicBool>) -> Self {
        Client { wrote: Some(wrote), ..self.clone() }
    }

    /// The same client, which notes where its own writes, those of its clones or of what is made of it have had no reply in time.
    pub fn noting_lost_replies(&self, lost: LostReplies) -> Self {
        Client { lost: Some(lost), ..self.clone() }
    }

    pub fn service(&self) -> &Arc<dyn ApiService> {
        &self.service
    }

    pub fn user(&self) -> &Arc<UserInfo> {
        &self.user
    }

    /// The resource of `K` across all namespaces, or cluster-scoped.
    pub fn all<K: KubeObject>(&self) -> Api<K> {
        self.namespaced("")
    }

    /// The resource of `K` in one namespace.
    pub fn namespaced<K: KubeObject>(&self, namespace: impl Into<Arc<str>>) -> Api<K> {
        Api { client: self.clone(), namespace: namespace.into(), types: PhantomData }
    }

    /// Makes a call on an arbitrary target.
    pub async fn call(&self, target: Target, operation: Operation) -> Result<troupe_api::ApiReply, Status> {
        let verb = operation.verb();
        let writes = !matches!(operation, Operation::Get { .. } | Operation::List(_));
        let lost = self.lost.as_ref().filter(|_| writes).map(|lost| (lost, target.group_resource()));
        let call = ApiCall { user: self.user.clone(), target, operation, cause: self.cause.clone(), notices: Notices::default() };
        let reply = counted(verb, self.service.call(call)).await;
        if let (Some((lost, resource)), Err(status)) = (lost, &reply)
            && status.code == 504
        {
            lost.0.lock().insert(resource);
        }
        if let Some(wrote) = self.wrote.as_ref().filter(|_| writes && reply.is_ok()) {
            wrote.store(true, Relaxed);
        }
        reply
    }

    /// Puts `body` to an arbitrary target.
    pub async fn update(&self, target: Target, body: Object) -> Result<troupe_api::ApiReply, Status> {
        self.call(target, Operation::Update { body: Body::Tree(body), options: self.write_options() }).await
    }

    fn write_options(&self) -> WriteOptions {
        WriteOptions { field_manager: self.manager.to_string(), implied_manager: true, ..WriteOptions::default() }
    }
}

/// Typed access to one resource.
#[derive(Clone)]
pub struct Api<K> {
    client: Client,
    namespace: Arc<str>,
    types: PhantomData<fn() -> K>,
}

/// A typed watch item. `Arc<K>` is shared with every other watcher of this version in the process.
#[derive(Clone, Debug)]
pub enum WatchEvent<K> {
    Applied {
        object: Arc<K>,
        stored: Arc<StoredObject>,
        cause: Cause,
    },
    Deleted {
        object: Arc<K>,
        stored: Arc<StoredObject>,
        cause: Cause,
    },
    /// Everything up to this revision has been delivered.
    Bookmark {
        revision: Revision,
        initial_end: bool,
    },
    /// The stream ended; list (410) or watch again.
    End(Status),
}

/// A list at one revision.
#[derive(Debug)]
pub struct TypedList<K> {
    pub items: Vec<Arc<K>>,
    pub revision: Revision,
}

impl<K: KubeObject> Api<K> {
    fn target(&self, name: &str, subresource: &str) -> Result<Target, Status> {
        let registry = self.client.service.registry();
        let resource = registry.by_kind(K::GROUP, K::KIND).ok_or_else(Status::page_not_found)?;
        let target =
            Target { resource, version: K::VERSION.into(), namespace: self.namespace.clone(), name: name.into(), subresource: subresource.into() };
        Ok(target)
    }

    async fn object(&self, name: &str, subresource: &str, operation: Operation) -> Result<Arc<K>, Status> {
        let reply = self.client.call(self.target(name, subresource)?, operation).await?;
        reply.into_stored()?.typed::<K>().map_err(Status::internal)
    }

    pub async fn get(&self, name: &str) -> Result<Arc<K>, Status> {
        self.object(name, "", Operation::Get { resource_version: None }).await
    }

    /// `None` instead of NotFound.
    pub async fn get_opt(&self, name: &str) -> Result<Option<Arc<K>>, Status> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    pub async fn list(&self, options: ListOptions) -> Result<TypedList<K>, Status> {
        let reply = self.client.call(self.target("", "")?, Operation::List(options)).await?;
        let ReplyBody::List(list) = reply.body else { return Err(Status::internal("a list was expected")) };
        let items = list.items.iter().map(|item| item.typed::<K>()).collect::<Result<_, _>>().map_err(Status::internal)?;
        Ok(TypedList { items, revision: list.revision })
    }

    pub async fn create(&self, object: &K) -> Result<Arc<K>, Status> {
        self.object("", "", Operation::Create { body: body_of(object)?, options: self.client.write_options() }).await
    }

    pub async fn update(&self, object: &K) -> Result<Arc<K>, Status> {
        self.update_subresource("", object).await
    }

    pub async fn update_status(&self, object: &K) -> Result<Arc<K>, Status> {
        self.update_subresource("status", object).await
    }

    async fn update_subresource(&self, subresource: &str, object: &K) -> Result<Arc<K>, Status> {
        let name = object.metadata().name.clone().unwrap_or_default();
        self.object(&name, subresource, Operation::Update { body: body_of(object)?, options: self.client.write_options() }).await
    }

    /// Patches the object, or its `subresource` unless that is empty.
    pub async fn patch(&self, name: &str, subresource: &str, patch_type: PatchType, patch: &Value) -> Result<Arc<K>, Status> {
        let body = serde_json::to_vec(patch).map_err(Status::internal)?.into();
        self.object(name, subresource, Operation::Patch { patch_type, body, options: self.client.write_options() }).await
    }

    /// Posts `body` to a subresource such as `binding`, `eviction` or `token` and returns the reply.
    pub async fn create_subresource(&self, name: &str, subresource: &str, body: Object) -> Result<troupe_api::ApiReply, Status> {
        let operation = Operation::Create { body: Body::Tree(body), options: self.client.write_options() };
        self.client.call(self.target(name, subresource)?, operation).await
    }

    /// Puts `body` to a subresource such as `finalize` and returns the object.
    pub async fn update_raw(&self, name: &str, subresource: &str, body: Object) -> Result<Arc<K>, Status> {
        self.object(name, subresource, Operation::Update { body: Body::Tree(body), options: self.client.write_options() }).await
    }

    pub async fn delete(&self, name: &str, options: DeleteOptions) -> Result<(), Status> {
        self.client.call(self.target(name, "")?, Operation::Delete(options)).await.map(drop)
    }

    /// Deletes all that `list` selects.
    pub async fn delete_collection(&self, list: ListOptions) -> Result<(), Status> {
        let operation = Operation::DeleteCollection { delete: DeleteOptions::default(), list };
        self.client.call(self.target("", "")?, operation).await.map(drop)
    }

    /// Watches the resource; see [`WatchOptions`] for where it begins. Every object is decoded.
    pub async fn watch(&self, options: WatchOptions) -> Result<BoxStream<'static, WatchEvent<K>>, Status> {
        Ok(self.watch_stored(options).await?.map(typed_event).boxed())
    }

    /// The same with objects as they are stored; nothing is decoded.
    pub async fn watch_stored(&self, options: WatchOptions) -> Result<WatchStream, Status> {
        let target = self.target("", "")?;
        self.client.service.watch(self.client.user.clone(), target, options, self.client.cause.clone()).await
    }
}

fn body_of<K: KubeObject>(object: &K) -> Result<Body, Status> {
    let value = serde_json::to_value(object).map_err(Status::internal)?;
    Object::from_value(value).map(Body::Tree).ok_or_else(|| Status::internal("an API object encodes to a JSON object"))
}

fn typed_event<K: KubeObject>(item: WatchItem) -> WatchEvent<K> {
    match item {
        WatchItem::Event { event, object: stored, cause } => match stored.typed::<K>() {
            Ok(object) if event == EventType::Deleted => WatchEvent::Deleted { object, stored, cause },
            Ok(object) => WatchEvent::Applied { object, stored, cause },
            Err(error) => WatchEvent::End(Status::internal(format!("{} does not decode: {error}", stored.key))),
        },
        WatchItem::Bookmark { revision, initial_end } => WatchEvent::Bookmark { revision, initial_end },
        WatchItem::End(status) => WatchEvent::End(status),
    }
}
