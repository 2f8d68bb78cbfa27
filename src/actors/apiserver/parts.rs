//! The parts of an API server, and how they start: the caches first, then what reads and writes, then the units that keep things in order.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use troupe_api::{
    features::{ALLOW_UNSAFE_MALFORMED_OBJECT_DELETION, FeatureGates},
    meta::{Cause, Clock},
    resources::Registry,
};
use troupe_api_server::{
    admission::{MutatingPolicies, Pipeline, ValidatingPolicies, WebhookRefusals, webhooks},
    aggregation::{Aggregator, BackendOptions},
    conversion::Converter,
    http::streaming::KubeletDialer,
    store::{Store, StoreError, metered::MeteredStore},
    webhook_client::Client,
};

use super::{
    admission::Admission,
    advertise::Advertisement,
    aggregation::{self, Aggregation, ApiServices, Follow, trust::TrustKeeper},
    authorization::Authorization,
    bootstrap::Bootstrapper,
    cache::{CacheContext, CacheTable, Sequence, StoreFeed},
    commit::Committer,
    component_status::ComponentStatuses,
    computed::{Computed, ComputedResources},
    definitions::Definitions,
    hops::HopRecorder,
    listers::CacheListers,
    options::{ApiServerOptions, MakeAuthorizer},
    quota::{Ledger, Quota},
    read::Reader,
    refusals::ShownRefusals,
    resource_metrics::{NodeMetrics, PodMetrics, ResourceMetrics, Scraper},
    server_client::ServerClient,
    services::{AddressAllocator, PortAllocator, Repair, ServiceAllocator, WriteEvent, first_address},
    subresources::Subresources,
    table::{LiveTable, TableFollower},
    upkeep::Upkeep,
    versions::ObjectVersions,
    write::{Room, WritePath},
};
use crate::runtime::{placement::ArbiterGroup, system::System, unit::Policy};

/// The parts that calls are sent to.
pub(super) struct Parts {
    pub(super) system: System,
    pub(super) store: Arc<dyn Store>,
    pub(super) listers: Arc<CacheListers>,
    pub(super) table: Arc<LiveTable>,
    pub(super) reader: Arc<Reader>,
    pub(super) authorization: Arc<Authorization>,
    pub(super) path: Arc<WritePath>,
    pub(super) subresources: Subresources,
    pub(super) computed: ComputedResources,
    pub(super) bootstrapper: Bootstrapper,
    pub(super) aggregator: Arc<Aggregator>,
    pub(super) registering: Arc<aggregation::Parts>,
    pub(super) advertisement: Arc<Advertisement>,
    /// What must exist after the first start does.
    pub(super) bootstrapped: Arc<AtomicBool>,
    /// The server is about to stop: nobody should begin with it any more.
    pub(super) leaving: Arc<AtomicBool>,
}

impl Parts {
    /// Starts the units under `apiserver/` and waits until all caches are filled.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn start(options: ApiServerOptions) -> Result<Self, StoreError> {
        let store: Arc<dyn Store> = Arc::new(MeteredStore::new(options.store.clone(), &options.resources));
        let context = cache_context(&options, &store);
        let dispatched = context.dispatched.clone();
        let caches = fill_caches(&options, &context).await?;
        let (listers, table) = follow_definitions(&options, caches, context).await;
        let webhook_client = Arc::new(Client::new(listers.clone(), Handle::current(), options.webhooks_on_loopback));
        let backends = BackendOptions {
            listers: listers.clone(),
            identity: options.front_proxy,
            loopback: options.webhooks_on_loopback,
            paused: options.extensions_paused,
        };
        let names_unreadable = options.features.is_on(ALLOW_UNSAFE_MALFORMED_OBJECT_DELETION);
        let storage = Storage { store, event_ttl: options.event_ttl, names_unreadable };
        let core = Core::new(options.system, options.clock, storage, listers, dispatched, webhook_client.clone(), options.authorizer);
        let admission = core.admission(options.admission, webhook_client);
        let addresses =
            AddressAllocator::new(options.service_cidrs, core.reader.clone(), core.committer.clone(), core.listers.clone(), core.clock.clone());
        let ports = PortAllocator::new(options.node_ports, core.store.clone());
        let allocator = Arc::new(ServiceAllocator::new(addresses, ports, core.listers.clone(), options.listening));
        let path = core.write_path(admission.clone(), allocator.clone(), Room::new(options.memory), options.features);
        let virtual_resources = options.virtual_resources.map(|make| make(core.listers.clone())).unwrap_or_default();
        let subresources = Subresources {
            path: path.clone(),
            reader: core.reader.clone(),
            committer: core.committer.clone(),
            admission,
            authorization: core.authorization.clone(),
            listers: core.listers.clone(),
            clock: core.clock.clone(),
            virtual_resources,
        };
        let client = core.client(path.clone());
        let events = client.clone();
        let write_event: WriteEvent = Arc::new(move |event| {
            let events = events.clone();
            Box::pin(async move { events.exists(event).await })
        });
        let (reader, listers, clock) = (core.reader.clone(), core.listers.clone(), core.clock.clone());
        let repair = Arc::new(Repair::new(allocator.clone(), reader, listers, clock, write_event));
        let service = allocator.ranges().first().map(first_address);
        let advertisement = Arc::new(Advertisement::new(core.store.clone(), client.clone(), service));
        let computed = core.computed(options.kubelets);
        core.start_upkeep(&path, &repair, &table, &client);
        let (aggregator, registering) = core.start_aggregation(path.clone(), table.clone(), backends).await;
        let trust = TrustKeeper { client: client.clone(), listers: core.listers.clone(), clock: core.clock.clone() };
        let bootstrapper = Bootstrapper { client, advertisement: advertisement.clone(), trust, allocator, repair, clock: core.clock.clone() };
        Ok(Parts {
            system: core.system,
            store: core.store,
            listers: core.listers,
            table,
            reader: core.reader,
            authorization: core.authorization,
            path,
            subresources,
            computed,
            bootstrapper,
            aggregator,
            registering,
            advertisement,
            bootstrapped: Arc::default(),
            leaving: Arc::default(),
        })
    }
}

fn cache_context(options: &ApiServerOptions, store: &Arc<dyn Store>) -> CacheContext {
    CacheContext {
        store: store.clone(),
        clock: options.clock.clone(),
        dispatched: Arc::default(),
        history_bytes: options.history_bytes,
        history_for: options.history_for,
    }
}

/// Starts the caches of all rows and what feeds them, and waits until they show all that the store has.
async fn fill_caches(options: &ApiServerOptions, context: &CacheContext) -> Result<Arc<CacheTable>, StoreError> {
    let revision = context.store.current_revision().await?;
    context.dispatched.advance(revision);
    let caches = Arc::new(CacheTable::default());
    caches.add_rows(&options.resources, context, &options.system);
    let feed = StoreFeed::new(context.store.clone(), caches.clone(), context.dispatched.clone(), options.compact_every);
    // All caches wait for it, that of leases too.
    let policy = Policy { intensity: 20, group: ArbiterGroup::Leases, ..Policy::default() };
    options.system.spawn("apiserver/store-feed", policy, move |_| feed.clone());
    for route in caches.routes().values() {
        route.cache.applied.reached(revision).await;
    }
    Ok(caches)
}

/// The resource table, with the rows that definitions in the store make.
async fn follow_definitions(options: &ApiServerOptions, caches: Arc<CacheTable>, context: CacheContext) -> (Arc<CacheListers>, Arc<LiveTable>) {
    let listers = Arc::new(CacheListers { registry: ArcSwap::from_pointee(Registry::new(options.resources.clone())), caches });
    let table = Arc::new(LiveTable::new(options.resources.clone(), listers.clone(), context, options.system.clone()));
    if let Some(definitions) = table.cache() {
        table.follow(&definitions.load()).await;
    }
    (listers, table)
}

/// Where objects lie, and what is told of them.
struct Storage {
    store: Arc<dyn Store>,
    /// How long events are kept.
    event_ttl: Duration,
    /// Whether lists that fail name all that cannot be read.
    names_unreadable: bool,
}

/// What reads, decides and commits: everything else is made of it.
struct Core {
    system: System,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    listers: Arc<CacheListers>,
    reader: Arc<Reader>,
    committer: Arc<Committer>,
    authorization: Arc<Authorization>,
}

impl Core {
    fn new(
        system: System,
        clock: Arc<dyn Clock>,
        Storage { store, event_ttl, names_unreadable }: Storage,
        listers: Arc<CacheListers>,
        dispatched: Arc<Sequence>,
        webhook_client: Arc<Client>,
        authorizer: Option<MakeAuthorizer>,
    ) -> Self {
        let recorder = HopRecorder::new(system.clone());
        let versions = Arc::new(ObjectVersions::new(Converter::new(webhook_client), listers.clone()));
        let reader = Reader::new(store.clone(), listers.clone(), dispatched, clock.clone(), versions).naming_unreadable(names_unreadable);
        let reader = Arc::new(reader);
        let committer = Arc::new(Committer::new(store.clone(), listers.clone(), clock.clone(), recorder, event_ttl));
        let authorization = Arc::new(Authorization::new(authorizer.map(|make| make(listers.clone())), listers.clone()));
        Core { system, clock, store, listers, reader, committer, authorization }
    }

    /// The pipeline of built-in plugins, with policies and webhooks at its end.
    fn admission(&self, pipeline: Pipeline, webhook_client: Arc<Client>) -> Arc<Admission> {
        let refusals = Arc::<WebhookRefusals>::default();
        let (mutating, validating) = webhooks(webhook_client, refusals.clone());
        let clock = self.clock.clone();
        self.system.spawn("apiserver/webhooks", Policy::default(), move |_| ShownRefusals::new(refusals.clone(), clock.clone()));
        let pipeline = pipeline.mutating(MutatingPolicies::default()).mutating(mutating);
        let pipeline = pipeline.validating(ValidatingPolicies::default()).validating(validating).closed();
        let (reader, listers) = (self.reader.clone(), self.listers.clone());
        Arc::new(Admission::new(pipeline, reader, listers, self.authorization.clone(), self.clock.clone()))
    }

    fn write_path(&self, admission: Arc<Admission>, allocator: Arc<ServiceAllocator>, room: Room, features: FeatureGates) -> Arc<WritePath> {
        // Requests wait for it.
        let policy = Policy { group: ArbiterGroup::Serving, ..Policy::default() };
        let (commits, kept) = (self.committer.clone(), self.listers.clone());
        let limited = admission.runs("ResourceQuota").then(|| admission.limited_resources().to_vec());
        let ledger = self.system.spawn("apiserver/quota-ledger", policy, move |_| Ledger::new(commits.clone(), kept.clone()));
        Arc::new(WritePath {
            reader: self.reader.clone(),
            committer: self.committer.clone(),
            authorization: self.authorization.clone(),
            admission,
            allocator,
            quota: Quota::new(self.listers.clone(), self.clock.clone(), ledger, limited),
            room,
            features,
            clock: self.clock.clone(),
            system: self.system.clone(),
        })
    }

    /// What the server's own units call.
    fn client(&self, path: Arc<WritePath>) -> ServerClient {
        ServerClient { path, reader: self.reader.clone(), listers: self.listers.clone(), clock: self.clock.clone() }
    }

    /// The resources that are read and not stored.
    fn computed(&self, kubelets: Option<KubeletDialer>) -> ComputedResources {
        let metrics = ResourceMetrics::new(self.listers.clone(), kubelets, self.clock.clone());
        let components = ComponentStatuses::new(self.store.clone(), self.listers.clone(), self.clock.clone());
        let computed: Vec<Box<dyn Computed>> =
            vec![Box::new(components), Box::new(NodeMetrics(metrics.clone())), Box::new(PodMetrics(metrics.clone()))];
        self.system.spawn("apiserver/resource-metrics", Policy::default(), move |_| Scraper::new(metrics.clone()));
        ComputedResources::new(computed)
    }

    /// Starts the units that follow what is stored and keep it in order.
    fn start_upkeep(&self, path: &WritePath, repair: &Arc<Repair>, table: &Arc<LiveTable>, client: &ServerClient) {
        let (kept, caches) = (repair.clone(), self.listers.caches.clone());
        let (reading, memory) = (self.reader.clone(), path.room.memory().clone());
        self.system.spawn("apiserver/upkeep", Policy::default(), move |_| Upkeep::new(kept.clone(), caches.clone(), reading.clone(), memory.clone()));
        let followed = table.clone();
        self.system.spawn("apiserver/resource-table", Policy::default(), move |_| TableFollower::new(followed.clone()));
        let kept = client.clone();
        self.system.spawn("apiserver/definitions", Policy::default(), move |_| Definitions::new(kept.clone()));
    }

    /// Starts what follows API services, and waits until it knows those that there are.
    async fn start_aggregation(
        &self,
        path: Arc<WritePath>,
        table: Arc<LiveTable>,
        backends: BackendOptions,
    ) -> (Arc<Aggregator>, Arc<aggregation::Parts>) {
        let aggregator = Arc::<Aggregator>::default();
        let registering = Arc::new(aggregation::Parts { path, listers: self.listers.clone(), clock: self.clock.clone() });
        let aggregation = Aggregation { parts: registering.clone(), table, aggregator: aggregator.clone(), backends };
        let services = self.system.spawn("apiserver/api-services", Policy::default(), move |_| ApiServices::new(aggregation.clone()));
        // Nobody should find a group missing that another server answers for. If the unit fails now, it will find them later.
        let _ = services.ask(Follow, Cause::default()).await;
        (aggregator, registering)
    }
}
