//! What can be set about a cluster on this machine: defaults, then the configuration file, then flags.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use ipnetwork::Ipv4Network;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use troupe_actors::controllers::{certificates::LASTS, node_lifecycle::GRACE};
use troupe_api::{audit::LogOptions, auth::pki::LEAF_VALIDITY};
use troupe_net::cni::Network;

use crate::state::EtcdConfig;

/// The configuration file read when it exists and no other is named.
pub const DEFAULT_FILE: &str = "/etc/troupe/config.yaml";
const API_VERSION: &str = "troupe.dev/v1alpha1";
const KIND: &str = "TroupeConfiguration";

/// Settings as the file and the flags give them: everything optional.
#[derive(Clone, Debug, Default, Args, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Where the cluster's state lives [default: /var/lib/troupe]
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Where sockets and pid files live [default: /run/troupe]
    #[arg(long)]
    pub run_dir: Option<PathBuf>,
    /// Where the admin kubeconfig is written [default: /etc/troupe/admin.kubeconfig]
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// URLs of etcd's members, to keep the cluster's state there instead of in the data directory
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Option<Vec<String>>,
    /// The CA of etcd's certificates
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate to show to etcd
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    /// Where the cluster's certificates and keys are [default: pki in the data directory]
    #[arg(long)]
    pub certificates_dir: Option<PathBuf>,
    /// Seconds that certificates made on this machine last; they are made again in time [default: a year]
    #[arg(long)]
    pub certificate_validity: Option<u64>,
    /// Seconds that certificates signed by the CSR API last at most [default: a year]
    #[arg(long)]
    pub cluster_signing_duration: Option<u64>,
    /// The address the API server listens on [default: all]
    #[arg(long)]
    pub bind_address: Option<IpAddr>,
    /// The address the API server tells others to reach it at [default: the node's]
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// Further names and addresses for the API server's certificate
    #[arg(long, value_delimiter = ',')]
    pub cert_sans: Option<Vec<String>>,
    /// Port of the API server [default: 6443]
    #[arg(long)]
    pub api_port: Option<u16>,
    /// API servers (https://host:port) to use in place of the kubeconfig's: whichever answers
    #[arg(long, value_delimiter = ',')]
    pub api_servers: Option<Vec<String>>,
    /// Port of a control plane that has no API server [default: 10257 with controllers, else 10259; a free one where that is taken]
    #[arg(long)]
    pub component_port: Option<u16>,
    /// Port of the kubelet [default: 10250]
    #[arg(long)]
    pub kubelet_port: Option<u16>,
    /// The address other machines reach this one at [default: that of the default route]
    #[arg(long)]
    pub node_ip: Option<IpAddr>,
    /// This node's name [default: the host name]
    #[arg(long)]
    pub node_name: Option<String>,
    /// Addresses of Services [default: 10.96.0.0/16]
    #[arg(long)]
    pub service_cidr: Option<Ipv4Network>,
    /// Addresses of pods [default: 10.244.0.0/16]
    #[arg(long)]
    pub pod_cidr: Option<Ipv4Network>,
    /// The cluster's DNS domain [default: cluster.local]
    #[arg(long)]
    pub cluster_domain: Option<String>,
    /// The address of the cluster's DNS [default: the tenth Service address]
    #[arg(long)]
    pub cluster_dns: Option<Ipv4Addr>,
    /// The runtime's socket [default: a running containerd, else one of our own]
    #[arg(long)]
    pub container_runtime_endpoint: Option<PathBuf>,
    /// Archives of images to import when the runtime lacks them
    #[arg(long)]
    pub image_dir: Option<PathBuf>,
    /// The kubelet's directory [default: /var/lib/kubelet]
    #[arg(long)]
    pub kubelet_dir: Option<PathBuf>,
    /// Where pods' logs are kept [default: /var/log/pods]
    #[arg(long)]
    pub pod_logs_dir: Option<PathBuf>,
    /// Where CNI configurations are kept [default: /etc/cni/net.d]
    #[arg(long)]
    pub cni_conf_dir: Option<PathBuf>,
    /// Name of the pods' bridge [default: troupe0]
    #[arg(long)]
    pub bridge: Option<String>,
    /// The cgroup that pods' cgroups are made in [default: kubepods]
    #[arg(long)]
    pub cgroup_parent: Option<String>,
    /// Folder of static pod manifests [default: /etc/troupe/manifests]
    #[arg(long)]
    pub manifests_dir: Option<PathBuf>,
    /// Seconds between signs of life of this node [default: 10]
    #[arg(long)]
    pub node_heartbeat: Option<u64>,
    /// Seconds after which a silent node counts as lost [default: 50]
    #[arg(long)]
    pub node_monitor_grace_period: Option<u64>,
    /// Record requests to this file; "-" is the standard output
    #[arg(long)]
    pub audit_log_path: Option<PathBuf>,
    /// An audit.k8s.io/v1 Policy: which requests are recorded, and how much of them
    #[arg(long)]
    pub audit_policy_file: Option<PathBuf>,
    /// Megabytes before the audit log is set aside [default: 100]
    #[arg(long)]
    pub audit_log_maxsize: Option<u64>,
    /// How many old audit logs are kept [default: all]
    #[arg(long)]
    pub audit_log_maxbackup: Option<usize>,
    /// Days that old audit logs are kept [default: for ever]
    #[arg(long)]
    pub audit_log_maxage: Option<u64>,
}

/// What is recorded of requests, and where.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    pub log: LogOptions,
    pub policy_file: Option<PathBuf>,
}

/// Settings with every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub kubeconfig: PathBuf,
    /// Where the state lies, if not in the data directory.
    pub etcd: Option<EtcdConfig>,
    pub certificates_dir: PathBuf,
    pub certificate_validity: Duration,
    pub cluster_signing_duration: SignedDuration,
    pub bind_address: IpAddr,
    pub advertise_address: IpAddr,
    pub cert_sans: Vec<String>,
    pub api_port: u16,
    pub api_servers: Vec<String>,
    pub component_port: Option<u16>,
    pub kubelet_port: u16,
    pub node_ip: IpAddr,
    pub node_name: String,
    pub service_cidr: Ipv4Network,
    pub pod_cidr: Ipv4Network,
    pub cluster_domain: String,
    pub cluster_dns: Ipv4Addr,
    pub container_runtime_endpoint: Option<PathBuf>,
    pub image_dir: Option<PathBuf>,
    pub kubelet_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    pub cni_conf_dir: PathBuf,
    pub bridge: String,
    pub cgroup_parent: String,
    pub manifests_dir: PathBuf,
    pub audit: Option<AuditConfig>,
    pub node_heartbeat: Duration,
    pub node_monitor_grace_period: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileHead {
    api_version: String,
    kind: String,
    #[serde(flatten)]
    rest: serde_norway::Mapping,
}

impl Settings {
    /// Reads a configuration file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no usable configuration", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let head: FileHead = serde_norway::from_str(text)?;
        if head.api_version != API_VERSION || head.kind != KIND {
            bail!("it is {} {}, but this troupe reads {API_VERSION} {KIND}", head.api_version, head.kind);
        }
        Ok(serde_norway::from_value(serde_norway::Value::Mapping(head.rest))?)
    }

    /// These settings where they are set, else those of `fallback`.
    fn or(self, fallback: Settings) -> Settings {
        macro_rules! either {
            ($($field:ident),*) => { Settings { $($field: self.$field.or(fallback.$field)),* } };
        }
        either!(
            data_dir,
            run_dir,
            kubeconfig,
            etcd_servers,
            etcd_cafile,
            etcd_certfile,
            etcd_keyfile,
            certificates_dir,
            certificate_validity,
            cluster_signing_duration,
            bind_address,
            advertise_address,
            cert_sans,
            api_port,
            api_servers,
            component_port,
            kubelet_port,
            node_ip,
            node_name,
            service_cidr,
            pod_cidr,
            cluster_domain,
            cluster_dns,
            container_runtime_endpoint,
            image_dir,
            kubelet_dir,
            pod_logs_dir,
            cni_conf_dir,
            bridge,
            cgroup_parent,
            manifests_dir,
            audit_log_path,
            audit_policy_file,
            audit_log_maxsize,
            audit_log_maxbackup,
            audit_log_maxage,
            node_heartbeat,
            node_monitor_grace_period
        )
    }

    /// Fills in the file's settings and the defaults.
    ///
    /// # Errors
    /// When the file is unusable, or when a default (node address, host name) cannot be found out.
    pub fn resolve(self, file: Option<&Path>) -> Result<Config> {
        let settings = match file {
            Some(path) => self.or(Settings::from_file(path)?),
            None if Path::new(DEFAULT_FILE).exists() => self.or(Settings::from_file(Path::new(DEFAULT_FILE))?),
            None => self,
        };
        let path = |setting: Option<PathBuf>, default: &str| setting.unwrap_or_else(|| default.into());
        let service_cidr = settings.service_cidr.map_or_else(|| "10.96.0.0/16".parse(), Ok).context("the default parses")?;
        let cluster_dns = match settings.cluster_dns {
            Some(ip) => ip,
            None => service_cidr.nth(10).context("the Service range is too small for a DNS address")?,
        };
        let audit = settings.audit_log_path.map(|path| AuditConfig {
            log: LogOptions {
                path,
                max_size: settings.audit_log_maxsize.unwrap_or(0),
                max_backups: settings.audit_log_maxbackup.unwrap_or(0),
                max_age: settings.audit_log_maxage.unwrap_or(0),
            },
            policy_file: settings.audit_policy_file,
        });
        let data_dir = path(settings.data_dir, "/var/lib/troupe");
        let node_ip = settings.node_ip.map_or_else(default_node_ip, Ok)?;
        Ok(Config {
            run_dir: path(settings.run_dir, "/run/troupe"),
            kubeconfig: path(settings.kubeconfig, "/etc/troupe/admin.kubeconfig"),
            etcd: etcd(settings.etcd_servers, [settings.etcd_cafile, settings.etcd_certfile, settings.etcd_keyfile])?,
            certificates_dir: settings.certificates_dir.unwrap_or_else(|| data_dir.join("pki")),
            certificate_validity: settings.certificate_validity.map_or(LEAF_VALIDITY, Duration::from_secs),
            cluster_signing_duration: settings.cluster_signing_duration.map_or(Ok(LASTS), signed).context("certificates cannot last so long")?,
            bind_address: settings.bind_address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            advertise_address: settings.advertise_address.unwrap_or(node_ip),
            cert_sans: settings.cert_sans.unwrap_or_default(),
            api_port: settings.api_port.unwrap_or(6443),
            api_servers: settings.api_servers.unwrap_or_default(),
            component_port: settings.component_port,
            kubelet_port: settings.kubelet_port.unwrap_or(10250),
            node_ip,
            node_name: settings.node_name.map_or_else(host_name, Ok)?,
            service_cidr,
            pod_cidr: settings.pod_cidr.map_or_else(|| "10.244.0.0/16".parse(), Ok).context("the default parses")?,
            cluster_domain: settings.cluster_domain.unwrap_or_else(|| "cluster.local".into()),
            cluster_dns,
            container_runtime_endpoint: settings.container_runtime_endpoint,
            image_dir: settings.image_dir.or_else(installed_image_dir),
            kubelet_dir: path(settings.kubelet_dir, "/var/lib/kubelet"),
            pod_logs_dir: path(settings.pod_logs_dir, "/var/log/pods"),
            cni_conf_dir: path(settings.cni_conf_dir, "/etc/cni/net.d"),
            bridge: settings.bridge.unwrap_or_else(|| "troupe0".into()),
            cgroup_parent: settings.cgroup_parent.unwrap_or_else(|| "kubepods".into()),
            manifests_dir: path(settings.manifests_dir, "/etc/troupe/manifests"),
            node_heartbeat: Duration::from_secs(settings.node_heartbeat.unwrap_or(10).max(1)),
            node_monitor_grace_period: settings.node_monitor_grace_period.map_or(GRACE, Duration::from_secs),
            data_dir,
            audit,
        })
    }
}

impl Config {
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

    /// The cgroup that holds `kubepods`; empty for the root.
    pub fn cgroup_root(&self) -> &str {
        self.cgroup_parent.strip_suffix("/kubepods").unwrap_or_default()
    }

    /// The pod network of a node with the pods of `range`.
    pub fn pod_network(&self, range: Ipv4Network) -> Network {
        Network { bridge: self.bridge.clone(), data_dir: self.data_dir.join("cni"), ..Network::new(range) }
    }

    /// The layout of a containerd of our own.
    pub fn containerd(&self) -> crate::containerd::ContainerdLayout {
        crate::containerd::ContainerdLayout {
            root: self.data_dir.join("containerd"),
            state: self.run_dir.join("containerd"),
            cni_conf_dir: self.cni_conf_dir.clone(),
            cni_bin_dir: cni_bin_dir(),
            pause_image: crate::images::PAUSE_IMAGE.into(),
        }
    }

    /// The first Service address, which `default/kubernetes` has.
    pub fn kubernetes_service_ip(&self) -> Ipv4Addr {
        self.service_cidr.nth(1).unwrap_or_else(|| self.service_cidr.ip())
    }
}

/// The etcd that is configured, if one is.
fn etcd(servers: Option<Vec<String>>, [ca_file, cert_file, key_file]: [Option<PathBuf>; 3]) -> Result<Option<EtcdConfig>> {
    match servers {
        Some(servers) if !servers.is_empty() => EtcdConfig { servers, ca_file, cert_file, key_file }.check().map(Some),
        _ if ca_file.is_some() || cert_file.is_some() || key_file.is_some() => bail!("certificates for etcd are given, but not --etcd-servers"),
        _ => Ok(None),
    }
}

fn signed(seconds: u64) -> Result<SignedDuration, std::num::TryFromIntError> {
    i64::try_from(seconds).map(SignedDuration::from_secs)
}

/// Where the CNI plugins are installed.
pub fn cni_bin_dir() -> PathBuf {
    let candidates = ["/opt/cni/bin", "/usr/lib/cni"];
    let found = candidates.iter().find(|dir| Path::new(dir).join("bridge").exists());
    found.unwrap_or(&candidates[0]).into()
}

fn installed_image_dir() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let beside = executable.parent()?.join("images");
    let shared = executable.parent()?.join("../share/troupe/images");
    [beside, shared].into_iter().find(|dir| dir.is_dir())
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// The source address towards the default route; loopback on a machine without one.
fn default_node_ip() -> Result<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
    // Connecting a datagram socket sends nothing: it only asks the routing table.
    match socket.connect("192.0.2.1:9") {
        Ok(()) => Ok(socket.local_addr().context("a connected socket has an address")?.ip()),
        Err(_) => first_interface_address().context("no network interface has an address: name one with --node-ip"),
    }
}

fn first_interface_address() -> Option<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?;
    let mut found = addresses.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    found.find(|ip| !ip.is_loopback()).map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file =
            Settings::parse("apiVersion: troupe.dev/v1alpha1\nkind: TroupeConfiguration\napiPort: 7000\nnodeName: from-file\n").expect("parses");
        let flags = Settings { node_name: Some("from-flag".into()), ..Settings::default() };
        let merged = flags.or(file);
        assert_eq!((merged.api_port, merged.node_name.as_deref()), (Some(7000), Some("from-flag")));
    }

    #[test]
    fn etcd_is_configured_in_the_file_or_by_flags() {
        let file = "apiVersion: troupe.dev/v1alpha1\nkind: TroupeConfiguration\netcdServers: [https://a:2379, https://b:2379]\netcdCafile: /ca\n";
        let settings = Settings::parse(file).expect("parses");
        let found = etcd(settings.etcd_servers, [settings.etcd_cafile, None, None]).expect("works").expect("etcd");
        assert_eq!((found.servers.len(), found.ca_file), (2, Some("/ca".into())));
        assert!(etcd(None, [Some("/ca".into()), None, None]).is_err());
        assert_eq!(etcd(None, [None, None, None]).expect("works"), None);
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let error = Settings::parse("apiVersion: troupe.dev/v1alpha1\nkind: TroupeConfiguration\napiprot: 7000\n").expect_err("must fail");
        assert!(error.to_string().contains("apiprot"), "{error}");
        assert!(Settings::parse("apiVersion: v2\nkind: X\n").is_err());
    }
}
