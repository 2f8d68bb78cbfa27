//! What every unit of this node shares.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::Clock;
use troupe_cri::{
    Runtime, RuntimeFeatures,
    proto::VersionResponse,
    resources::{CpuTime, MachineSize},
};
use troupe_net::cni::links::PodLinks;

use super::{
    admission::{self, NodeAbilities, Pressure, Rejection},
    cgroups::slices::Slices,
    cluster::Cluster,
    container_manager::ContainerManager,
    credentials::{clients::ClientFiles, provider::Providers},
    csi::Csi,
    device_plugins::DevicePlugins,
    dra::Dra,
    events::EventRecorder,
    pod_certificates::PodCertificates,
    pull_records::PullRecords,
    pulls::PullGate,
    resize::Allocations,
    resolv::{ClusterDns, Resolver},
    user_namespaces::UserNamespaces,
    volumes::room::NodeRoom,
    worker::backoff::BackoffPolicy,
};
use crate::network_policy::PodGate;

/// The node's fixed facts and its doors to the outside. Share it by `Arc`.
pub struct NodeContext {
    pub node_name: Arc<str>,
    pub clock: Arc<dyn Clock>,
    pub runtime: Arc<dyn Runtime>,
    /// What the runtime could do when it last answered.
    pub features: ArcSwap<RuntimeFeatures>,
    pub abilities: NodeAbilities,
    pub cluster: Arc<dyn Cluster>,
    /// Knows on which CPUs containers run.
    pub container_manager: ContainerManager,
    /// Ids of pods with users of their own.
    pub user_namespaces: UserNamespaces,
    /// Devices that are counted as resources.
    pub device_plugins: Arc<DevicePlugins>,
    /// Devices of claims.
    pub dra: Arc<Dra>,
    /// Volumes of CSI drivers.
    pub csi: Arc<Csi>,
    /// Knows when a pod may begin to talk.
    pub gate: Arc<dyn PodGate>,
    /// Sets up how pods are linked to the node.
    pub links: Arc<dyn PodLinks>,
    /// Knows when an image may be pulled.
    pub pulls: PullGate,
    /// Configurations of registry clients on this node.
    pub registry_clients: ClientFiles,
    /// Programs that know credentials for images.
    pub credential_providers: Providers,
    /// Knows who pulled the images that are here.
    pub pull_records: PullRecords,
    /// Keys and certificates of pods.
    pub pod_certificates: Arc<PodCertificates>,
    /// How long containers wait that end again and again.
    pub backoff: BackoffPolicy,
    pub events: EventRecorder,
    /// `/var/lib/kubelet`.
    pub root: PathBuf,
    /// Where this node keeps volumes of its own, which outlive pods.
    pub volumes: PathBuf,
    /// `/var/log/pods`.
    pub log_root: PathBuf,
    /// `/var/log/containers`; empty for no symlinks there.
    pub container_log_links: PathBuf,
    /// That holds the pods of this node: a slice where systemd makes cgroups.
    pub cgroup_parent: String,
    /// Leads to systemd.
    pub slices: Slices,
    /// What is promised to pods.
    pub allocations: Allocations,
    pub seccomp_root: String,
    /// Whether containers that ask for no profile get the runtime's own.
    pub seccomp_default: bool,
    /// Whether containers are ended by the signals that they ask for.
    pub stop_signals: bool,
    /// How limits of CPU time bind.
    pub cpu_time: CpuTime,
    pub dns: ClusterDns,
    pub resolver: Resolver,
    pub node_ips: Vec<String>,
    pub machine: MachineSize,
    /// What of it pods may have together, as the node's allocatable says: CPUs, begun ones whole, memory and disk. Containers without limits see
    /// it as theirs.
    pub unreserved: MachineSize,
    /// The sizes of the machine's huge pages, such as `2MB`.
    pub hugepages: Vec<String>,
    /// What of this machine containers do not see beside what they never do.
    pub masked_paths: Vec<String>,
    /// Whether a disk of the node is short of room, or was a moment ago.
    pub disk_pressure: AtomicBool,
    /// The same of its memory.
    pub memory_pressure: AtomicBool,
    /// The same of its process ids.
    pub pid_pressure: AtomicBool,
    /// The machine shuts down: no pod is let in any more.
    pub shutting_down: AtomicBool,
    /// What is written into memory for pods.
    pub written: NodeRoom,
    /// Whether pods' cgroups are limited here.
    pub cgroups_per_qos: bool,
    /// How many processes and threads one pod may have.
    pub pod_max_pids: Option<u32>,
    /// As container ids are prefixed: `containerd`.
    pub runtime_name: String,
    /// The runtime with its version when it last told that, as messages tell it: `containerd 1.6.20`.
    pub runtime_version: ArcSwap<String>,
}

/// A runtime with its version, as messages tell it.
pub fn runtime_version(told: &VersionResponse) -> String {
    format!("{} {}", told.runtime_name, told.runtime_version.trim_start_matches('v'))
}

impl NodeContext {
    /// Where a pod's things lie.
    pub fn paths(&self, uid: &str) -> super::volumes::PodPaths {
        super::volumes::PodPaths::new(&self.root, uid)
    }

    /// Lets a pod in as far as that is known before it takes anything of the node, or says why not.
    ///
    /// # Errors
    /// The first reason.
    pub fn lets_in(&self, pod: &Pod) -> Result<(), Rejection> {
        let holds = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let NodeContext { memory_pressure, disk_pressure, pid_pressure, .. } = self;
        let pressure = Pressure { memory: holds(memory_pressure), disk: holds(disk_pressure), pids: holds(pid_pressure) };
        admission::shutdown(holds(&self.shutting_down))?;
        admission::pressure(pod, pressure)?;
        admission::admit(pod, &self.abilities, &self.features.load())
    }

    /// The addresses of a pod: its sandbox's, or the node's.
    pub fn pod_ips(&self, pod: &Pod, observed: &super::worker::observed::Observed) -> Vec<String> {
        let on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        if on_host {
            self.node_ips.clone()
        } else {
            observed.ready_sandbox().map(|sandbox| in_order(&sandbox.ips, &self.node_ips)).unwrap_or_default()
        }
    }
}

/// A pod's addresses in the order of the cluster's families, which the node's addresses are in. Runtimes put IPv4 first.
pub fn in_order(ips: &[String], node_ips: &[String]) -> Vec<String> {
    let is_ipv6 = |ip: &String| ip.contains(':');
    let usual = node_ips.first().map(is_ipv6);
    let mut ordered = ips.to_vec();
    ordered.sort_by_key(|ip| usual.is_some_and(|usual| is_ipv6(ip) != usual));
    ordered
}
