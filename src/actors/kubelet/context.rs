//! What every unit of this node shares.

use std::{path::PathBuf, sync::Arc};

use troupe_cri::{Runtime, resources::MachineSize};

use super::{
    cluster::Cluster,
    events::EventRecorder,
    resolv::{ClusterDns, Resolver},
};

/// The node's fixed facts and its doors to the outside. Share it by `Arc`.
pub struct NodeContext {
    pub node_name: Arc<str>,
    pub runtime: Arc<dyn Runtime>,
    pub cluster: Arc<dyn Cluster>,
    pub events: EventRecorder,
    /// `/var/lib/kubelet`.
    pub root: PathBuf,
    /// `/var/log/pods`.
    pub log_root: PathBuf,
    /// `/var/log/containers`; empty for no symlinks there.
    pub container_log_links: PathBuf,
    pub cgroup_root: String,
    pub seccomp_root: String,
    pub dns: ClusterDns,
    pub resolver: Resolver,
    pub node_ips: Vec<String>,
    pub machine: MachineSize,
    /// As container ids are prefixed: `containerd`.
    pub runtime_name: String,
}

impl NodeContext {
    /// Where a pod's things lie.
    pub fn paths(&self, uid: &str) -> super::volumes::PodPaths {
        super::volumes::PodPaths::new(&self.root, uid)
    }

    /// The addresses of a pod: its sandbox's, or the node's.
    pub fn pod_ips(&self, pod: &k8s_openapi::api::core::v1::Pod, observed: &super::worker::observed::Observed) -> Vec<String> {
        let on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        if on_host { self.node_ips.clone() } else { observed.ready_sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default() }
    }
}
