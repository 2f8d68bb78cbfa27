//! How a kubelet is started.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Service};
use troupe_api_client::Client;
use troupe_cri::{Runtime, resources::CpuTime};
use troupe_net::cni::links::{NoPodLinks, PodLinks};

use super::{
    cgroups::driver::CgroupDriver,
    container_manager::ContainerManagerOptions,
    credentials::{clients::ClientFiles, provider::ProviderFiles},
    eviction::{GracePeriods, settings::EvictionSettings, signals::Threshold},
    image_collection::plan::ImagePolicy,
    manifests::PodUrl,
    node::{NodeStatusOptions, Registration, reserved::Reserved},
    node_shutdown::ShutdownSettings,
    pull_records::Verification,
    pulls::PullPolicy,
    rotation::plan::LogPolicy,
    user_namespaces::ids,
    worker::backoff::BackoffPolicy,
};
use crate::{
    network_policy::{OpenGate, PodGate},
    runtime::{
        cache::{Caches, Lister},
        token_bucket::Rate,
    },
};

/// Everything a kubelet is told from outside.
#[derive(Clone)]
pub struct KubeletOptions {
    pub node_name: String,
    /// Acts as `system:node:<name>`. Without one the node runs alone, on its manifests.
    pub client: Option<Client>,
    /// Where the kubelet's own caches belong, its pods among them; it makes some of its client where none are given.
    pub caches: Option<Caches>,
    /// All services, for pods' environments; the kubelet watches them itself where none is given.
    pub services: Option<Lister<Service>>,
    /// All nodes, of which one is this, for what pods may run on it; where none are given it is as this machine makes it.
    pub nodes: Option<Lister<Node>>,
    /// Knows when a pod may begin to talk. [default: at once]
    pub gate: Arc<dyn PodGate>,
    /// Sets up how pods are linked to the node. [default: as the network plugins made it]
    pub links: Arc<dyn PodLinks>,
    pub runtime: Arc<dyn Runtime>,
    /// [default: `/var/lib/kubelet`]
    pub root_dir: PathBuf,
    /// Where volumes lie that are made on this node for claims. [default: `/var/lib/troupe/volumes`]
    pub volumes_dir: PathBuf,
    /// [default: `/var/log/pods`]
    pub log_dir: PathBuf,
    /// Symlinks for log collectors; empty for none. [default: `/var/log/containers`]
    pub container_log_dir: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The resolver configuration that pods inherit. [default: `/etc/resolv.conf`]
    pub resolv_conf: PathBuf,
    /// The cgroup that holds the pods of this node and nothing else. [default: `kubepods`]
    pub cgroup_parent: String,
    /// Who makes cgroups, where the runtime does not say. [default: the kubelet]
    pub cgroup_driver: CgroupDriver,
    pub node_ips: Vec<IpAddr>,
    pub max_pods: u32,
    /// How many ids a pod with users of its own has. [default: 65536]
    pub user_ids_per_pod: u32,
    /// Whether pods' cgroups are made and limited here; else the runtime makes them, without limits. [default: yes]
    pub cgroups_per_qos: bool,
    /// Processes and threads that one pod may have; `None` for as many as the machine. [default: 4096]
    pub pod_max_pids: Option<u32>,
    /// When images that nobody uses are removed.
    pub image_policy: ImagePolicy,
    /// How many images are pulled at once, and how often. [default: as pods ask for them]
    pub pull_policy: PullPolicy,
    /// Whose credentials are looked at before a pod uses an image that is here. [default: those for images that were pulled]
    pub pull_verification: Verification,
    /// Configurations of registry clients on this node. [default: none]
    pub registry_clients: ClientFiles,
    /// Programs that know credentials for images. [default: none]
    pub credential_providers: Option<ProviderFiles>,
    /// Whether volumes get certificates for their pods (KEP-4317). [default: no]
    pub pod_certificates: bool,
    /// How often events are written; `None` for as they come. [default: as they come]
    pub event_rate: Option<Rate>,
    /// How much of their logs containers keep.
    pub log_policy: LogPolicy,
    /// How long containers wait that end again and again. [default: 5 min at most]
    pub backoff: BackoffPolicy,
    /// What of the machine is kept for others than pods.
    pub reserved: Reserved,
    /// Whether what all pods use together is bounded by that. [default: yes]
    pub enforces_pods: bool,
    /// Which containers have CPUs of their own. [default: none]
    pub container_manager: ContainerManagerOptions,
    /// What the node is when it registers.
    pub registration: Registration,
    /// How often its status is looked at, and what it lists.
    pub node_status: NodeStatusOptions,
    /// Kernel parameters that pods may set beside the safe ones: names, or beginnings ending in `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Whether containers that ask for no seccomp profile get the runtime's own. [default: false]
    pub seccomp_default: bool,
    /// Whether containers are ended by the signals that they ask for (KEP-4960). [default: false]
    pub stop_signals: bool,
    /// Whether tolerations compare numbers (KEP-5471). [default: false]
    pub compares_tolerations: bool,
    /// How limits of CPU time bind. [default: in periods of 100 ms]
    pub cpu_time: CpuTime,
    /// Whether burstable pods may swap, by their part of the machine's memory. [default: nobody does]
    pub limited_swap: bool,
    /// Whether all processes of a container are killed when one is for want of memory; with cgroups of the second version only. [default: yes]
    pub kills_group: bool,
    /// How long pods have when the machine shuts down. [default: they end with it]
    pub shutdown: ShutdownSettings,
    /// Below these pods are evicted. [default: upstream's]
    pub eviction_thresholds: Vec<Threshold>,
    /// How long pressure counts after its cause is gone. [default: 5 min]
    pub eviction_pressure_transition_period: Duration,
    /// How long pods may take to end that are evicted by soft thresholds. [default: a second]
    pub eviction_grace_periods: GracePeriods,
    pub labels: BTreeMap<String, String>,
    /// Where the kubelet's server listens, as the node's status tells.
    pub port: u16,
    /// Where this machine's other daemons listen: no pod gets a port of theirs.
    pub listeners: Vec<SocketAddr>,
    /// How often the node's lease is renewed, which holds for four times as long. [default: 10 s]
    pub heartbeat: Duration,
    /// Pods from files, where set.
    pub static_pod_dir: Option<PathBuf>,
    /// Pods that a server has, where set.
    pub static_pod_url: Option<PodUrl>,
    /// As nodeInfo shows it.
    pub kubelet_version: String,
}

impl KubeletOptions {
    /// The defaults of a node with this name on this runtime.
    pub fn new(node_name: impl Into<String>, runtime: Arc<dyn Runtime>) -> Self {
        KubeletOptions {
            node_name: node_name.into(),
            client: None,
            caches: None,
            services: None,
            nodes: None,
            gate: Arc::new(OpenGate),
            links: Arc::new(NoPodLinks),
            runtime,
            root_dir: "/var/lib/kubelet".into(),
            volumes_dir: "/var/lib/troupe/volumes".into(),
            log_dir: "/var/log/pods".into(),
            container_log_dir: "/var/log/containers".into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            cgroup_parent: "kubepods".into(),
            cgroup_driver: CgroupDriver::default(),
            node_ips: Vec::new(),
            max_pods: 110,
            user_ids_per_pod: ids::USUAL,
            cgroups_per_qos: true,
            pod_max_pids: Some(4096),
            allowed_unsafe_sysctls: Vec::new(),
            seccomp_default: false,
            stop_signals: false,
            compares_tolerations: false,
            cpu_time: CpuTime::default(),
            limited_swap: false,
            kills_group: true,
            shutdown: ShutdownSettings::default(),
            eviction_thresholds: EvictionSettings::default().thresholds().expect("the defaults are thresholds"),
            eviction_pressure_transition_period: Duration::from_secs(300),
            eviction_grace_periods: GracePeriods::default(),
            image_policy: ImagePolicy::default(),
            pull_policy: PullPolicy::default(),
            pull_verification: Verification::default(),
            registry_clients: ClientFiles::default(),
            credential_providers: None,
            pod_certificates: false,
            event_rate: None,
            log_policy: LogPolicy::default(),
            backoff: BackoffPolicy::default(),
            reserved: Reserved::default(),
            enforces_pods: true,
            container_manager: ContainerManagerOptions::default(),
            registration: Registration::default(),
            node_status: NodeStatusOptions::default(),
            labels: BTreeMap::new(),
            port: 10250,
            listeners: Vec::new(),
            heartbeat: Duration::from_secs(10),
            static_pod_dir: None,
            static_pod_url: None,
            kubelet_version: format!("v1.36.0+troupe.{}", env!("CARGO_PKG_VERSION")),
        }
    }
}
