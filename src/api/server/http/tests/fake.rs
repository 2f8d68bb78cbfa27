//! Fakes behind the front door: an API service in memory, authenticator and authorizer. The benchmark uses them too.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use troupe_api::{
    ApiCall, ApiReply, ApiService, Status,
    auth::{Attributes, Authenticator, Authorizer, Credentials, Decision},
    meta::{Cause, Object, ObjectKey, Revision},
    protobuf,
    resources::Registry,
    service::{Body, ConnectCall, EventType, ListReply, Operation, ReplyBody, Target, UserInfo, WatchItem, WatchOptions, WatchStream},
    stored::{StoredObject, encode_for_store},
};

/// Objects by storage prefix and key.
type Objects = BTreeMap<(Arc<str>, ObjectKey), Arc<StoredObject>>;

/// Enough of an API server to be talked to: no admission, defaulting or validation.
pub struct FakeService {
    registry: Arc<Registry>,
    objects: Mutex<(u64, Objects)>,
    events: broadcast::Sender<(Arc<str>, WatchItem)>,
    /// The calls that came in.
    pub calls: Mutex<Vec<ApiCall>>,
    /// Remember calls, for tests that look at them.
    pub record: bool,
    /// Watches cannot begin with what there is.
    pub lists_only: bool,
}

impl FakeService {
    pub fn new() -> Self {
        let registry = Arc::new(Registry::new(troupe_api::resources::builtin()));
        let (events, _) = broadcast::channel(4096);
        FakeService { registry, objects: Mutex::new((1, BTreeMap::new())), events, calls: Mutex::default(), record: true, lists_only: false }
    }

    /// Writes an object and tells watchers.
    pub fn put(&self, target: &Target, object: &Object, event: EventType) -> Arc<StoredObject> {
        let encoded = encode_for_store(object);
        let mut objects = self.objects.lock().expect("no panic holds it");
        objects.0 += 1;
        let stored = Arc::new(StoredObject::new(encoded, Revision(objects.0)).expect("the store's form"));
        let prefix = target.resource.storage_prefix.clone();
        match event {
            EventType::Deleted => objects.1.remove(&(prefix.clone(), stored.key.clone())),
            _ => objects.1.insert((prefix.clone(), stored.key.clone()), stored.clone()),
        };
        // Nobody watching is fine.
        let _ = self.events.send((prefix, WatchItem::Event { event, object: stored.clone(), cause: Cause::root() }));
        stored
    }

    /// The target of a core/v1 resource.
    pub fn target(&self, plural: &str, namespace: &str, name: &str) -> Target {
        let resource = self.registry.by_resource("", plural).expect("a built-in kind");
        Target { resource, version: "v1".into(), namespace: namespace.into(), name: name.into(), subresource: "".into() }
    }

    fn find(&self, target: &Target) -> Result<Arc<StoredObject>, Status> {
        let objects = self.objects.lock().expect("no panic holds it");
        let found = objects.1.get(&(target.resource.storage_prefix.clone(), target.key()));
        found.cloned().ok_or_else(|| Status::not_found(&target.group_resource(), &target.name))
    }

    fn list(&self, target: &Target) -> ListReply {
        let objects = self.objects.lock().expect("no panic holds it");
        let wanted = |key: &&(Arc<str>, ObjectKey)| {
            key.0 == target.resource.storage_prefix && (target.namespace.is_empty() || key.1.namespace == target.namespace)
        };
        let items = objects.1.iter().filter(|(key, _)| wanted(key)).map(|(_, object)| object.clone()).collect();
        ListReply { items, revision: Revision(objects.0), continue_token: None, remaining: None }
    }

    fn decode(&self, target: &Target, body: &Body) -> Result<Object, Status> {
        let value: Value = match body {
            Body::Json(bytes) => serde_json::from_slice(bytes).map_err(|error| Status::bad_request(error.to_string()))?,
            Body::Yaml(bytes) => serde_norway::from_slice(bytes).map_err(|error| Status::bad_request(error.to_string()))?,
            Body::Protobuf(bytes) => protobuf::to_json(bytes)?,
            Body::Tree(tree) => tree.clone().into_value(),
        };
        let mut object = Object::from_value(value).ok_or_else(|| Status::bad_request("no object"))?;
        object.set_gvk(&target.resource.gvk(&target.version));
        object.set_default(&["metadata", "uid"], "00000000-0000-0000-0000-000000000001");
        object.set_default(&["metadata", "creationTimestamp"], "2026-01-02T03:04:05Z");
        if !target.namespace.is_empty() {
            object.set(&["metadata", "namespace"], target.namespace.as_ref());
        }
        Ok(object)
    }

    fn answer(&self, call: &ApiCall) -> Result<ApiReply, Status> {
        let target = &call.target;
        match &call.operation {
            Operation::Get { .. } if &*target.name == "panic" => panic!("asked for"),
            Operation::Get { .. } => Ok(ApiReply::ok(ReplyBody::Object(self.find(target)?))),
            Operation::List(_) => Ok(ApiReply::ok(ReplyBody::List(self.list(target)))),
            Operation::Create { .. } if &*target.subresource == "binding" => Ok(ApiReply::created(ReplyBody::Success { details: Value::Null })),
            Operation::Create { body, .. } => {
                let object = self.decode(target, body)?;
                let mut reply = ApiReply::created(ReplyBody::Object(self.put(target, &object, EventType::Added)));
                reply.warnings.push("a \"quoted\" warning".into());
                Ok(reply)
            }
            Operation::Update { body, .. } => {
                let object = self.decode(target, body)?;
                Ok(ApiReply::ok(ReplyBody::Object(self.put(target, &object, EventType::Modified))))
            }
            Operation::Patch { .. } => Ok(ApiReply::ok(ReplyBody::Object(self.find(target)?))),
            Operation::Delete(_) => {
                let object = self.find(target)?.to_object();
                self.put(target, &object, EventType::Deleted);
                Ok(ApiReply::ok(ReplyBody::Success { details: json!({"name": target.name, "kind": target.resource.plural}) }))
            }
            Operation::DeleteCollection { .. } => Ok(ApiReply::ok(ReplyBody::Success { details: json!({}) })),
        }
    }
}

impl ApiService for FakeService {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        let answer = if &*call.target.name == "slow" { None } else { Some(self.answer(&call)) };
        if self.record {
            self.calls.lock().expect("no panic holds it").push(call);
        }
        match answer {
            Some(answer) => std::future::ready(answer).boxed(),
            None => std::future::pending().boxed(),
        }
    }

    fn watch(&self, _: Arc<UserInfo>, target: Target, options: WatchOptions, _: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        if options.resource_version == Some(Revision(1)) {
            return std::future::ready(Err(Status::expired("too old resource version: 1 (2)"))).boxed();
        }
        if self.lists_only && options.send_initial_events == Some(true) {
            let refusal = Status::internal("the required storage feature RequestWatchProgress is disabled");
            return std::future::ready(Ok(stream::iter([WatchItem::End(refusal)]).boxed())).boxed();
        }
        let events = self.events.subscribe();
        let list = self.list(&target);
        let added = |object| WatchItem::Event { event: EventType::Added, object, cause: Cause::default() };
        let initial: Vec<_> = list.items.into_iter().map(added).chain([WatchItem::Bookmark { revision: list.revision, initial_end: true }]).collect();
        let prefix = target.resource.storage_prefix.clone();
        let live = tokio_stream::wrappers::BroadcastStream::new(events).filter_map(move |item| {
            let item = item.ok().filter(|(of, _)| *of == prefix).map(|(_, item)| item);
            std::future::ready(item)
        });
        let skip = usize::from(options.send_initial_events != Some(true) || !options.allow_bookmarks);
        let initial = initial.into_iter().rev().skip(skip).rev().collect::<Vec<_>>();
        std::future::ready(Ok(stream::iter(initial).chain(live).boxed())).boxed()
    }

    fn admit_connect(&self, call: ConnectCall) -> BoxFuture<'static, Result<Object, Status>> {
        Box::pin(std::future::ready(Ok(call.options)))
    }

    fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }
}

/// Tokens `admin` and `bob`; any client certificate is `cert`, an administrator.
pub struct FakeAuthenticator;

impl Authenticator for FakeAuthenticator {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        let user = |name: &str, group: &str| UserInfo { name: name.into(), groups: vec![group.into()], ..UserInfo::default() };
        match (credentials.bearer, credentials.client_certificate) {
            (Some("admin"), _) => Ok(Some(user("admin", "system:masters"))),
            (Some("bob"), _) => Ok(Some(user("bob", "people"))),
            (Some(token), _) => {
                if let Some(notices) = credentials.notices {
                    notices.annotate("test/credentials", token);
                }
                Err(Status::unauthorized())
            }
            (None, Some(_)) => Ok(Some(user("cert", "system:masters"))),
            (None, None) => Ok(None),
        }
    }
}

/// Administrators may do all; everybody may see `/version` and health.
pub struct FakeAuthorizer;

impl Authorizer for FakeAuthorizer {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let public = attributes.path.is_some_and(|path| path == "/version" || path.ends_with('z'));
        if public || user.groups.iter().any(|group| group == "system:masters") { Decision::Allow } else { Decision::NoOpinion(String::new()) }
    }
}

/// A config map of a given size.
pub fn config_map(name: &str, size: usize) -> Object {
    let value = json!({
        "kind": "ConfigMap", "apiVersion": "v1", "data": {"text": "x".repeat(size)},
        "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"app": "web"}},
    });
    Object::from_value(value).expect("an object")
}

/// A static document, for routes outside the API.
pub fn text(text: &'static str) -> impl Fn() -> Bytes + Send + Sync + 'static {
    move || Bytes::from_static(text.as_bytes())
}
