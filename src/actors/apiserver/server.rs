//! The API server's door: sends every call to the part that answers it.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::BoxFuture;
use troupe_api::{
    aside,
    auth::{Authorizer, Selection},
    memory::MemoryGauge,
    meta::{Cause, GroupResource, Object, ObjectKey, Revision},
    resources::{Feature, Registry, SchemaSource},
    service::{
        Announced, ApiCall, ApiReply, ApiService, ConnectCall, ListOptions, ListerChange, ListerState, Listers, Operation, ReplyBody, Target,
        UserInfo, WatchOptions, WatchStream,
    },
    spans::{self, Scope},
    status::Status,
    stored::StoredObject,
};
use troupe_api_server::{
    aggregation::{Aggregator, calls},
    http::HealthCheck,
    store::StoreError,
};

use super::{
    advertise::{Advertiser, Reach},
    aggregation::{registration::Registration, trust::AuthenticationTrust},
    bootstrap::Bootstrap,
    health,
    metrics::StoredObjects,
    options::ApiServerOptions,
    parts::Parts,
    subresources,
    writer::Writer,
};
use crate::runtime::{system::System, unit::Policy};

/// The one [`ApiService`] of a control plane. Cheap to share; answers on the caller's worker.
pub struct ApiServer {
    parts: Arc<Parts>,
}

impl ApiServer {
    /// Starts the caches' actors under `apiserver/` and waits until all of them are filled.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn start(options: ApiServerOptions) -> Result<Arc<ApiServer>, StoreError> {
        Ok(Arc::new(ApiServer { parts: Arc::new(Parts::start(options).await?) }))
    }

    /// Creates what must exist after the first start. Call it before the first request is served.
    ///
    /// # Errors
    /// When the store fails, or an object of `bootstrap` is refused.
    pub async fn bootstrap(&self, bootstrap: &Bootstrap) -> Result<(), Status> {
        self.parts.bootstrapper.run(bootstrap).await?;
        let kept = self.parts.registering.clone();
        self.system().spawn("apiserver/api-service-registration", Policy::default(), move |_| Registration::new(kept.clone()));
        let (keeper, trust) = (self.parts.bootstrapper.trust.clone(), bootstrap.trust.clone());
        let path = "apiserver/cluster-authentication-trust";
        self.system().spawn(path, Policy::default(), move |_| AuthenticationTrust::new(keeper.clone(), trust.clone()));
        if let Some((address, port)) = bootstrap.advertise {
            let (kept, reach) = (self.parts.advertisement.clone(), Reach { address, port });
            self.system().spawn("apiserver/advertiser", Policy::default(), move |_| Advertiser::new(kept.clone(), reach));
        }
        self.parts.bootstrapped.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Is not ready any more, and no longer names this server to clients inside the cluster. Call it before the server stops.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn withdraw(&self, address: IpAddr, port: u16) -> Result<(), Status> {
        self.parts.leaving.store(true, Ordering::Relaxed);
        self.system().stop("apiserver/advertiser");
        self.parts.advertisement.withdraw(Reach { address, port }).await
    }

    /// The actor system that the server's units live in.
    pub fn system(&self) -> &System {
        &self.parts.system
    }

    /// Tells Prometheus how many objects there are.
    pub fn stored_objects(&self) -> StoredObjects {
        StoredObjects(self.parts.listers.caches.clone())
    }

    /// What the front door's health checks ask.
    pub fn health_checks(&self) -> Vec<HealthCheck> {
        health::checks(&health::Checked {
            store: self.parts.store.clone(),
            caches: self.parts.listers.caches.clone(),
            system: self.parts.system.clone(),
            bootstrapped: self.parts.bootstrapped.clone(),
            leaving: self.parts.leaving.clone(),
        })
    }

    /// What says who may do what; `None` where everybody may do everything.
    pub fn authorizer(&self) -> Option<Arc<dyn Authorizer>> {
        self.parts.authorization.authorizer().cloned()
    }

    /// Says whether the process is short of memory.
    pub fn memory(&self) -> Arc<dyn MemoryGauge> {
        self.parts.path.room.memory().clone()
    }

    /// Who answers for what this server does not.
    pub fn aggregator(&self) -> Arc<Aggregator> {
        self.parts.aggregator.clone()
    }

    /// Synchronous reads of the watch caches.
    pub fn listers(&self) -> Arc<dyn Listers> {
        self.parts.listers.clone()
    }
}

/// How long what was announced is new enough for who is in the same process.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Compiling a byte takes as long as so many bytes of a document that is decoded.
const EXPRESSIONS: usize = 16;

impl Parts {
    /// Sends a call to the part that answers it.
    async fn dispatch(&self, call: ApiCall) -> Result<ApiReply, Status> {
        let ApiCall { user, target, operation, cause, notices } = call;
        // Whoever writes outside a trace begins one: `troupe trace` shows what came of it.
        let cause = if cause.trace == 0 && !matches!(operation, Operation::Get { .. } | Operation::List(_)) { Cause::root() } else { cause };
        let verb = operation.verb().rbac();
        let name = authorized_name(&target, &operation);
        self.authorization.authorize(&user, &target, verb, &name, selection(&operation)).await?;
        let writer = |options| Writer { user: user.clone(), target: target.clone(), options, cause: cause.clone(), notices: notices.clone() };
        match operation {
            Operation::Get { resource_version } => self.get(&target, resource_version).await,
            Operation::List(options) => self.list(&target, &options).await,
            Operation::Create { body, options } => self.subresources.create(writer(options), body).await,
            Operation::Update { body, options } => self.subresources.update(writer(options), body).await,
            Operation::Patch { patch_type, body, options } => self.subresources.patch(writer(options), patch_type, body).await,
            Operation::Delete(options) => self.path.delete(&writer(Default::default()), &options).await,
            Operation::DeleteCollection { delete, list } => self.path.delete_collection(&writer(Default::default()), &delete, &list).await,
        }
    }

    /// Whether another server answers: for what it alone has, and for what is only computed here as long as nobody else wants to, such as metrics.
    fn is_elsewhere(&self, target: &Target) -> bool {
        let is_yielded = || !target.resource.is_stored() && self.listers.registry.load().is_elsewhere(&target.resource.group, &target.version);
        target.resource.is_elsewhere || is_yielded()
    }

    /// Has the server answer that has the objects.
    async fn elsewhere(&self, call: ApiCall) -> Result<ApiReply, Status> {
        let name = authorized_name(&call.target, &call.operation);
        let (verb, selected) = (call.operation.verb().rbac(), selection(&call.operation));
        self.authorization.authorize(&call.user, &call.target, verb, &name, selected).await?;
        calls::call(&self.aggregator, call).await
    }

    async fn get(&self, target: &Target, wanted: Option<Revision>) -> Result<ApiReply, Status> {
        if !target.resource.is_stored() {
            return self.computed.get(target).await.map(|object| ApiReply::ok(ReplyBody::Object(object)));
        }
        let object = self.reader.get(target, wanted).await?;
        subresources::shown(target, object)
    }

    async fn list(&self, target: &Target, options: &ListOptions) -> Result<ApiReply, Status> {
        let list = match target.resource.is_stored() {
            true => self.reader.list(target, options).await?,
            false => self.computed.list(target, options).await?,
        };
        Ok(ApiReply::ok(ReplyBody::List(list)))
    }

    /// How much work a call is, in bytes of documents that it decodes and changes.
    fn work(&self, call: &ApiCall) -> usize {
        match &call.target.served().schema {
            // How long an expression takes does not follow from its length.
            SchemaSource::Builtin(_) if call.target.resource.has(Feature::Expressions) => match self.documents(call) {
                0 => 0,
                bytes => (EXPRESSIONS * bytes).max(aside::SMALL + 1),
            },
            SchemaSource::Builtin(_) => self.documents(call),
            SchemaSource::Defined(schema) => match self.documents(call) {
                0 => 0,
                bytes => schema.work(bytes),
            },
        }
    }

    /// How many bytes of documents a call decodes and changes.
    fn documents(&self, call: &ApiCall) -> usize {
        let current = || self.reader.cached(&call.target.resource, &call.target.key()).ok().flatten();
        let current = || current().map_or(0, |object| object.encoded_length());
        match &call.operation {
            Operation::Create { body, .. } => body.encoded_len(),
            Operation::Update { body, .. } => body.encoded_len() + current(),
            Operation::Patch { body, .. } => body.len() + current(),
            Operation::Delete(_) => current(),
            Operation::Get { .. } | Operation::List(_) | Operation::DeleteCollection { .. } => 0,
        }
    }
}

/// The name that authorizers see: a list of one name by field selector counts as that name.
fn authorized_name(target: &Target, operation: &Operation) -> String {
    let selected = match operation {
        Operation::List(options) | Operation::DeleteCollection { list: options, .. } => options.fields.required_value("metadata.name"),
        _ => None,
    };
    selected.unwrap_or(&target.name).to_owned()
}

/// What a call selects by.
fn selection(operation: &Operation) -> Selection<'_> {
    match operation {
        Operation::List(options) | Operation::DeleteCollection { list: options, .. } => {
            Selection { labels: Some(&options.labels), fields: Some(&options.fields) }
        }
        _ => Selection::default(),
    }
}

impl ApiService for ApiServer {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        if self.parts.is_elsewhere(&call.target) {
            let parts = self.parts.clone();
            return Box::pin(async move { parts.elsewhere(call).await });
        }
        let (work, parts) = (self.parts.work(&call), self.parts.clone());
        let sampled = if call.cause.sampled { parts.system.recorder().tracer().map(|tracer| Scope::of(tracer, &call.cause)) } else { None };
        let answer = async move { parts.dispatch(call).await };
        match sampled {
            // Wherever it runs.
            Some(scope) => Box::pin(aside::run(work, spans::within(scope, answer))),
            None => Box::pin(aside::run(work, answer)),
        }
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, _cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        let parts = self.parts.clone();
        Box::pin(async move {
            let name = options.fields.required_value("metadata.name").unwrap_or(&target.name).to_owned();
            let selected = Selection { labels: Some(&options.labels), fields: Some(&options.fields) };
            parts.authorization.authorize(&user, &target, "watch", &name, selected).await?;
            if parts.is_elsewhere(&target) {
                return calls::watch(parts.aggregator.clone(), user, target, options).await;
            }
            parts.reader.watch(&target, options).await
        })
    }

    fn admit_connect(&self, call: ConnectCall) -> BoxFuture<'static, Result<Object, Status>> {
        let path = self.parts.path.clone();
        Box::pin(async move { path.admit_connect(call).await })
    }

    fn announced(&self, resources: Vec<GroupResource>) -> BoxFuture<'static, Announced> {
        let revisions = resources.iter().map(|resource| self.parts.listers.announced(resource)).collect();
        Box::pin(std::future::ready(Announced { revisions, ask_again: ASK_AGAIN }))
    }

    fn registry(&self) -> Arc<Registry> {
        self.parts.listers.registry.load_full()
    }

    fn settled_registry(&self) -> BoxFuture<'static, Arc<Registry>> {
        let table = self.parts.table.clone();
        Box::pin(async move { table.settled().await })
    }
}

impl Listers for ApiServer {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.parts.listers.get(resource, key)
    }

    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<StoredObject>> {
        self.parts.listers.list(resource, namespace)
    }

    fn is_known(&self, resource: &GroupResource) -> bool {
        self.parts.listers.is_known(resource)
    }

    fn version(&self, resource: &GroupResource) -> Option<Revision> {
        self.parts.listers.version(resource)
    }

    fn changes(&self, resource: &GroupResource, since: Option<&ListerState>) -> (ListerState, Vec<ListerChange>) {
        self.parts.listers.changes(resource, since)
    }
}
