//! The API server's door: starts its actors, and sends every call to the code that answers it.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use troupe_api::{
    admission::{MutatingPolicies, ValidatingPolicies, webhooks},
    aside,
    auth::{Authorizer, rbac::resolve::Resolver},
    http::HealthCheck,
    meta::{Cause, FieldSelector, GroupResource, ObjectKey, Revision},
    resources::{Feature, Registry, SchemaSource},
    service::{
        ApiCall, ApiReply, ApiService, ConnectCall, ListerChange, ListerState, Listers, Operation, Target, UserInfo, WatchOptions, WatchStream,
    },
    status::Status,
    store::{Store, StoreError, metered::MeteredStore},
    stored::StoredObject,
};

use super::{
    ApiServerOptions, Bootstrap,
    advertise::{Advertiser, Reach},
    cache::{CacheContext, CacheTable, Sequence, StoreFeed},
    core::{CacheListers, Core},
    definitions::Definitions,
    health,
    hops::HopRecorder,
    metrics::StoredObjects,
    quota::Ledger,
    subresources,
    table::{LiveTable, TableFollower},
    upkeep::Upkeep,
    write::Writer,
};

use crate::runtime::{placement::ArbiterGroup, system::System, unit::Policy};

/// The one [`ApiService`] of a control plane. Cheap to share; answers on the caller's worker.
pub struct ApiServer {
    core: Arc<Core>,
}

impl ApiServer {
    /// Starts the caches' actors under `apiserver/` and waits until all of them are filled.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn start(options: ApiServerOptions) -> Result<Arc<ApiServer>, StoreError> {
        let store: Arc<dyn Store> = Arc::new(MeteredStore::new(options.store, &options.resources));
        let revision = store.current_revision().await?;
        let dispatched = Arc::new(Sequence::default());
        dispatched.advance(revision);
        let caches = Arc::new(CacheTable::default());
        let context = CacheContext {
            store: store.clone(),
            clock: options.clock.clone(),
            dispatched: dispatched.clone(),
            history_bytes: options.history_bytes,
            history_for: options.history_for,
        };
        caches.add_rows(&options.resources, &context, &options.system);
        let feed = StoreFeed::new(store.clone(), caches.clone(), dispatched.clone(), options.compact_every);
        // All caches wait for it, that of leases too.
        let policy = Policy { intensity: 20, group: ArbiterGroup::Leases, ..Policy::default() };
        options.system.spawn("apiserver/store-feed", policy, move |_| feed.clone());
        for route in caches.routes().values() {
            route.cache.applied.reached(revision).await;
        }
        let listers = Arc::new(CacheListers { registry: ArcSwap::from_pointee(Registry::new(options.resources.clone())), caches });
        let table = Arc::new(LiveTable::new(options.resources, listers.clone(), context, options.system.clone()));
        if let Some(definitions) = table.cache() {
            table.follow(&definitions.load()).await;
        }
        let (mutating, validating) = webhooks(listers.clone(), options.webhooks_on_loopback);
        let core = Arc::new(Core {
            recorder: HopRecorder::new(options.system.clone()),
            store,
            clock: options.clock,
            dispatched,
            authorizer: options.authorizer.map(|make| make(listers.clone())),
            resolver: Resolver::new(listers.clone()),
            admission: options
                .admission
                .mutating(MutatingPolicies::default())
                .mutating(mutating)
                .validating(ValidatingPolicies::default())
                .validating(validating),
            virtual_resources: options.virtual_resources.map(|make| make(listers.clone())).unwrap_or_default(),
            memory: options.memory,
            growth: Default::default(),
            service_cidrs: options.service_cidrs,
            node_ports: options.node_ports,
            node_ports_turn: tokio::sync::Mutex::default(),
            ledger: OnceLock::new(),
            leaving: AtomicBool::new(false),
            listers,
        });
        let kept = core.clone();
        core.recorder.system().spawn("apiserver/upkeep", Policy::default(), move |_| Upkeep::new(kept.clone()));
        let kept = core.clone();
        // Requests wait for it.
        let policy = Policy { group: ArbiterGroup::Serving, ..Policy::default() };
        let ledger = core.recorder.system().spawn("apiserver/quota-ledger", policy, move |_| Ledger::new(kept.clone()));
        core.ledger.get_or_init(|| ledger);
        core.recorder.system().spawn("apiserver/resource-table", Policy::default(), move |_| TableFollower::new(table.clone()));
        let kept = core.clone();
        core.recorder.system().spawn("apiserver/definitions", Policy::default(), move |_| Definitions::new(kept.clone()));
        Ok(Arc::new(ApiServer { core }))
    }

    /// Creates what must exist after the first start. Call it before the first request is served.
    ///
    /// # Errors
    /// When the store fails, or an object of `bootstrap` is refused.
    pub async fn bootstrap(&self, bootstrap: &Bootstrap) -> Result<(), Status> {
        self.core.bootstrap(bootstrap).await?;
        if let Some((address, port)) = bootstrap.advertise {
            let (kept, reach) = (self.core.clone(), Reach { address, port });
            self.system().spawn("apiserver/advertiser", Policy::default(), move |_| Advertiser::new(kept.clone(), reach));
        }
        Ok(())
    }

    /// Is not ready any more, and no longer names this server to clients inside the cluster. Call it before the server stops.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn withdraw(&self, address: IpAddr, port: u16) -> Result<(), Status> {
        self.core.leaving.store(true, Ordering::Relaxed);
        self.system().stop("apiserver/advertiser");
        self.core.withdraw(Reach { address, port }).await
    }

    /// The actor system that the server's units live in.
    pub fn system(&self) -> &System {
        self.core.recorder.system()
    }

    /// Tells Prometheus how many objects there are.
    pub fn stored_objects(&self) -> StoredObjects {
        StoredObjects(self.core.listers.caches.clone())
    }

    /// What the front door's health checks ask.
    pub fn health_checks(&self) -> Vec<HealthCheck> {
        health::checks(&self.core)
    }

    /// What says who may do what; `None` where everybody may do everything.
    pub fn authorizer(&self) -> Option<Arc<dyn Authorizer>> {
        self.core.authorizer.clone()
    }

    /// Synchronous reads of the watch caches.
    pub fn listers(&self) -> Arc<dyn Listers> {
        self.core.listers.clone()
    }
}

/// Sends a call to the code that answers it.
async fn dispatch(core: Arc<Core>, call: ApiCall) -> Result<ApiReply, Status> {
    let ApiCall { user, target, operation, cause, notices } = call;
    // Whoever writes outside a trace begins one: `troupe trace` shows what came of it.
    let cause = if cause.trace == 0 && !matches!(operation, Operation::Get { .. } | Operation::List(_)) { Cause::root() } else { cause };
    let verb = operation.verb().rbac();
    let name = authorized_name(&target, &operation);
    core.authorize(&user, &target, verb, &name, selected_fields(&operation))?;
    let writer = |options| Writer { user: user.clone(), target: target.clone(), options, cause: cause.clone(), notices: notices.clone() };
    match operation {
        Operation::Get { resource_version } => core.get_object(&target, resource_version).await,
        Operation::List(options) => core.list_objects(&target, &options).await,
        Operation::Create { body, options } => subresources::create(&core, writer(options), body).await,
        Operation::Update { body, options } => subresources::update(&core, writer(options), body).await,
        Operation::Patch { patch_type, body, options } => subresources::patch(&core, writer(options), patch_type, body).await,
        Operation::Delete(options) => core.delete(&writer(Default::default()), &options).await,
        Operation::DeleteCollection { delete, list } => core.delete_collection(&writer(Default::default()), &delete, &list).await,
    }
}

/// Compiling a byte takes as long as so many bytes of a document that is decoded.
const EXPRESSIONS: usize = 16;

/// How much work a call is, in bytes of documents that it decodes and changes.
fn work(core: &Core, call: &ApiCall) -> usize {
    match &call.target.served().schema {
        SchemaSource::Builtin(_) if call.target.resource.has(Feature::Expressions) => EXPRESSIONS * documents(core, call),
        SchemaSource::Builtin(_) => documents(core, call),
        SchemaSource::Defined(schema) => match documents(core, call) {
            0 => 0,
            bytes => schema.work(bytes),
        },
    }
}

/// How many bytes of documents a call decodes and changes.
fn documents(core: &Core, call: &ApiCall) -> usize {
    let current = || core.cache(&call.target.resource).ok()?.get(&call.target.key());
    let current = || current().map_or(0, |object| object.encoded().len());
    match &call.operation {
        Operation::Create { body, .. } => body.encoded_len(),
        Operation::Update { body, .. } => body.encoded_len() + current(),
        Operation::Patch { body, .. } => body.len() + current(),
        Operation::Delete(_) => current(),
        Operation::Get { .. } | Operation::List(_) | Operation::DeleteCollection { .. } => 0,
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
fn selected_fields(operation: &Operation) -> Option<&FieldSelector> {
    match operation {
        Operation::List(options) | Operation::DeleteCollection { list: options, .. } => Some(&options.fields),
        _ => None,
    }
}

impl ApiService for ApiServer {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        Box::pin(aside::run(work(&self.core, &call), dispatch(self.core.clone(), call)))
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, _cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        let core = self.core.clone();
        Box::pin(async move {
            let name = options.fields.required_value("metadata.name").unwrap_or(&target.name).to_owned();
            core.authorize(&user, &target, "watch", &name, Some(&options.fields))?;
            core.watch_objects(&target, options).await
        })
    }

    fn admit_connect(&self, call: ConnectCall) -> BoxFuture<'static, Result<(), Status>> {
        let core = self.core.clone();
        Box::pin(async move { core.admit_connect(call).await })
    }

    fn registry(&self) -> Arc<Registry> {
        self.core.listers.registry.load_full()
    }
}

impl Listers for ApiServer {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.core.listers.get(resource, key)
    }

    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<StoredObject>> {
        self.core.listers.list(resource, namespace)
    }

    fn version(&self, resource: &GroupResource) -> Option<Revision> {
        self.core.listers.version(resource)
    }

    fn changes(&self, resource: &GroupResource, since: Option<&ListerState>) -> (ListerState, Vec<ListerChange>) {
        self.core.listers.changes(resource, since)
    }
}
