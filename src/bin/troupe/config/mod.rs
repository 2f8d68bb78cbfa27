//! What can be set about a cluster on this machine: defaults, then the configuration file, then flags.

mod api_settings;
mod check;
mod cni;
mod controllers;
mod effect;
mod eviction;
mod families;
mod flags;
mod kubelet;
mod machine;
mod merge;
mod resolve;
mod seconds;
mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnetwork::IpNetwork;
use jiff::SignedDuration;
use troupe_actors::{
    controllers::{node_ipam::ClusterRange, service_lb::Pool},
    kubelet::{configuration::KubeletConfiguration, credentials::provider::ProviderFiles, image_collection::plan::ImagePolicy},
};
use troupe_api_server::audit::LogOptions;
use troupe_net::{
    cni::{BANDWIDTH, Network},
    conntrack_settings::ConntrackSettings,
    iptables::Family,
};

pub use self::{
    api_settings::{ApiSettings, ControllerSettings},
    check::port_range,
    cni::Cni,
    controllers::is_known as is_known_controller,
    effect::{Part, flag, refuse_without_effect, takes},
    eviction::EvictionConfig,
    families::{OfFamily, PerFamily},
    flags::flag_value,
    machine::{addresses as machine_addresses, cni_bin_dir},
    settings::Settings,
};
use crate::state::EtcdConfig;

/// What is recorded of requests, and where.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// Nowhere where it only goes to a webhook.
    pub log: Option<LogOptions>,
    pub policy_file: Option<PathBuf>,
}

/// Settings with every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The id of the instance that this is about, once it is known; it marks what is made of it.
    pub instance: String,
    /// Flags of the command that started this that are no settings, without their dashes, such as `components`.
    pub of_command: BTreeMap<String, String>,
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub kubeconfig: PathBuf,
    /// Where the state lies, if not in the data directory.
    pub etcd: Option<EtcdConfig>,
    /// The authorities of kubelets' certificates, where the cluster's own is not.
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Megabytes that old versions may take in the embedded store, where that is said.
    pub store_history_megabytes: Option<u64>,
    pub certificates_dir: PathBuf,
    pub certificate_validity: Duration,
    pub cluster_signing_duration: SignedDuration,
    pub bind_address: IpAddr,
    pub advertise_address: IpAddr,
    pub cert_sans: Vec<String>,
    pub api_port: u16,
    pub api_servers: Vec<String>,
    pub component_port: Option<u16>,
    /// Addresses of Services of type LoadBalancer.
    pub load_balancer_pool: Option<Pool>,
    /// Whether it is asked who has them before they are announced.
    pub load_balancer_conflict_detection: bool,
    pub kubelet_port: u16,
    /// Where the service proxy tells its health, if it does.
    pub proxy_healthz_bind_address: Option<SocketAddr>,
    /// Where it tells its metrics and its mode, if it does.
    pub proxy_metrics_bind_address: Option<SocketAddr>,
    /// What the service proxy asks of the kernel's connection tracking.
    pub conntrack: ConntrackSettings,
    /// The addresses that other machines know this one by; the first is the one to name where there is room for one.
    pub node_ips: PerFamily<IpAddr>,
    pub node_name: String,
    pub service_cidr: PerFamily<IpNetwork>,
    pub pod_cidr: PerFamily<IpNetwork>,
    /// The same ranges of pods, with the size of nodes' parts.
    pub node_ranges: Vec<ClusterRange>,
    pub cluster_domain: String,
    pub cluster_dns: IpAddr,
    pub container_runtime_endpoint: Option<PathBuf>,
    pub image_dir: Option<PathBuf>,
    pub kubelet_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    pub cni_conf_dir: PathBuf,
    /// Who makes the pods' network.
    pub cni: Cni,
    /// Networks that pods reach under their own addresses, beside those of pods.
    pub non_masquerade_cidrs: Vec<IpNetwork>,
    pub bridge: String,
    pub cgroup_parent: String,
    pub pod_max_pids: Option<u32>,
    pub eviction: EvictionConfig,
    /// What the kubelet's own files say, and where, and all that holds for it.
    pub kubelet_config: Option<PathBuf>,
    pub kubelet_config_dir: Option<PathBuf>,
    pub kubelet: KubeletConfiguration,
    pub image_policy: ImagePolicy,
    /// Programs that know credentials for images, where there are some.
    pub image_credential_providers: Option<ProviderFiles>,
    pub allowed_unsafe_sysctls: Vec<String>,
    pub manifests_dir: PathBuf,
    /// The configuration of admission plugins, where there is one.
    pub admission_control_config_file: Option<PathBuf>,
    /// The configuration of the scheduler, where there is one.
    pub scheduler_config: Option<PathBuf>,
    pub audit: Option<AuditConfig>,
    pub api: ApiSettings,
    pub controllers: ControllerSettings,
    /// What this node labels itself with beside what every node has.
    pub node_labels: BTreeMap<String, String>,
    /// Between signs of life of this node, where that is said.
    pub node_heartbeat: Option<Duration>,
    pub node_monitor_grace_period: Duration,
}

impl Config {
    /// The TCP ports at which the cluster's daemons listen on a node.
    pub fn daemon_ports(&self) -> BTreeSet<u16> {
        let told = [self.proxy_healthz_bind_address, self.proxy_metrics_bind_address].into_iter().flatten().map(|address| address.port());
        told.chain([self.api_port, self.kubelet_port]).collect()
    }

    /// The pid file of the running `troupe up`.
    pub fn pid_file(&self) -> PathBuf {
        self.run_dir.join("troupe.pid")
    }

    /// The pid of the process here that has the cluster's state open: `troupe up` or a control plane.
    pub fn serving_pid(&self) -> Option<i32> {
        [self.pid_file(), self.daemon_pid_file("troupe-control-plane")].iter().find_map(|file| crate::instance::running(file))
    }

    /// Where a detached `troupe up` logs.
    pub fn log_file(&self) -> PathBuf {
        self.data_dir.join("troupe.log")
    }

    /// A kubeconfig beside the administrator's, such as `node.kubeconfig`.
    pub fn kubeconfig_beside(&self, name: &str) -> PathBuf {
        self.kubeconfig.with_file_name(name)
    }

    /// The pid file of a daemon, such as `troupe-node`.
    pub fn daemon_pid_file(&self, daemon: &str) -> PathBuf {
        self.run_dir.join(format!("{daemon}.pid"))
    }

    /// The pod network of a node with the pods of `ranges`.
    pub fn pod_network(&self, ranges: Vec<IpNetwork>) -> Network {
        let bandwidth = cni_bin_dir().join(BANDWIDTH).is_file();
        Network { bridge: self.bridge.clone(), data_dir: self.data_dir.join("cni"), bandwidth, ..Network::new(ranges) }
    }

    /// The layout of a containerd of our own.
    pub fn containerd(&self) -> crate::containerd::ContainerdLayout {
        crate::containerd::ContainerdLayout {
            instance: self.instance.clone(),
            root: self.data_dir.join("containerd"),
            state: self.run_dir.join("containerd"),
            cni_conf_dir: self.cni_conf_dir.clone(),
            cni_bin_dir: cni_bin_dir(),
            pause_image: crate::images::PAUSE_IMAGE.into(),
        }
    }

    /// The first Service address, which `default/kubernetes` has.
    pub fn kubernetes_service_ip(&self) -> IpAddr {
        let range = self.service_cidr.first();
        families::nth(range, 1).unwrap_or_else(|| range.ip())
    }

    /// The families of the cluster's addresses, the usual one first.
    pub fn families(&self) -> Vec<Family> {
        self.service_cidr.families()
    }

    /// The first address of this node.
    pub fn node_ip(&self) -> IpAddr {
        self.node_ips.first()
    }

    /// What stands for all addresses of this machine when something listens.
    pub fn every_address(&self) -> IpAddr {
        every_address(&self.families())
    }

    /// The loopback addresses of the cluster's families; IPv4's is one everywhere.
    pub fn loopback(&self) -> Vec<IpAddr> {
        let ipv6 = self.families().contains(&Family::V6).then_some(Ipv6Addr::LOCALHOST.into());
        [Ipv4Addr::LOCALHOST.into()].into_iter().chain(ipv6).collect()
    }
}

/// All addresses of a machine: those of IPv6 stand for both families.
fn every_address(families: &[Family]) -> IpAddr {
    if families.contains(&Family::V6) { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}
