//! The kubelet: registers the node, runs the pods bound to it, and reports on both.
//!
//! Units, below the path given at the start: `pods` keeps a [`worker::shell::PodWorker`] for each pod, `runtime`
//! watches the container runtime and wakes the workers whose containers changed, `node` speaks for the node.

pub mod certificates;
pub mod cgroups;
pub mod cluster;
pub mod context;
pub mod env;
pub mod events;
pub mod handle;
pub mod images;
pub mod manifests;
pub mod metrics;
pub mod node;
pub mod options;
pub mod pods;
pub mod probes;
pub mod relist;
pub mod resolv;
pub mod rotation;
pub mod server;
pub mod stats;
pub mod status;
pub mod trail;
pub mod volumes;
pub mod worker;

#[cfg(test)]
mod tests;

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, Service};
use thiserror::Error;
use troupe_api::{
    client::Client,
    meta::{FieldSelector, ObjectKey},
    service::WatchOptions,
};
use troupe_cri::{names::PodIdentity, proto::VersionResponse, resources::MachineSize};

use self::{
    cluster::{ApiCluster, Cluster, NoCluster},
    context::NodeContext,
    events::EventRecorder,
    manifests::Manifests,
    metrics::MeteredRuntime,
    node::{NodeFacts, NodeReporter, facts::MachineFacts},
    pods::{AllPods, PodChanged, Pods, RuntimeChanged},
    relist::RuntimeWatch,
    resolv::{ClusterDns, Resolver},
    rotation::LogRotation,
    worker::shell::PodSource,
};
pub use self::{handle::KubeletHandle, options::KubeletOptions};
use crate::runtime::{
    cache::{Cache, Lister, Subscription, reflect},
    host::UnitAddr,
    system::{System, TaskHandle},
    unit::Policy,
};

/// How long the runtime may take to answer at the start.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(60);

/// Why a kubelet does not start.
#[derive(Debug, Error)]
pub enum KubeletError {
    #[error("the container runtime does not answer: {0}")]
    Runtime(troupe_cri::CriError),
    #[error("cannot make {path}: {source}")]
    Directory { path: PathBuf, source: io::Error },
}

/// A running kubelet. Its units live on in the system until they are stopped there; what feeds them ends with this.
pub struct Kubelet {
    handle: KubeletHandle,
    pods: Option<Cache<Pod>>,
    _subscription: Option<Subscription<Pod>>,
    _tasks: Vec<TaskHandle>,
}

impl Kubelet {
    /// Starts the kubelet's units below `kubelet/` in `system`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the runtime does not answer within a minute, or directories cannot be made.
    pub async fn start(options: KubeletOptions, system: &System) -> Result<Kubelet, KubeletError> {
        for path in [&options.root_dir, &options.root_dir.join("pods"), &options.log_dir] {
            fs::create_dir_all(path).map_err(|source| KubeletError::Directory { path: path.clone(), source })?;
        }
        let version = reach_runtime(&options).await?;
        let machine = MachineFacts::read();
        let mut tasks = Vec::new();
        let services = service_lister(&options, system, &mut tasks);
        let context = Arc::new(context(&options, system, &version, &machine, services));
        let manifests = Manifests::new(options.static_pod_dir.clone(), context.node_name.clone());
        let cache = options.client.as_ref().map(|client| pod_cache(client, &context.node_name, system, &mut tasks));
        let (all, source) = (all_pods(cache.clone(), manifests.clone()), pod_source(cache.clone(), manifests.clone()));
        let pods = spawn_units(system, &context, &all, &source);
        if let Some(client) = &options.client {
            let facts = node_facts(&options, &version, machine);
            let (context, client) = (context.clone(), client.clone());
            let facts = Arc::new(facts);
            system.spawn("kubelet/node", Policy::default(), move |_| NodeReporter::new(context.clone(), client.clone(), facts.clone()));
        }
        manifests.follow(system, pods.clone(), options.client.clone(), &mut tasks);
        let subscription = cache.as_ref().map(|cache| wake_on_change(cache, pods));
        Ok(Kubelet { handle: KubeletHandle::new(context, all), pods: cache, _subscription: subscription, _tasks: tasks })
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

async fn reach_runtime(options: &KubeletOptions) -> Result<VersionResponse, KubeletError> {
    let deadline = tokio::time::Instant::now() + RUNTIME_PATIENCE;
    loop {
        match options.runtime.version().await {
            Ok(version) => return Ok(version),
            Err(error) if tokio::time::Instant::now() > deadline => return Err(KubeletError::Runtime(error)),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn service_lister(options: &KubeletOptions, system: &System, tasks: &mut Vec<TaskHandle>) -> Option<Lister<Service>> {
    if let Some(services) = &options.services {
        return Some(services.clone());
    }
    let client = options.client.clone()?;
    let cache = Cache::<Service>::default();
    let fed = cache.clone();
    tasks.push(system.spawn_task("kubelet/services", move || reflect(client.all::<Service>(), WatchOptions::default(), fed.clone())));
    Some(cache)
}

fn pod_cache(client: &Client, node: &str, system: &System, tasks: &mut Vec<TaskHandle>) -> Cache<Pod> {
    let cache = Cache::<Pod>::default();
    let fields = FieldSelector::parse(&format!("spec.nodeName={node}")).expect("a node's name is a valid field value");
    let (client, fed) = (client.clone(), cache.clone());
    let options = WatchOptions { fields, ..WatchOptions::default() };
    tasks.push(system.spawn_task("kubelet/watch", move || reflect(client.all::<Pod>(), options.clone(), fed.clone())));
    cache
}

fn context(
    options: &KubeletOptions,
    system: &System,
    version: &VersionResponse,
    machine: &MachineFacts,
    services: Option<Lister<Service>>,
) -> NodeContext {
    let node_name: Arc<str> = options.node_name.as_str().into();
    let listed = move || services.as_ref().map(|services| services.list("")).unwrap_or_default();
    let (cluster, events): (Arc<dyn Cluster>, _) = match &options.client {
        Some(client) => (Arc::new(ApiCluster::new(client.clone(), Arc::new(listed))), EventRecorder::start(system, client, &node_name)),
        None => (Arc::new(NoCluster), EventRecorder::nowhere()),
    };
    NodeContext {
        node_name,
        runtime: Arc::new(MeteredRuntime::new(options.runtime.clone())),
        cluster,
        events,
        root: options.root_dir.clone(),
        log_root: options.log_dir.clone(),
        container_log_links: options.container_log_dir.clone(),
        cgroup_root: options.cgroup_root.clone(),
        seccomp_root: options.root_dir.join("seccomp").display().to_string(),
        dns: ClusterDns { servers: options.cluster_dns.iter().map(ToString::to_string).collect(), domain: options.cluster_domain.clone() },
        resolver: Resolver::parse(&fs::read_to_string(&options.resolv_conf).unwrap_or_default()),
        node_ips: options.node_ips.iter().map(ToString::to_string).collect(),
        machine: MachineSize { cpus: machine.cpus, memory_bytes: machine.memory_bytes },
        runtime_name: version.runtime_name.clone(),
    }
}

fn node_facts(options: &KubeletOptions, version: &VersionResponse, machine: MachineFacts) -> NodeFacts {
    NodeFacts {
        labels: options.labels.clone(),
        port: options.port,
        max_pods: options.max_pods,
        kubelet_version: options.kubelet_version.clone(),
        runtime_version: format!("{}://{}", version.runtime_name, version.runtime_version.trim_start_matches('v')),
        machine,
        heartbeat: options.heartbeat,
    }
}

/// All pods of this node; unknown until the first list is in.
fn all_pods(cache: Option<Cache<Pod>>, manifests: Manifests) -> AllPods {
    Arc::new(move || {
        let mut all = manifests.pods()?;
        match &cache {
            Some(cache) if !cache.is_synced() => return None,
            Some(cache) => all.extend(cache.list("").into_iter().filter(|pod| !manifests::is_mirror(pod))),
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
            None => cached.filter(|pod| pod.metadata.uid.as_deref() == Some(&id.uid)),
        }
    })
}

fn spawn_units(system: &System, context: &Arc<NodeContext>, all: &AllPods, source: &PodSource) -> UnitAddr<Pods> {
    let (shared, all, source) = (context.clone(), all.clone(), source.clone());
    let pods = system.spawn("kubelet/pods", Policy::default(), move |_| Pods::new(shared.clone(), all.clone(), source.clone()));
    let (runtime, told) = (context.runtime.clone(), pods.clone());
    let on_change: relist::OnChange = Arc::new(move |changed| told.wake(RuntimeChanged(changed), Default::default()));
    let logs = context.clone();
    system.spawn("kubelet/logs", Policy::default(), move |_| LogRotation::new(logs.clone()));
    system.spawn("kubelet/runtime", Policy::default(), move |_| RuntimeWatch::new(runtime.clone(), on_change.clone()));
    pods
}

fn wake_on_change(cache: &Cache<Pod>, pods: UnitAddr<Pods>) -> Subscription<Pod> {
    cache.subscribe(move |change| {
        let touched = change.old.iter().chain(&change.new).map(|pod| PodIdentity::of(pod));
        let mut told = std::collections::BTreeSet::new();
        for id in touched.filter(|id| told.insert(id.clone())) {
            pods.wake(PodChanged(id), change.cause.clone());
        }
    })
}
