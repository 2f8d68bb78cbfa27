//! The kubelet: registers the node, runs the pods bound to it, and reports on both.
//!
//! Units, below the path given at the start: `pods` keeps a [`worker::shell::PodWorker`] for each pod, `runtime`
//! watches the container runtime and wakes the workers whose containers changed, `node` speaks for the node.

pub mod admission;
pub mod call_trace;
pub mod certificates;
pub mod cgroups;
mod checkpoint;
pub mod cluster;
pub mod configuration;
pub mod container_manager;
pub mod context;
pub mod cpu_set;
pub mod credentials;
pub mod csi;
pub mod dbus;
pub mod device_metrics;
pub mod device_plugins;
pub mod dra;
pub mod env;
pub mod events;
pub mod eviction;
pub mod handle;
pub mod image_collection;
pub mod images;
mod lines;
pub mod listing;
pub mod local_volumes;
pub mod manifests;
pub mod metrics;
pub mod node;
pub mod node_shutdown;
pub mod options;
pub(crate) mod patch;
pub mod plugins;
mod pod_certificate_manager;
pub mod pod_certificates;
pub mod pod_resources;
pub mod pods;
pub mod probes;
mod programs;
pub mod pull_records;
pub mod pulls;
pub mod relist;
pub mod resize;
pub mod resolv;
pub mod rotation;
pub mod server;
pub mod stats;
pub mod status;
pub mod trust_bundles;
pub mod user_namespaces;
pub mod volumes;
pub mod worker;

#[cfg(test)]
mod plugin_testing;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Pod;
use rand::RngCore;
use thiserror::Error;
use troupe_api::{
    meta::{FieldSelector, ObjectKey},
    projection::MetaProjection,
    service::WatchOptions,
};
use troupe_cri::{RuntimeFeatures, names::PodIdentity, proto::VersionResponse, resources::MachineSize};

use self::{
    admission::{NodeAbilities, apparmor::AppArmor, sysctl::Allowlist},
    cgroups::{
        driver,
        limit::{Limits, limit_pods},
        slices::{self, Slices},
    },
    cluster::{ApiCluster, Cluster, NoCluster},
    container_manager::{ContainerManager, reconcile::CpuReconciler},
    context::NodeContext,
    credentials::provider::{ConfigError, Providers},
    csi::{Csi, registration::CsiReporter},
    device_plugins::{DevicePluginServer, DevicePlugins},
    dra::{Dra, DraReconciler, KnownPods},
    events::EventRecorder,
    eviction::{
        Eviction, Units,
        pressure::Monitor,
        processes::{ProcessEviction, ProcessThresholds},
        settings::with_allocatable,
    },
    image_collection::ImageCollection,
    local_volumes::LocalVolumes,
    manifests::Manifests,
    metrics::MeteredRuntime,
    node::{
        NodeFacts, NodeReporter,
        facts::{MachineFacts, Usage, hugepage_sizes, thermal_paths},
        own::OwnNode,
        reserved::{Reserved, left},
    },
    node_shutdown::NodeShutdown,
    plugins::{Handler, Handlers, PluginWatcher},
    pod_certificate_manager::PodCertificateManager,
    pod_certificates::PodCertificates,
    pod_resources::{PodResourcesServer, Sources},
    pods::{AllPods, PodChanged, Pods, Room, RuntimeChanged},
    pull_records::PullRecords,
    pulls::PullGate,
    relist::RuntimeWatch,
    resize::Allocations,
    resolv::{ClusterDns, Resolver},
    rotation::LogRotation,
    trust_bundles::BundleWatch,
    user_namespaces::{NodeIds, UserNamespaces},
    volumes::room::NodeRoom,
    worker::shell::PodSource,
};
pub use self::{handle::KubeletHandle, options::KubeletOptions};
use crate::{
    files::{Directory, directory::check_kernel},
    runtime::{
        cache::{Cache, Caches, Lister, Subscription},
        host::UnitAddr,
        system::{System, TaskHandle},
        unit::Policy,
    },
    scheduler::demand::HostPort,
};

/// How long the runtime may take to answer at the start.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(60);
/// Secrets and tokens of pods have one part of so many of this process' memory.
const WRITTEN_PART: u64 = 8;

/// Why a kubelet does not start.
#[derive(Debug, Error)]
pub enum KubeletError {
    #[error("the container runtime does not answer: {0}")]
    Runtime(troupe_cri::CriError),
    #[error("sysctls that pods may set: {0}")]
    Sysctls(#[from] admission::sysctl::PatternError),
    #[error("{0}")]
    Cgroups(String),
    #[error("user namespaces: {0}")]
    UserNamespaces(String),
    #[error("{0}")]
    Reserved(String),
    #[error("{0}")]
    ContainerManager(String),
    #[error("image credential providers: {0}")]
    CredentialProviders(#[from] ConfigError),
    #[error(transparent)]
    Kernel(io::Error),
    #[error("cannot make {path}: {source}")]
    Directory { path: PathBuf, source: io::Error },
}

/// A running kubelet. Its units live on in the system until they are stopped there; what feeds them ends with this, unless it has caches of others.
pub struct Kubelet {
    handle: KubeletHandle,
    pods: Option<Cache<Pod>>,
    _caches: Option<Caches>,
    _subscription: Option<Arc<Subscription<Pod>>>,
    _tasks: Vec<TaskHandle>,
}

impl Kubelet {
    /// Starts the kubelet's units below `kubelet/` in `system`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the runtime does not answer within a minute, or has systemd make cgroups where there is none, or directories cannot be made, or pods
    /// are to set what they cannot, or what an earlier process left of containers' CPUs or of pods' ids does not fit, or credential providers
    /// cannot be used.
    pub async fn start(mut options: KubeletOptions, system: &System) -> Result<Kubelet, KubeletError> {
        check_kernel().map_err(KubeletError::Kernel)?;
        let below = |name: &str| options.root_dir.join(name);
        let (pods, checkpoints) = (below("pods"), below(server::checkpoint::DIRECTORY));
        let shared = ["plugins", "plugins_registry", device_plugins::DIRECTORY, pod_resources::DIRECTORY].map(below);
        let of_others = shared.iter().map(|path| (path, 0o750));
        let made = [(&options.root_dir, 0o700), (&pods, 0o700), (&checkpoints, 0o700), (&options.log_dir, 0o750)].into_iter().chain(of_others);
        for (path, mode) in made {
            Directory::make(path, mode).map_err(|source| KubeletError::Directory { path: path.clone(), source })?;
        }
        let (version, features) = reach_runtime(&options).await?;
        let driver = driver::agreed(&*options.runtime, options.cgroup_driver).await.map_err(KubeletError::Runtime)?;
        options.cgroup_parent = driver.parent(&options.cgroup_parent, slices::is_init()).map_err(KubeletError::Cgroups)?;
        let machine = MachineFacts::read();
        let kept = options.reserved.with_thresholds(&options.eviction_thresholds, machine.memory_bytes, 0);
        kept.check(machine.cpus.saturating_mul(1000), machine.memory_bytes).map_err(KubeletError::Reserved)?;
        bound_pods(&options, &machine).await;
        let sysctls = Allowlist::new(&machine.kernel, &options.allowed_unsafe_sysctls)?;
        let abilities = NodeAbilities { apparmor: AppArmor::read(), sysctls };
        let container_manager = ContainerManager::start(&options.container_manager, &options.root_dir, (kept.milli_cpus, kept.memory));
        let container_manager = container_manager.map_err(KubeletError::ContainerManager)?;
        let providers = options.credential_providers.as_ref().map(|files| Providers::load(files, system.clock())).transpose()?;
        let ids = NodeIds::of_machine(options.user_ids_per_pod, options.max_pods).map_err(KubeletError::UserNamespaces)?;
        let user_namespaces = UserNamespaces::start(&options.root_dir, ids).map_err(KubeletError::UserNamespaces)?;
        let mut tasks = Vec::new();
        let caches = options.caches.clone().or_else(|| Some(Caches::new(system.clone(), options.client.clone()?)));
        let reached = (&version, features);
        let given = (container_manager, user_namespaces);
        let mut context = context(&options, system, reached, &machine, caches.as_ref(), abilities, given);
        context.credential_providers = providers.unwrap_or_default();
        context.pull_records.recover(&*context.runtime).await;
        let context = Arc::new(context);
        let manifests = Manifests::new(options.static_pod_dir.clone(), options.static_pod_url.clone(), context.node_name.clone());
        let cache = caches.as_ref().map(|caches| pod_cache(caches, &context.node_name));
        let facts = node_facts(&options, machine);
        let room = room(&options, OwnNode::new(node::made(&context, &facts), options.nodes.clone()));
        let (all, source) = (all_pods(cache.clone(), manifests.clone(), room.node.clone()), pod_source(cache.clone(), manifests.clone()));
        let pods = spawn_units(system, &options, &context, &all, &source, &manifests, room);
        let mut reporter = None;
        tell_pod_resources(system, &context, &all, options.root_dir.join(pod_resources::DIRECTORY));
        if let Some(client) = &options.client {
            let (context, client) = (context.clone(), client.clone());
            let facts = Arc::new(facts);
            let devices = context.device_plugins.clone();
            system.spawn("kubelet/device-plugins", Policy::default(), move |_| DevicePluginServer::new(devices.clone()));
            let read = options.caches.clone().unwrap_or_else(|| Caches::new(system.clone(), client.clone()));
            LocalVolumes::start(&read, &client, &context.node_name, context.volumes.clone());
            if let Some((caches, pods)) = caches.as_ref().zip(cache.clone()).filter(|_| options.pod_certificates) {
                PodCertificateManager::start(caches, &client, &context, pods);
            }
            watch_plugins(system, &context, &all, options.root_dir.join("plugins_registry"));
            reporter =
                Some(system.spawn("kubelet/node", Policy::default(), move |_| NodeReporter::new(context.clone(), client.clone(), facts.clone())));
        }
        NodeShutdown::start(system, &options.shutdown, &context, (&all, &pods), reporter);
        manifests.follow(system, pods.clone(), options.client.clone(), cache.clone(), &mut tasks);
        let subscription = cache.as_ref().map(|cache| wake_on_change(cache, manifests, pods, system, &mut tasks));
        Ok(Kubelet { handle: KubeletHandle::new(context, all), pods: cache, _caches: caches, _subscription: subscription, _tasks: tasks })
    }

    /// What the kubelet's server needs.
    pub fn handle(&self) -> &KubeletHandle {
        &self.handle
    }

    /// The pods bound to this node; `None` without an API server.
    pub fn pods(&self) -> Option<&Lister<Pod>> {
        self.pods.as_ref()
    }
}

/// Bounds what all pods use together.
async fn bound_pods(options: &KubeletOptions, machine: &MachineFacts) {
    if !options.cgroups_per_qos {
        return;
    }
    // Whoever wants no bounds leaves the machine's daemons what they need to live nevertheless.
    let reserved = if options.enforces_pods { options.reserved } else { Reserved::default() };
    let (cpus, memory, processes) = machine.for_pods(&reserved);
    let limits = Limits::of_pods(cpus, memory, processes);
    if let Err(error) = Slices::default().set(&options.cgroup_parent, &limits).await {
        tracing::warn!(%error, slice = options.cgroup_parent, "systemd does not make the slice of all pods");
    }
    if let Err(error) = limit_pods(&options.cgroup_parent, &limits) {
        tracing::warn!(%error, "pods may use all of the machine's memory and processes");
    }
}

async fn reach_runtime(options: &KubeletOptions) -> Result<(VersionResponse, RuntimeFeatures), KubeletError> {
    let deadline = tokio::time::Instant::now() + RUNTIME_PATIENCE;
    loop {
        match futures::try_join!(options.runtime.version(), options.runtime.status()) {
            Ok((version, status)) => return Ok((version, RuntimeFeatures::of(&status))),
            Err(error) if tokio::time::Instant::now() > deadline => return Err(KubeletError::Runtime(error)),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn pod_cache(caches: &Caches, node: &str) -> Cache<Pod> {
    let fields = FieldSelector::parse(&format!("spec.nodeName={node}")).expect("a node's name is a valid field value");
    caches.selected("-of-node", WatchOptions { fields, ..WatchOptions::default() })
}

fn context(
    options: &KubeletOptions,
    system: &System,
    (version, features): (&VersionResponse, RuntimeFeatures),
    machine: &MachineFacts,
    caches: Option<&Caches>,
    abilities: NodeAbilities,
    (container_manager, user_namespaces): (ContainerManager, UserNamespaces),
) -> NodeContext {
    let size = MachineSize {
        cpus: machine.cpus,
        memory_bytes: machine.memory_bytes,
        // In whole KiB, as the node tells its capacity.
        storage_bytes: i64::try_from(Usage::measure(&options.root_dir).disk_size / 1024 * 1024).unwrap_or(i64::MAX),
        daemons_oom_score_adj: node::facts::own_oom_score_adj(),
        memory: node::facts::memory_rules(Path::new("/sys/fs/cgroup"), options.limited_swap, options.kills_group, machine.swap_bytes),
    };
    let (node_name, clock): (Arc<str>, _) = (options.node_name.as_str().into(), system.clock().clone());
    let services = options.services.clone().or_else(|| Some(caches?.cache()));
    let listed = move |namespace: &str| services.as_ref().map(|services| env::services::seen_from(services, namespace)).unwrap_or_default();
    let (cluster, events): (Arc<dyn Cluster>, _) = match options.client.as_ref().zip(caches) {
        Some((client, caches)) => {
            let bundles = BundleWatch::new(caches.clone(), system.rng().next_u64());
            let cluster = ApiCluster::new(client.clone(), Arc::new(listed), bundles, clock.clone());
            (Arc::new(cluster), EventRecorder::start(system, client, &node_name, options.event_rate))
        }
        None => (Arc::new(NoCluster), EventRecorder::nowhere()),
    };
    NodeContext {
        container_manager,
        user_namespaces,
        csi: Arc::new(Csi::new(&options.root_dir, node_name.clone(), options.client.clone())),
        device_plugins: Arc::new(DevicePlugins::new(&options.root_dir)),
        dra: Arc::new(Dra::new(&options.root_dir, node_name.clone(), options.client.clone())),
        node_name,
        clock,
        runtime: Arc::new(MeteredRuntime::new(options.runtime.clone())),
        features: ArcSwap::from_pointee(features),
        abilities,
        cluster,
        gate: options.gate.clone(),
        links: options.links.clone(),
        pulls: PullGate::new(options.pull_policy),
        registry_clients: options.registry_clients.clone(),
        credential_providers: Providers::default(),
        pull_records: PullRecords::new(&options.root_dir, options.pull_verification.clone(), system.clock().clone()),
        pod_certificates: Arc::new(PodCertificates::new(options.pod_certificates)),
        backoff: options.backoff,
        events,
        root: options.root_dir.clone(),
        volumes: options.volumes_dir.clone(),
        log_root: options.log_dir.clone(),
        container_log_links: options.container_log_dir.clone(),
        cgroup_parent: options.cgroup_parent.clone(),
        slices: Slices::default(),
        allocations: Allocations::load(&options.root_dir),
        seccomp_root: options.root_dir.join("seccomp").display().to_string(),
        seccomp_default: options.seccomp_default,
        stop_signals: options.stop_signals,
        cpu_time: options.cpu_time,
        dns: ClusterDns { servers: options.cluster_dns.iter().map(ToString::to_string).collect(), domain: options.cluster_domain.clone() },
        resolver: Resolver::parse(&fs::read_to_string(&options.resolv_conf).unwrap_or_default()),
        node_ips: options.node_ips.iter().map(ToString::to_string).collect(),
        unreserved: options.reserved.with_thresholds(&options.eviction_thresholds, size.memory_bytes, size.storage_bytes).left_of(size),
        machine: size,
        hugepages: hugepage_sizes(),
        masked_paths: thermal_paths(),
        disk_pressure: AtomicBool::new(false),
        memory_pressure: AtomicBool::new(false),
        pid_pressure: AtomicBool::new(false),
        shutting_down: AtomicBool::new(false),
        written: NodeRoom::new(troupe_api::memory::process_limit() / WRITTEN_PART),
        cgroups_per_qos: options.cgroups_per_qos,
        pod_max_pids: options.pod_max_pids,
        runtime_name: version.runtime_name.clone(),
        runtime_version: ArcSwap::from_pointee(context::runtime_version(version)),
    }
}

fn node_facts(options: &KubeletOptions, machine: MachineFacts) -> NodeFacts {
    NodeFacts {
        labels: options.labels.clone(),
        port: options.port,
        max_pods: options.max_pods,
        kubelet_version: options.kubelet_version.clone(),
        machine,
        heartbeat: options.heartbeat,
        reserved: options.reserved,
        thresholds: options.eviction_thresholds.clone(),
        registration: options.registration.clone(),
        status: options.node_status,
    }
}

fn room(options: &KubeletOptions, node: OwnNode) -> Room {
    let kubelet = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), options.port);
    let listeners = options.listeners.iter().chain([&kubelet]).map(|address| HostPort::listening(*address)).collect();
    let most = usize::try_from(options.max_pods).unwrap_or(usize::MAX);
    Room { node, most, listeners, compares_tolerations: options.compares_tolerations }
}

/// All pods of this node; unknown until the first list is in, and the node known.
fn all_pods(cache: Option<Cache<Pod>>, manifests: Manifests, node: OwnNode) -> AllPods {
    Arc::new(move || {
        let mut all = manifests.pods()?;
        match &cache {
            Some(cache) if !cache.is_synced() || !node.is_known() => return None,
            Some(cache) => all.extend(cache.list("").into_iter().filter(|pod| !manifests::is_mirror(pod)).map(manifests::from_api)),
            None => {}
        }
        Some(all)
    })
}

fn pod_source(cache: Option<Cache<Pod>>, manifests: Manifests) -> PodSource {
    Arc::new(move |id: &PodIdentity| {
        let cached = cache.as_ref().and_then(|cache| cache.get(&ObjectKey::new(id.namespace.as_str(), id.name.as_str())));
        let cached = cached.map(|cached| cached.object);
        match manifests.pod(id, cached.as_deref()) {
            Some(pod) => Some(pod),
            // A mirror is run by nobody: what it shows is, if anything.
            None => cached.filter(|pod| pod.metadata.uid.as_deref() == Some(&id.uid) && !manifests::is_mirror(pod)).map(manifests::from_api),
        }
    })
}

fn spawn_units(
    system: &System,
    options: &KubeletOptions,
    context: &Arc<NodeContext>,
    all: &AllPods,
    source: &PodSource,
    manifests: &Manifests,
    room: Room,
) -> UnitAddr<Pods> {
    reconcile_cpus(system, options, context, all);
    let monitor = Monitor::new(&options.eviction_thresholds, options.eviction_pressure_transition_period);
    let (seen, manifests) = (all.clone(), manifests.clone());
    let (shared, all, source) = (context.clone(), all.clone(), source.clone());
    let pods = system.spawn("kubelet/pods", Policy::default(), move |_| Pods::new(shared.clone(), all.clone(), source.clone(), room.clone()));
    let (runtime, told) = (context.runtime.clone(), pods.clone());
    let on_change: relist::OnChange = Arc::new(move |changed| told.wake(RuntimeChanged(changed), Default::default()));
    let (shared, told, policy) = (context.clone(), pods.clone(), options.log_policy);
    let logs = system.spawn("kubelet/logs", Policy::default(), move |_| LogRotation::new(shared.clone(), told.clone(), policy));
    let (shared, policy) = (context.clone(), Arc::new(options.image_policy.clone()));
    let images = system.spawn("kubelet/images", Policy::default(), move |_| ImageCollection::new(shared.clone(), policy.clone()));
    let thresholds = process_thresholds(options, context);
    let processes = (context.clone(), seen.clone(), manifests.clone(), pods.clone());
    system.spawn("kubelet/processes", Policy::default(), move |_| {
        let (context, all, manifests, pods) = processes.clone();
        ProcessEviction::new(context, all, manifests, pods, &thresholds)
    });
    let (shared, told, grace) = (context.clone(), pods.clone(), options.eviction_grace_periods);
    system.spawn("kubelet/eviction", Policy::default(), move |_| {
        let units = Units { pods: told.clone(), logs: logs.clone(), images: images.clone() };
        Eviction::new(shared.clone(), seen.clone(), manifests.clone(), units, monitor.clone(), grace)
    });
    system.spawn("kubelet/runtime", Policy::default(), move |_| RuntimeWatch::new(runtime.clone(), on_change.clone()));
    pods
}

/// Nothing is done where containers have no CPUs of their own.
fn reconcile_cpus(system: &System, options: &KubeletOptions, context: &Arc<NodeContext>, all: &AllPods) {
    let Some((manager, told)) = context.container_manager.cpus().zip(options.container_manager.static_cpus.as_ref()) else { return };
    let (manager, runtime, known, period) = (manager.clone(), context.runtime.clone(), known_pods(all), told.reconcile_period);
    system.spawn("kubelet/cpus", Policy::default(), move |_| CpuReconciler::new(manager.clone(), runtime.clone(), known.clone(), period));
}

/// Lets other programs of the node ask what containers have.
fn tell_pod_resources(system: &System, context: &NodeContext, all: &AllPods, directory: PathBuf) {
    let (all, manager) = (all.clone(), &context.container_manager);
    let sources = Sources {
        pods: Arc::new(move || all().unwrap_or_default()),
        devices: context.device_plugins.clone(),
        cpus: manager.cpus().cloned(),
        memory: manager.memory().cloned(),
        dra: context.dra.clone(),
    };
    system.spawn("kubelet/pod-resources", Policy::default(), move |_| PodResourcesServer::new(directory.clone(), sources.clone()));
}

/// The uids of all pods of this node.
fn known_pods(all: &AllPods) -> KnownPods {
    let all = all.clone();
    Arc::new(move || Some(all()?.iter().filter_map(|pod| pod.metadata.uid.clone()).collect()))
}

fn process_thresholds(options: &KubeletOptions, context: &NodeContext) -> ProcessThresholds {
    let thresholds = options.eviction_thresholds.clone();
    ProcessThresholds {
        // Where nothing bounds them pods have all of the machine's memory.
        thresholds: if options.cgroups_per_qos && options.enforces_pods { with_allocatable(thresholds) } else { thresholds },
        transition: options.eviction_pressure_transition_period,
        grace: options.eviction_grace_periods,
        allocatable: left(context.machine.memory_bytes, options.reserved.memory).unsigned_abs(),
    }
}

/// Plugins need an API server: what they offer is told there, and asked for by its objects.
fn watch_plugins(system: &System, context: &Arc<NodeContext>, all: &AllPods, registry: PathBuf) {
    let (csi, dra, known) = (context.csi.clone(), context.dra.clone(), known_pods(all));
    let (drivers, devices): (Arc<dyn Handler>, Arc<dyn Handler>) = (csi.clone(), dra.clone());
    let handlers = Arc::new(Handlers::from([("CSIPlugin", drivers), (dra::KIND, devices)]));
    system.spawn("kubelet/plugins", Policy::default(), move |_| PluginWatcher::new(registry.clone(), handlers.clone()));
    system.spawn("kubelet/csi", Policy::default(), move |_| CsiReporter::new(csi.clone()));
    system.spawn("kubelet/dra", Policy::default(), move |_| DraReconciler::new(dra.clone(), known.clone()));
}

fn wake_on_change(
    cache: &Cache<Pod>,
    manifests: Manifests,
    pods: UnitAddr<Pods>,
    system: &System,
    tasks: &mut Vec<TaskHandle>,
) -> Arc<Subscription<Pod>> {
    let subscription = Arc::new(cache.subscribe(move |change| {
        let uid = |meta: &MetaProjection| meta.uid.to_string();
        // Another UID under the same name comes as two changes.
        let Some(uid) = change.meta_after().or(change.meta_before()).map(uid) else { return };
        let id = PodIdentity { namespace: change.key.namespace.to_string(), name: change.key.name.to_string(), uid };
        // The worker of a static pod looks at its mirror, which has a UID of its own.
        for mirrored in manifests.named(&id.namespace, &id.name) {
            pods.wake(PodChanged(mirrored), change.cause.clone());
        }
        pods.wake(PodChanged(id), change.cause.clone());
    }));
    let told = subscription.clone();
    tasks.push(system.spawn_task("kubelet/known-pods", move || told.filled()));
    subscription
}
