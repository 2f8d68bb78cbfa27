//! Settings as the configuration file and the flags give them.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use troupe_api::schema::from_yaml;

use super::{Cni, PerFamily, seconds::seconds};

/// The configuration file read when it exists and no other is named.
pub(super) const DEFAULT_FILE: &str = "/etc/troupe/config.yaml";
const API_VERSION: &str = "troupe.dev/v1alpha1";
const KIND: &str = "TroupeConfiguration";

/// Settings as the file and the flags give them: everything optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The head of a configuration file; checked when it is read.
    #[arg(skip)]
    #[serde(skip_serializing)]
    pub api_version: Option<String>,
    #[arg(skip)]
    #[serde(skip_serializing)]
    pub kind: Option<String>,
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
    /// The CAs of the certificates that kubelets show to the API server [default: the cluster's own]
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Megabytes of the embedded store's disk for old versions of objects, which watches and lists may go back to
    /// [default: a tenth of the disk, at most 2048]
    #[arg(long)]
    pub store_history_megabytes: Option<u64>,
    /// Where the cluster's certificates and keys are [default: pki in the data directory]
    #[arg(long)]
    pub certificates_dir: Option<PathBuf>,
    /// Seconds that certificates made on this machine last; they are made again in time [default: a year]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub certificate_validity: Option<u64>,
    /// Seconds that certificates signed by the CSR API last at most [default: a year]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
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
    /// Addresses for Services of type LoadBalancer, which nodes announce on their links: ranges such as 192.0.2.0/28 or
    /// 192.0.2.10-192.0.2.20, of both families [default: none; such Services get an address from somebody else, or none]
    #[arg(long)]
    pub load_balancer_pool: Option<String>,
    /// Whether nodes ask a link who has an address before they announce it there, and leave it to who answers; to be switched off where a router
    /// with proxy ARP answers for all addresses [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub load_balancer_conflict_detection: Option<bool>,
    /// Port of a control plane that has no API server [default: 10257 with controllers, else 10259; a free one where that is taken]
    #[arg(long)]
    pub component_port: Option<u16>,
    /// Port of the kubelet [default: 10250]
    #[arg(long)]
    pub kubelet_port: Option<u16>,
    /// Address and port of the service proxy's health; nothing for nowhere [default: port 10256 of all addresses]
    #[arg(long)]
    pub proxy_healthz_bind_address: Option<String>,
    /// Address and port of the service proxy's metrics and mode; nothing for nowhere [default: 127.0.0.1:10249]
    #[arg(long)]
    pub proxy_metrics_bind_address: Option<String>,
    /// Connections that this node follows for each of its processors; 0 leaves the machine's limit [default: 32768]
    #[arg(long)]
    pub conntrack_max_per_core: Option<u64>,
    /// Connections that it follows at least [default: 131072]
    #[arg(long)]
    pub conntrack_min: Option<u64>,
    /// Seconds that a TCP connection without packets is followed; 0 leaves the machine's time [default: 86400]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub conntrack_tcp_timeout_established: Option<u64>,
    /// The same once one end has closed it [default: 3600]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub conntrack_tcp_timeout_close_wait: Option<u64>,
    /// The address other machines reach this one at, or one of IPv4 and one of IPv6 (A,B) [default: those of the default routes]
    #[arg(long)]
    pub node_ip: Option<PerFamily<IpAddr>>,
    /// This node's name [default: the host name]
    #[arg(long)]
    pub node_name: Option<String>,
    /// Addresses of Services: a range of IPv4 or of IPv6, or both (A,B), the usual family first [default: 10.96.0.0/16]
    #[arg(long)]
    pub service_cidr: Option<PerFamily<IpNetwork>>,
    /// Addresses of pods, of the same families [default: 10.244.0.0/16, fd00:10:244::/56]
    #[arg(long, visible_alias = "cluster-cidr")]
    pub pod_cidr: Option<PerFamily<IpNetwork>>,
    /// Prefix of the range of IPv4 addresses that each node has for its pods [default: 24]
    #[arg(long)]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// Prefix of the range of IPv6 addresses that each node has for its pods [default: 64]
    #[arg(long)]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// The cluster's DNS domain [default: cluster.local]
    #[arg(long)]
    pub cluster_domain: Option<String>,
    /// The address of the cluster's DNS [default: the tenth Service address]
    #[arg(long)]
    pub cluster_dns: Option<IpAddr>,
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
    /// Who makes the pods' network: this node, or somebody else, who puts a CNI configuration there [default: troupe]
    #[arg(long)]
    pub cni: Option<Cni>,
    /// Networks that pods reach under their own addresses, beside those of pods: others see the node's address
    #[arg(long, value_delimiter = ',')]
    pub non_masquerade_cidrs: Option<Vec<String>>,
    /// Name of the pods' bridge [default: troupe0]
    #[arg(long)]
    pub bridge: Option<String>,
    /// The cgroup that holds this node's pods, and nothing else, such as a/kubepods [default: kubepods]
    #[arg(long)]
    pub cgroup_parent: Option<String>,
    /// Processes and threads that one pod of this node may have; -1 for as many as the machine [default: 4096]
    #[arg(long, allow_negative_numbers = true)]
    pub pod_max_pids: Option<i64>,
    /// A kubelet.config.k8s.io/v1beta1 KubeletConfiguration: the kubelet's configuration as upstream's; settings here win over it
    #[arg(long)]
    pub kubelet_config: Option<PathBuf>,
    /// A folder of such files (*.conf), which are merged over that one in the order of their names
    #[arg(long)]
    pub kubelet_config_dir: Option<PathBuf>,
    /// A kubelet.config.k8s.io/v1 CredentialProviderConfig, or a folder of them: programs that know credentials for images
    #[arg(long)]
    pub image_credential_provider_config: Option<PathBuf>,
    /// Where those programs are
    #[arg(long)]
    pub image_credential_provider_bin_dir: Option<PathBuf>,
    /// Below these amounts free of its memory and disks this node evicts pods; `none` for never
    /// [default: memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%]
    #[arg(long, value_delimiter = ',')]
    pub eviction_hard: Option<Vec<String>>,
    /// Below these amounts free this node evicts pods after a while, such as memory.available<1.5Gi
    #[arg(long, value_delimiter = ',')]
    pub eviction_soft: Option<Vec<String>>,
    /// How long less has to be free for that, such as memory.available=1m30s
    #[arg(long, value_delimiter = ',')]
    pub eviction_soft_grace_period: Option<Vec<String>>,
    /// Seconds that pods evicted so may take to end at most; negative for as many as they ask for [default: 0]
    #[arg(long, allow_negative_numbers = true)]
    pub eviction_max_pod_grace_period: Option<i32>,
    /// How much more than a threshold has to be free before evictions for it end, such as imagefs.available=2Gi
    #[arg(long, value_delimiter = ',')]
    pub eviction_minimum_reclaim: Option<Vec<String>>,
    /// Seconds for which this node tells of pressure after its cause is gone [default: 300]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub eviction_pressure_transition_period: Option<u64>,
    /// Percent of its disk in use from which on this node removes images that nobody uses; 100 for never [default: 85]
    #[arg(long)]
    pub image_gc_high_threshold: Option<u8>,
    /// Percent of its disk in use down to which it does [default: 80]
    #[arg(long)]
    pub image_gc_low_threshold: Option<u8>,
    /// Seconds that an image stays although nobody uses it [default: 120]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub minimum_image_ttl_duration: Option<u64>,
    /// Kernel parameters that pods of this node may set beside the safe ones: names, or beginnings with `*` behind
    #[arg(long, value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Option<Vec<String>>,
    /// Folder of static pod manifests [default: /etc/troupe/manifests]
    #[arg(long)]
    pub manifests_dir: Option<PathBuf>,
    /// Seconds between signs of life of this node [default: 10]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub node_heartbeat: Option<u64>,
    /// Seconds after which a silent node counts as lost [default: 50]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub node_monitor_grace_period: Option<u64>,
    /// Pods that have ended beyond this number go, the oldest first; 0 keeps all [default: 12500]
    #[arg(long)]
    pub terminated_pod_gc_threshold: Option<u32>,
    /// Seconds after which tokens out of secrets that nobody uses are marked as invalid, and as long after that removed [default: 31536000]
    #[arg(long, value_parser = seconds::<u32>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub legacy_service_account_token_clean_up_period: Option<u32>,
    /// Seconds between looks at a horizontal pod autoscaler [default: 15]
    #[arg(long, value_parser = seconds::<u32>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub horizontal_pod_autoscaler_sync_period: Option<u32>,
    /// Seconds for which the highest recommendation holds where an autoscaler says nothing [default: 300]
    #[arg(long, value_parser = seconds::<u32>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub horizontal_pod_autoscaler_downscale_stabilization: Option<u32>,
    /// By how much the ratio of use and target may differ from 1 where an autoscaler says nothing [default: 0.1]
    #[arg(long)]
    pub horizontal_pod_autoscaler_tolerance: Option<String>,
    /// Seconds after a pod's start for which its use of cpu counts only if it was measured while the pod was ready [default: 300]
    #[arg(long, value_parser = seconds::<u32>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub horizontal_pod_autoscaler_cpu_initialization_period: Option<u32>,
    /// Seconds after a pod's start after which it never was ready if its readiness did not change later [default: 30]
    #[arg(long, value_parser = seconds::<u32>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub horizontal_pod_autoscaler_initial_readiness_delay: Option<u32>,
    /// Controllers by upstream's names that run: `name`, `-name` for those that do not, `*` for all that usually do
    /// [default: all; where something is said, bootstrap-signer-controller and token-cleaner-controller have to be named]
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    pub controllers: Option<Vec<String>>,
    /// How many Deployments are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_deployment_syncs: Option<u32>,
    /// How many ReplicaSets are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_replicaset_syncs: Option<u32>,
    /// How many ReplicationControllers are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_rc_syncs: Option<u32>,
    /// How many StatefulSets are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_statefulset_syncs: Option<u32>,
    /// How many DaemonSets are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_daemonset_syncs: Option<u32>,
    /// How many Jobs are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_job_syncs: Option<u32>,
    /// How many CronJobs are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_cron_job_syncs: Option<u32>,
    /// How many Jobs that have ended are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_ttl_after_finished_syncs: Option<u32>,
    /// How many Services whose Endpoints are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_endpoint_syncs: Option<u32>,
    /// How many Services whose EndpointSlices are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_service_endpoint_syncs: Option<u32>,
    /// How many Services of load balancers are worked on at once [default: 1]
    #[arg(long)]
    pub concurrent_service_syncs: Option<u32>,
    /// How many namespaces are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_namespace_syncs: Option<u32>,
    /// How many quotas are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_resource_quota_syncs: Option<u32>,
    /// How many Secrets with tokens are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_serviceaccount_token_syncs: Option<u32>,
    /// How many autoscalers are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_horizontal_pod_autoscaler_syncs: Option<u32>,
    /// How many pods with volumes of their own are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_ephemeralvolume_syncs: Option<u32>,
    /// How many pods and claims of devices are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_resourceclaim_syncs: Option<u32>,
    /// How many devices with taints are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_device_taint_eviction_syncs: Option<u32>,
    /// How many admission policies are worked on at once [default: 5]
    #[arg(long)]
    pub concurrent_validating_admission_policy_status_syncs: Option<u32>,
    /// How many objects whose owners are looked for are worked on at once [default: 20]
    #[arg(long)]
    pub concurrent_gc_syncs: Option<u32>,
    /// How many Endpoints are mirrored at once [default: 5]
    #[arg(long)]
    pub mirroring_concurrent_service_endpoint_syncs: Option<u32>,
    /// Seconds after which quotas are counted again though nothing changed [default: 300]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub resource_quota_sync_period: Option<u64>,
    /// Seconds between looks at a node's signs of life, at most a fifth of --node-monitor-grace-period [default: 5]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub node_monitor_period: Option<u64>,
    /// Seconds after which a node that never reported counts as lost [default: 60]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub node_startup_grace_period: Option<u64>,
    /// Nodes of a zone that are emptied in a second when they are lost [default: 0.1]
    #[arg(long)]
    pub node_eviction_rate: Option<String>,
    /// The same in a large zone in trouble; in a small one none is [default: 0.01]
    #[arg(long)]
    pub secondary_node_eviction_rate: Option<String>,
    /// A zone with more nodes than this is large [default: 50]
    #[arg(long)]
    pub large_cluster_size_threshold: Option<u32>,
    /// Which part of a zone's nodes has to be lost, three at least, for it to be in trouble [default: 0.55]
    #[arg(long)]
    pub unhealthy_zone_threshold: Option<String>,
    /// Seconds that others wait after the last sign of life of a leader [default: 15]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub leader_elect_lease_duration: Option<u64>,
    /// Seconds without a renewal after which a leader stops; less than --leader-elect-lease-duration [default: 10]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub leader_elect_renew_deadline: Option<u64>,
    /// Seconds between tries to get or renew the lead; less than --leader-elect-renew-deadline [default: 2]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub leader_elect_retry_period: Option<u64>,
    /// Labels that this node gives itself, such as example.org/disk=ssd
    #[arg(long, value_delimiter = ',')]
    pub node_labels: Option<Vec<String>>,
    /// Record requests to this file; "-" is the standard output
    #[arg(long)]
    pub audit_log_path: Option<PathBuf>,
    /// An apiserver.config.k8s.io/v1 AdmissionConfiguration: the configuration of admission plugins
    #[arg(long)]
    pub admission_control_config_file: Option<PathBuf>,
    /// A kubescheduler.config.k8s.io/v1 KubeSchedulerConfiguration: profiles, plugins and extenders of the scheduler
    #[arg(long)]
    pub scheduler_config: Option<PathBuf>,
    /// Admission plugins to run beside those that do by default
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Option<Vec<String>>,
    /// Admission plugins not to run although they do by default
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Option<Vec<String>>,
    /// An apiserver.config.k8s.io/v1 EncryptionConfiguration: what is sealed in the store, and with which keys
    #[arg(long)]
    pub encryption_provider_config: Option<PathBuf>,
    /// Use that file anew when it changes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub encryption_provider_config_automatic_reload: Option<bool>,
    /// Built-in APIs that are served or not, such as batch/v1=false or api/all=true
    #[arg(long, value_delimiter = ',')]
    pub runtime_config: Option<Vec<String>>,
    /// Features that are on or off, such as PodTopologyLabelsAdmission=false
    #[arg(long, value_delimiter = ',')]
    pub feature_gates: Option<Vec<String>>,
    /// The oldest version of TLS that the API server takes, or controllers and scheduler without one: VersionTLS12 or VersionTLS13 [default: VersionTLS12]
    #[arg(long)]
    pub tls_min_version: Option<String>,
    /// Cipher suites of TLS 1.2 that it takes, by their IANA names [default: those that are safe]
    #[arg(long, value_delimiter = ',')]
    pub tls_cipher_suites: Option<Vec<String>>,
    /// A certificate that it shows in place of its own
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of --tls-cert-file
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// A certificate for those who call it by other names: certificate,key or certificate,key:name,… (any number of times; names may be addresses)
    #[arg(long)]
    pub tls_sni_cert_key: Option<Vec<String>>,
    /// Requests at once that flow control shares out, together with --max-mutating-requests-inflight [default: 400]
    #[arg(long)]
    pub max_requests_inflight: Option<u32>,
    /// See --max-requests-inflight [default: 200]
    #[arg(long)]
    pub max_mutating_requests_inflight: Option<u32>,
    /// Seconds that a request may take that is no watch [default: 60]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub request_timeout: Option<u64>,
    /// Seconds that a watch lasts at least, and twice that at most, where it does not say itself [default: 1800]
    #[arg(long)]
    pub min_request_timeout: Option<u64>,
    /// How likely a request over HTTP/2 is the last one of its connection, 0.02 at most, so that clients do not stay with one of several API servers [default: 0]
    #[arg(long)]
    pub goaway_chance: Option<String>,
    /// Seconds for which the API server goes on when it is told to end, but tells /readyz that it is not ready [default: 0]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub shutdown_delay_duration: Option<u64>,
    /// While it ends, go on to listen and tell new requests to come again (429) until those in work are done
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub shutdown_send_retry_after: Option<bool>,
    /// What answers say as Strict-Transport-Security, such as max-age=31536000,includeSubDomains [default: nothing]
    #[arg(long, value_delimiter = ',')]
    pub strict_transport_security_directives: Option<Vec<String>>,
    /// Origins whose pages browsers let use the API server: regular expressions that pin both ends of a host, such as //example\.com(:|$) [default: none]
    #[arg(long, value_delimiter = ',')]
    pub cors_allowed_origins: Option<Vec<String>>,
    /// Ports of Services that nodes answer on, such as 30000-32767 [default: that]
    #[arg(long)]
    pub service_node_port_range: Option<String>,
    /// Seconds that events are kept [default: 3600]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub event_ttl: Option<u64>,
    /// Whether requests without credentials are taken, as of system:anonymous [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub anonymous_auth: Option<bool>,
    /// Names under which tokens of service accounts are issued: the first one for new tokens, those of all count
    /// [default: https://kubernetes.default.svc.cluster.local]
    #[arg(long, value_delimiter = ',')]
    pub service_account_issuer: Option<Vec<String>>,
    /// Whom tokens for the API server must be for [default: the names of --service-account-issuer]
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Option<Vec<String>>,
    /// The key that signs tokens of service accounts: RSA, P-256 or P-384, in PEM [default: sa.key in the certificates directory]
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// The socket of a process that signs tokens of service accounts instead (k8s.io/externaljwt v1): its path, or "@" and its name
    #[arg(long)]
    pub service_account_signing_endpoint: Option<String>,
    /// Keys whose tokens of service accounts count beside those of the key that signs: public or private ones, in PEM
    #[arg(long, value_delimiter = ',')]
    pub service_account_key_file: Option<Vec<PathBuf>>,
    /// Where others get those keys (https) [default: at this API server]
    #[arg(long)]
    pub service_account_jwks_uri: Option<String>,
    /// Whether tokens of pods last a year for programs that do not read them anew [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub service_account_extend_token_expiration: Option<bool>,
    /// Seconds that tokens of service accounts last at most, whatever is asked for: an hour or more [default: as is asked for]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub service_account_max_token_expiration: Option<u64>,
    /// Seconds that pods stay on a node that is not ready, unless they say otherwise [default: 300]
    #[arg(long)]
    pub default_not_ready_toleration_seconds: Option<u32>,
    /// Seconds that they stay on a node that cannot be reached [default: 300]
    #[arg(long)]
    pub default_unreachable_toleration_seconds: Option<u32>,
    /// The issuer of OpenID Connect tokens (https) whose users are let in
    #[arg(long)]
    pub oidc_issuer_url: Option<String>,
    /// Whom its tokens must be for
    #[arg(long)]
    pub oidc_client_id: Option<String>,
    /// The claim with the user's name [default: sub]
    #[arg(long)]
    pub oidc_username_claim: Option<String>,
    /// What names of users begin with; "-" for nothing [default: the issuer and "#", nothing for the claim email]
    #[arg(long)]
    pub oidc_username_prefix: Option<String>,
    /// The claim with the user's groups
    #[arg(long)]
    pub oidc_groups_claim: Option<String>,
    /// What names of groups begin with
    #[arg(long)]
    pub oidc_groups_prefix: Option<String>,
    /// Claims that tokens must have, such as hd=example.org
    #[arg(long, value_delimiter = ',')]
    pub oidc_required_claim: Option<Vec<String>>,
    /// The CAs of the issuer's certificate [default: the system's]
    #[arg(long)]
    pub oidc_ca_file: Option<PathBuf>,
    /// How tokens may be signed [default: RS256]
    #[arg(long, value_delimiter = ',')]
    pub oidc_signing_algs: Option<Vec<String>>,
    /// Bearer tokens with their users: lines of token,user,uid,"group1,group2"
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    /// An apiserver.config.k8s.io/v1 AuthenticationConfiguration: issuers of tokens, and what anonymous requests may ask for
    #[arg(long)]
    pub authentication_config: Option<PathBuf>,
    /// An apiserver.config.k8s.io/v1 AuthorizationConfiguration: who is asked what a user may do
    #[arg(long)]
    pub authorization_config: Option<PathBuf>,
    /// Who is asked what a user may do, in this order: Node, RBAC, ABAC, Webhook, AlwaysAllow, AlwaysDeny [default: Node,RBAC]
    #[arg(long, value_delimiter = ',')]
    pub authorization_mode: Option<Vec<String>>,
    /// The policies of ABAC: a line of JSON each
    #[arg(long)]
    pub authorization_policy_file: Option<PathBuf>,
    /// A kubeconfig of the webhook that mode Webhook asks
    #[arg(long)]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// The version of the SubjectAccessReviews that it is sent: v1 or v1beta1 [default: v1beta1]
    #[arg(long)]
    pub authorization_webhook_version: Option<String>,
    /// Seconds that what it allowed counts; 0 for not at all [default: 300]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub authorization_webhook_cache_authorized_ttl: Option<u64>,
    /// Seconds that what it did not allow counts [default: 30]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub authorization_webhook_cache_unauthorized_ttl: Option<u64>,
    /// A kubeconfig of a webhook that is asked whose tokens are which nobody else knows
    #[arg(long)]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// Seconds that its answers count [default: 120]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub authentication_token_webhook_cache_ttl: Option<u64>,
    /// An apiserver.config.k8s.io/v1 TracingConfiguration: where spans of requests go, and how many requests are sampled
    #[arg(long)]
    pub tracing_config_file: Option<PathBuf>,
    /// A kubeconfig of a webhook that is sent what is recorded
    #[arg(long)]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// How the audit webhook is sent events: batch, for which no request waits, blocking, each before its request goes on, or blocking-strict,
    /// which refuses requests that cannot be recorded [default: batch]
    #[arg(long)]
    pub audit_webhook_mode: Option<String>,
    /// Events that may wait for the audit webhook [default: 10000]
    #[arg(long)]
    pub audit_webhook_batch_buffer_size: Option<u32>,
    /// Events that it is sent together [default: 400]
    #[arg(long)]
    pub audit_webhook_batch_max_size: Option<u32>,
    /// Seconds that the first of them waits for others [default: 30]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub audit_webhook_batch_max_wait: Option<u64>,
    /// Whether it is sent only so many batches [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub audit_webhook_batch_throttle_enable: Option<bool>,
    /// Batches in a second [default: 10]
    #[arg(long)]
    pub audit_webhook_batch_throttle_qps: Option<String>,
    /// Batches at once after a pause [default: 15]
    #[arg(long)]
    pub audit_webhook_batch_throttle_burst: Option<u32>,
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
    /// How requests wait for the audit log: batch, not at all unless its queue is full, blocking, until their events are written, or
    /// blocking-strict, which refuses those that cannot be recorded [default: batch]
    #[arg(long)]
    pub audit_log_mode: Option<String>,
    /// With this or another option of batches, events that the audit log is too slow for are dropped: how many may wait [default: 10000]
    #[arg(long)]
    pub audit_log_batch_buffer_size: Option<u32>,
    /// Events that are written to the audit log together [default: 1]
    #[arg(long)]
    pub audit_log_batch_max_size: Option<u32>,
    /// Seconds that the first of them waits for others [default: 0]
    #[arg(long, value_parser = seconds::<u64>)]
    #[serde(deserialize_with = "super::seconds::read")]
    pub audit_log_batch_max_wait: Option<u64>,
    /// Whether batches of the audit log are paced [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub audit_log_batch_throttle_enable: Option<bool>,
    /// Batches of the audit log in a second [default: 10]
    #[arg(long)]
    pub audit_log_batch_throttle_qps: Option<String>,
    /// Batches of the audit log at once after a pause [default: 15]
    #[arg(long)]
    pub audit_log_batch_throttle_burst: Option<u32>,
    /// The format of the audit log: json, or legacy for lines of text [default: json]
    #[arg(long)]
    pub audit_log_format: Option<String>,
}

impl Settings {
    /// Reads a configuration file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no usable configuration", path.display()))
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.lines().any(|line| line.trim_end() == "kind: KubeSchedulerConfiguration") {
            bail!("it is a KubeSchedulerConfiguration, which --scheduler-config names: --config is this program's own");
        }
        // The same rules as for what is sent to the API; another reader knows in which line a mistake stands.
        let parsed: Settings = from_yaml(text).map_err(|error| match serde_norway::from_str::<Settings>(text) {
            Err(located) => anyhow::Error::from(located),
            Ok(_) => error.into(),
        })?;
        let head = (parsed.api_version.as_deref().unwrap_or("none"), parsed.kind.as_deref().unwrap_or("none"));
        if head != (API_VERSION, KIND) {
            bail!("its apiVersion is {} and its kind {}, but this troupe reads {API_VERSION} {KIND}", head.0, head.1);
        }
        Ok(Settings { api_version: None, kind: None, ..parsed })
    }

    /// What is set, by the names that the configuration file has for them.
    pub fn entries(&self) -> BTreeMap<String, Value> {
        let Ok(Value::Object(all)) = serde_json::to_value(self) else { return BTreeMap::new() };
        all.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// The settings among these by the names that the configuration file has for them; other names are left out.
    ///
    /// # Errors
    /// When one has a value of another kind.
    pub fn of_entries(mut all: BTreeMap<String, Value>) -> Result<Settings, serde_json::Error> {
        let known = serde_json::to_value(Settings::default())?;
        all.retain(|name, _| known.get(name).is_some());
        serde_json::from_value(all.into_iter().collect())
    }

    /// Only those settings whose names are wanted.
    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Settings {
        let chosen = self.entries().into_iter().filter(|(name, _)| wanted(name)).collect();
        Settings::of_entries(chosen).expect("a part of settings is settings")
    }
}
