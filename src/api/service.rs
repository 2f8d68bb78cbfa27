//! The one door: every request, from HTTP or from a unit in the same process, is an [`ApiCall`] to one [`ApiService`].

use std::{any::Any, collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use serde_json::Value;

pub use crate::meta::request::{FieldValidation, PatchType, UserInfo, Verb};
use crate::{
    meta::{Cause, FieldSelector, GroupResource, LabelSelector, Object, ObjectKey, Revision},
    notices::Notices,
    resources::{Resource, Served, validation::grace_period},
    status::Status,
    stored::StoredObject,
};

/// The address of a call: which resource, in which served version, which object, which subresource.
#[derive(Clone, Debug)]
pub struct Target {
    pub resource: Arc<Resource>,
    /// The served version the client speaks, such as `v1`.
    pub version: Arc<str>,
    /// Empty for cluster-scoped resources and for lists across all namespaces.
    pub namespace: Arc<str>,
    /// Empty for lists, creates and collection deletes.
    pub name: Arc<str>,
    /// `status`, `scale`, `binding`, `eviction`, `token`, …; empty for the object itself.
    pub subresource: Arc<str>,
}

impl Target {
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace.clone(), self.name.clone())
    }

    pub fn group_resource(&self) -> GroupResource {
        self.resource.group_resource()
    }

    /// The version that the client speaks.
    pub fn served(&self) -> &Arc<Served> {
        self.resource.version(&self.version)
    }
}

/// Options common to all writes.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// `fieldManager`; the edge fills in upstream's default (user agent up to the first `/`).
    pub field_manager: String,
    /// The caller named no manager: it follows from who calls.
    pub implied_manager: bool,
    pub field_validation: FieldValidation,
    /// Server-side apply: take fields that others own.
    pub force: bool,
}

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// Options of list, watch and deletecollection.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// 0 means no limit.
    pub limit: usize,
    /// Opaque token of an earlier page.
    pub continue_token: Option<String>,
    /// `None` asks for the newest; `Some(0)` for any.
    pub resource_version: Option<Revision>,
    pub version_match: Option<VersionMatch>,
    /// `metricLabelSelector`: which series of a metric are meant. Servers of `custom.metrics.k8s.io` alone know it.
    pub metric_labels: LabelSelector,
}

/// Options of a watch.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// Where it begins: `None` asks for the newest state, `Some(0)` for any.
    pub resource_version: Option<Revision>,
    pub allow_bookmarks: bool,
    /// A bookmark comes within a second or so of every change of the resource of which no event was sent, so that the client knows how far it
    /// is. Only our own clients ask for that, over HTTP by [`crate::meta::cause::CAUSES_HEADER`].
    pub progress: bool,
    /// `sendInitialEvents`: begin with ADDED events for all that exists, then, with bookmarks, one annotated
    /// `k8s.io/initial-events-end`. Without a word on it, a watch from the newest or any state has the events only.
    pub send_initial_events: Option<bool>,
    /// How long the watch lasts, where that is known: its last bookmark comes shortly before the end.
    pub lasts: Option<Duration>,
}

/// `propagationPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub precondition_uid: Option<String>,
    pub precondition_revision: Option<Revision>,
    pub propagation: Option<Propagation>,
    /// `ignoreStoreReadErrorWithClusterBreakingPotential` (KEP-3926): the object is one that cannot be read. Nobody asks for it where the
    /// feature is off.
    pub ignore_store_read_error: bool,
}

impl DeleteOptions {
    /// Refuses a grace period that no clock can count.
    ///
    /// # Errors
    /// 422 that names the field.
    pub fn validate(&self) -> Result<(), Status> {
        let mut errors = Vec::new();
        grace_period(&mut errors, "gracePeriodSeconds", self.grace_period_seconds);
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors)) }
    }
}

/// What a call does, with its input. Bodies are bytes as received (JSON); the service decodes them by schema.
#[derive(Clone, Debug)]
pub enum Operation {
    Get { resource_version: Option<Revision> },
    List(ListOptions),
    Create { body: Body, options: WriteOptions },
    Update { body: Body, options: WriteOptions },
    Patch { patch_type: PatchType, body: Bytes, options: WriteOptions },
    Delete(DeleteOptions),
    DeleteCollection { delete: DeleteOptions, list: ListOptions },
}

/// An object on its way in: bytes that still want strict decoding, or a tree made in this process.
#[derive(Clone, Debug)]
pub enum Body {
    /// JSON as the client sent it.
    Json(Bytes),
    /// YAML as the client sent it.
    Yaml(Bytes),
    /// A protobuf message in its envelope as the client sent it.
    Protobuf(Bytes),
    /// A tree from a typed client in this process.
    Tree(Object),
}

impl Body {
    /// How long a body is that still wants decoding.
    pub fn encoded_len(&self) -> usize {
        match self {
            Body::Json(bytes) | Body::Yaml(bytes) | Body::Protobuf(bytes) => bytes.len(),
            Body::Tree(_) => 0,
        }
    }
}

impl Operation {
    pub fn verb(&self) -> Verb {
        match self {
            Operation::Get { .. } => Verb::Get,
            Operation::List(_) => Verb::List,
            Operation::Create { .. } => Verb::Create,
            Operation::Update { .. } => Verb::Update,
            Operation::Patch { .. } => Verb::Patch,
            Operation::Delete(_) => Verb::Delete,
            Operation::DeleteCollection { .. } => Verb::DeleteCollection,
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct ApiCall {
    pub user: Arc<UserInfo>,
    pub target: Target,
    pub operation: Operation,
    pub cause: Cause,
    /// Shared with whoever makes the call.
    pub notices: Notices,
}

/// A LIST: objects of one revision, shared with the snapshot they came from.
#[derive(Debug)]
pub struct ListReply {
    pub items: Vec<Arc<StoredObject>>,
    pub revision: Revision,
    /// Token of the next page.
    pub continue_token: Option<String>,
    pub remaining: Option<u64>,
}

/// A connection to a subresource (exec, attach, port-forward, a proxy) that is about to begin.
#[derive(Clone, Debug)]
pub struct ConnectCall {
    pub user: Arc<UserInfo>,
    pub target: Target,
    /// Of the subresource's kind, such as `PodExecOptions`.
    pub options: Object,
    pub cause: Cause,
    /// Shared with whoever makes the call.
    pub notices: Notices,
}

/// What a call answers.
#[derive(Debug)]
pub enum ReplyBody {
    /// An object as stored.
    Object(Arc<StoredObject>),
    /// An object that is not stored as such: `scale`, `TokenRequest`, reviews, a dry run.
    Tree(Object),
    List(ListReply),
    /// `metav1.Status` with status Success; the details name what was deleted.
    Success {
        details: Value,
    },
}

/// A successful reply.
#[derive(Debug)]
pub struct ApiReply {
    pub body: ReplyBody,
    /// 200, 201 (created) or 202 (deletion accepted).
    pub code: u16,
    /// Texts for `Warning: 299 - "…"` headers.
    pub warnings: Vec<String>,
}

impl ApiReply {
    pub fn ok(body: ReplyBody) -> Self {
        ApiReply { body, code: 200, warnings: Vec::new() }
    }

    pub fn created(body: ReplyBody) -> Self {
        ApiReply { body, code: 201, warnings: Vec::new() }
    }

    /// The object of this reply as a tree.
    pub fn into_tree(self) -> Result<Object, Status> {
        match self.body {
            ReplyBody::Tree(tree) => Ok(tree),
            ReplyBody::Object(object) => Ok(object.to_object()),
            ReplyBody::List(_) | ReplyBody::Success { .. } => Err(Status::internal("the reply carries no single object")),
        }
    }

    /// The object of this reply, whatever form it has.
    pub fn into_stored(self) -> Result<Arc<StoredObject>, Status> {
        match self.body {
            ReplyBody::Object(object) => Ok(object),
            ReplyBody::Tree(tree) => StoredObject::from_object(&tree).map(Arc::new).map_err(Status::internal),
            ReplyBody::List(_) | ReplyBody::Success { .. } => Err(Status::internal("the reply carries no single object")),
        }
    }
}

/// What happened to an object, from the point of view of one watch's selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
}

/// One item of a watch stream.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// `object` is the version after the change; for Deleted the last version, at the revision of the deletion.
    Event { event: EventType, object: Arc<StoredObject>, cause: Cause },
    /// Everything up to this revision has been delivered; `initial_end` closes the initial events.
    Bookmark { revision: Revision, initial_end: bool },
    /// The stream ends here: the client was too slow or the revision is gone. 410 means list again.
    End(Status),
}

/// A watch in progress; ends when dropped.
pub type WatchStream = BoxStream<'static, WatchItem>;

/// What a service has told watches of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// In the order in which the resources were named; `None` for those of which nothing is known. Empty where nothing is known at all.
    pub revisions: Vec<Option<Revision>>,
    /// When asking again is worth it.
    pub ask_again: Duration,
}

/// The one door to the API. Authorization, admission, audit and commit live behind it.
pub trait ApiService: Send + Sync + 'static {
    /// Answers one request. Must be called within a tokio runtime.
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>>;

    /// Starts a watch on `target` (its name may be set to watch one object).
    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>>;

    /// Asks admission whether a connection may begin, and with which options; whoever connects has asked the authorizer before.
    ///
    /// A service that serves no connections refuses them.
    fn admit_connect(&self, _call: ConnectCall) -> BoxFuture<'static, Result<Object, Status>> {
        Box::pin(std::future::ready(Err(Status::internal("connections are not admitted here"))))
    }

    /// The newest change of each of these resources that all watches of it have been told of, by an event or, where they asked for progress, by
    /// a bookmark: a watch that does not know of it is behind. A service that cannot say that knows of none.
    fn announced(&self, _resources: Vec<GroupResource>) -> BoxFuture<'static, Announced> {
        Box::pin(std::future::ready(Announced { revisions: Vec::new(), ask_again: Duration::from_secs(60) }))
    }

    /// The live resource table.
    fn registry(&self) -> Arc<crate::resources::Registry>;

    /// The same, when it shows what every definition of a resource said that could be read here before.
    fn settled_registry(&self) -> BoxFuture<'static, Arc<crate::resources::Registry>> {
        Box::pin(std::future::ready(self.registry()))
    }

    /// Whether it refuses everything from now on: work through it leads nowhere and is not tried again.
    fn has_ended(&self) -> bool {
        false
    }

    /// Resolves when it refuses everything; for most never.
    fn ended(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// Synchronous reads of current state from the watch caches, for admission, authorizers and token checks.
/// A read may be older than the last write by the time of one local hop.
pub trait Listers: Send + Sync + 'static {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>>;

    /// All objects of a resource, of one namespace unless it is empty, in key order.
    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<StoredObject>>;

    /// Whether something is known of all that is stored of a resource. Where it is not, what enforces such objects cannot go on without them;
    /// it is tried to read them again.
    fn is_known(&self, _resource: &GroupResource) -> bool {
        true
    }

    /// For those who enforce what such objects say.
    ///
    /// # Errors
    /// 503 where not all of them are known.
    fn require(&self, resource: &GroupResource) -> Result<(), Status> {
        if self.is_known(resource) {
            return Ok(());
        }
        Err(Status::unavailable(format!("not yet ready to handle request: not all {resource} can be read")))
    }

    /// How much is stored of a resource; `None` where nothing is, or nobody knows.
    fn size(&self, _resource: &GroupResource) -> Option<ResourceSize> {
        None
    }

    /// A number that is another one after every change to the resource; `None` where changes are not counted.
    fn version(&self, _resource: &GroupResource) -> Option<Revision> {
        None
    }

    /// What has changed since `since`, all objects without it; and the state to ask from next time.
    fn changes(&self, resource: &GroupResource, since: Option<&ListerState>) -> (ListerState, Vec<ListerChange>) {
        let objects = self.list(resource, "");
        let before = since.and_then(|state| state.downcast_ref::<Vec<Arc<StoredObject>>>());
        let mut before: HashMap<_, _> = before.into_iter().flatten().map(|object| (object.key.clone(), object.clone())).collect();
        let mut changes = Vec::new();
        for object in &objects {
            let old = before.remove(&object.key);
            if old.as_ref() != Some(object) {
                changes.push(ListerChange { old, new: Some(object.clone()) });
            }
        }
        changes.extend(before.into_values().map(|old| ListerChange { old: Some(old), new: None }));
        (Arc::new(objects), changes)
    }
}

/// How much is stored of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceSize {
    pub objects: usize,
    pub bytes: usize,
}

/// The state of a resource as [`Listers::changes`] left it.
pub type ListerState = Arc<dyn Any + Send + Sync>;

/// An object that came, changed or went.
#[derive(Clone, Debug)]
pub struct ListerChange {
    pub old: Option<Arc<StoredObject>>,
    pub new: Option<Arc<StoredObject>>,
}
