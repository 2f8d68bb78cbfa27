//! From settings to the configuration: every default is filled in.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use ipnetwork::IpNetwork;
use jiff::SignedDuration;
use troupe_actors::{
    controllers::{certificates::LASTS, node_lifecycle::GRACE},
    kubelet::{configuration::KubeletConfiguration, credentials::provider::ProviderFiles, image_collection::plan::ImagePolicy},
};
use troupe_api::auth::pki::LEAF_VALIDITY;
use troupe_api_server::audit::LogOptions;
use troupe_net::{conntrack_settings::ConntrackSettings, iptables::Family};

use super::{
    ApiSettings, AuditConfig, Cni, Config, ControllerSettings, EvictionConfig, OfFamily, Settings, check, cni, every_address, families,
    machine::{default_node_ips, host_name, installed_image_dir},
    settings::DEFAULT_FILE,
};
use crate::state::EtcdConfig;

impl Settings {
    /// These settings, and those of the configuration file where they are silent.
    ///
    /// # Errors
    /// When the file is unusable.
    pub fn with_file(self, file: Option<&Path>) -> Result<Self> {
        let settings = match file {
            Some(path) => self.or(Settings::from_file(path)?),
            None if Path::new(DEFAULT_FILE).exists() => self.or(Settings::from_file(Path::new(DEFAULT_FILE))?),
            None => self,
        };
        settings.absolute()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| "/var/lib/troupe".into())
    }

    pub fn run_dir(&self) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(|| "/run/troupe".into())
    }

    /// The same for nodes that are no machine: their addresses are those that stand for none, whatever this machine has.
    ///
    /// # Errors
    /// When the cluster's ranges cannot work.
    pub fn without_machine(self) -> Result<Self> {
        let (services, _) = families::ranges(self.service_cidr, self.pod_cidr)?;
        let none = |range: IpNetwork| if range.is_ipv6() { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
        let addresses: Vec<IpAddr> = services.iter().map(none).collect();
        Ok(Settings { node_ip: Some(families::PerFamily::new(&addresses)?), ..self })
    }

    /// Fills in the defaults.
    ///
    /// # Errors
    /// When a value cannot work, or when a default (node address, host name) cannot be found out.
    pub fn resolve(self) -> Result<Config> {
        let settings = self;
        check::combinations(&settings)?;
        check::numbers(&settings)?;
        let path = |setting: Option<PathBuf>, default: &str| setting.unwrap_or_else(|| default.into());
        let (service_cidr, pod_cidr) = families::ranges(settings.service_cidr, settings.pod_cidr)?;
        let of_cluster = service_cidr.families();
        let sizes = [settings.node_cidr_mask_size_ipv4, settings.node_cidr_mask_size_ipv6];
        let cluster_dns = match settings.cluster_dns {
            Some(ip) => ip,
            None => families::nth(service_cidr.first(), 10).context("the Service range is too small for a DNS address")?,
        };
        let (api, eviction) = (ApiSettings::of(&settings), EvictionConfig::of(&settings)?);
        let (controllers, node_labels) =
            (ControllerSettings::of(&settings), check::node_labels(settings.node_labels.as_deref().unwrap_or_default())?);
        let conntrack = conntrack(&settings);
        let (audit, data_dir, run_dir) = (settings.audit(), settings.data_dir(), settings.run_dir());
        let node_ips = settings.node_ip.map_or_else(|| default_node_ips(&of_cluster), Ok)?;
        check::node_addresses(&node_ips, &of_cluster)?;
        let config = Config {
            instance: String::new(),
            of_command: BTreeMap::new(),
            run_dir,
            kubeconfig: path(settings.kubeconfig, "/etc/troupe/admin.kubeconfig"),
            etcd: etcd(settings.etcd_servers, [settings.etcd_cafile, settings.etcd_certfile, settings.etcd_keyfile])?,
            kubelet_certificate_authority: settings.kubelet_certificate_authority,
            store_history_megabytes: settings.store_history_megabytes,
            certificates_dir: settings.certificates_dir.unwrap_or_else(|| data_dir.join("pki")),
            certificate_validity: settings.certificate_validity.map_or(LEAF_VALIDITY, Duration::from_secs),
            cluster_signing_duration: settings.cluster_signing_duration.map_or(Ok(LASTS), signed).context("certificates cannot last so long")?,
            bind_address: settings.bind_address.unwrap_or_else(|| every_address(&of_cluster)),
            advertise_address: settings.advertise_address.unwrap_or_else(|| node_ips.first()),
            cert_sans: settings.cert_sans.unwrap_or_default(),
            api_port: settings.api_port.unwrap_or(6443),
            api_servers: settings.api_servers.unwrap_or_default(),
            component_port: settings.component_port,
            load_balancer_conflict_detection: settings.load_balancer_conflict_detection.unwrap_or(true),
            load_balancer_pool: settings.load_balancer_pool.map(|text| text.parse()).transpose().context("--load-balancer-pool")?,
            kubelet_port: settings.kubelet_port.unwrap_or(10250),
            proxy_healthz_bind_address: told_at(
                "--proxy-healthz-bind-address",
                settings.proxy_healthz_bind_address.as_deref(),
                SocketAddr::new(every_address(&of_cluster), 10256),
            )?,
            proxy_metrics_bind_address: told_at(
                "--proxy-metrics-bind-address",
                settings.proxy_metrics_bind_address.as_deref(),
                (Ipv4Addr::LOCALHOST, 10249).into(),
            )?,
            conntrack,
            node_ips,
            node_name: settings.node_name.map_or_else(host_name, Ok)?,
            service_cidr,
            node_ranges: check::node_ranges(pod_cidr, sizes)?,
            pod_cidr,
            cluster_domain: settings.cluster_domain.unwrap_or_else(|| "cluster.local".into()),
            cluster_dns,
            image_dir: settings.image_dir.or_else(|| settings.container_runtime_endpoint.is_none().then(installed_image_dir).flatten()),
            container_runtime_endpoint: settings.container_runtime_endpoint,
            kubelet_dir: path(settings.kubelet_dir, "/var/lib/kubelet"),
            pod_logs_dir: path(settings.pod_logs_dir, "/var/log/pods"),
            cni_conf_dir: path(settings.cni_conf_dir, "/etc/cni/net.d"),
            cni: settings.cni.unwrap_or_default(),
            non_masquerade_cidrs: cni::non_masquerade_cidrs(&settings.non_masquerade_cidrs.unwrap_or_default(), &of_cluster)?,
            bridge: settings.bridge.unwrap_or_else(|| "troupe0".into()),
            cgroup_parent: check::cgroup_parent(settings.cgroup_parent.as_deref().unwrap_or("kubepods"))?,
            pod_max_pids: pod_max_pids(settings.pod_max_pids.unwrap_or(4096))?,
            eviction,
            kubelet_config: settings.kubelet_config,
            kubelet_config_dir: settings.kubelet_config_dir,
            kubelet: KubeletConfiguration::default(),
            image_policy: image_policy(settings.image_gc_high_threshold, settings.image_gc_low_threshold, settings.minimum_image_ttl_duration)?,
            image_credential_providers: settings
                .image_credential_provider_config
                .zip(settings.image_credential_provider_bin_dir)
                .map(|(config, bin_dir)| ProviderFiles { config, bin_dir }),
            allowed_unsafe_sysctls: settings.allowed_unsafe_sysctls.unwrap_or_default(),
            manifests_dir: path(settings.manifests_dir, "/etc/troupe/manifests"),
            node_heartbeat: settings.node_heartbeat.map(Duration::from_secs),
            node_monitor_grace_period: settings.node_monitor_grace_period.map_or(GRACE, Duration::from_secs),
            data_dir,
            admission_control_config_file: settings.admission_control_config_file,
            scheduler_config: settings.scheduler_config,
            audit,
            api,
            controllers,
            node_labels,
        };
        check::bridge(&config.bridge)?;
        check::dns_name("--node-name", &config.node_name)?;
        check::dns_name("--cluster-domain", &config.cluster_domain)?;
        Ok(config)
    }

    /// What is recorded; nothing where it would go nowhere.
    fn audit(&self) -> Option<AuditConfig> {
        let log = self.audit_log_path.clone().map(|path| LogOptions {
            path,
            max_size: self.audit_log_maxsize.unwrap_or(0),
            max_backups: self.audit_log_maxbackup.unwrap_or(0),
            max_age: self.audit_log_maxage.unwrap_or(0),
        });
        (log.is_some() || self.audit_webhook_config_file.is_some()).then(|| AuditConfig { log, policy_file: self.audit_policy_file.clone() })
    }
}

/// Where the service proxy tells of itself, as a flag says: an address, with its port or with upstream's.
fn told_at(flag: &str, given: Option<&str>, usual: SocketAddr) -> Result<Option<SocketAddr>> {
    match given {
        None => Ok(Some(usual)),
        Some("") => Ok(None),
        Some(text) => {
            let address = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, usual.port())));
            let address = address.with_context(|| format!("{flag} {text:?} is no address, with or without a port"))?;
            ensure!(address.port() != 0, "{flag} {text} needs a port; leave the whole empty for none");
            Ok(Some(address))
        }
    }
}

/// What is asked of connection tracking: upstream's usual values where nothing is said.
fn conntrack(settings: &Settings) -> ConntrackSettings {
    let usual = ConntrackSettings::default();
    ConntrackSettings {
        max_per_core: settings.conntrack_max_per_core.unwrap_or(usual.max_per_core),
        min: settings.conntrack_min.unwrap_or(usual.min),
        tcp_established: settings.conntrack_tcp_timeout_established.map_or(usual.tcp_established, Duration::from_secs),
        tcp_close_wait: settings.conntrack_tcp_timeout_close_wait.map_or(usual.tcp_close_wait, Duration::from_secs),
    }
}

/// When images are removed, by marks that upstream takes, too.
fn image_policy(high: Option<u8>, low: Option<u8>, least_age: Option<u64>) -> Result<ImagePolicy> {
    let usual = ImagePolicy::default();
    let (high, low) = (high.unwrap_or(usual.high), low.unwrap_or(usual.low));
    ensure!(high <= 100, "--image-gc-high-threshold {high} must be between 0 and 100, inclusive");
    ensure!(low < high, "--image-gc-low-threshold {low} must be less than --image-gc-high-threshold {high}");
    Ok(ImagePolicy { high, low, least_age: least_age.map_or(usual.least_age, Duration::from_secs), ..usual })
}

impl Config {
    /// Everything as it is set, defaults included, from which the same configuration follows again.
    pub fn settings(&self) -> Settings {
        let log = self.audit.as_ref().and_then(|audit| audit.log.as_ref());
        let etcd = self.etcd.clone().unwrap_or_default();
        let providers = self.image_credential_providers.as_ref();
        let others = Settings {
            data_dir: Some(self.data_dir.clone()),
            run_dir: Some(self.run_dir.clone()),
            kubeconfig: Some(self.kubeconfig.clone()),
            etcd_servers: Some(etcd.servers).filter(|servers| !servers.is_empty()),
            etcd_cafile: etcd.ca_file,
            etcd_certfile: etcd.cert_file,
            etcd_keyfile: etcd.key_file,
            kubelet_certificate_authority: self.kubelet_certificate_authority.clone(),
            store_history_megabytes: self.store_history_megabytes,
            certificates_dir: Some(self.certificates_dir.clone()),
            certificate_validity: Some(self.certificate_validity.as_secs()),
            cluster_signing_duration: u64::try_from(self.cluster_signing_duration.as_secs()).ok(),
            bind_address: Some(self.bind_address),
            advertise_address: Some(self.advertise_address),
            cert_sans: Some(self.cert_sans.clone()).filter(|names| !names.is_empty()),
            api_port: Some(self.api_port),
            api_servers: Some(self.api_servers.clone()).filter(|servers| !servers.is_empty()),
            component_port: self.component_port,
            load_balancer_conflict_detection: Some(self.load_balancer_conflict_detection),
            load_balancer_pool: self.load_balancer_pool.as_ref().map(ToString::to_string),
            kubelet_port: Some(self.kubelet_port),
            proxy_healthz_bind_address: Some(self.proxy_healthz_bind_address.map_or_else(String::new, |address| address.to_string())),
            proxy_metrics_bind_address: Some(self.proxy_metrics_bind_address.map_or_else(String::new, |address| address.to_string())),
            conntrack_max_per_core: Some(self.conntrack.max_per_core),
            conntrack_min: Some(self.conntrack.min),
            conntrack_tcp_timeout_established: Some(self.conntrack.tcp_established.as_secs()),
            conntrack_tcp_timeout_close_wait: Some(self.conntrack.tcp_close_wait.as_secs()),
            node_ip: Some(self.node_ips),
            node_name: Some(self.node_name.clone()),
            service_cidr: Some(self.service_cidr),
            pod_cidr: Some(self.pod_cidr),
            node_cidr_mask_size_ipv4: self.node_prefix(Family::V4),
            node_cidr_mask_size_ipv6: self.node_prefix(Family::V6),
            cluster_domain: Some(self.cluster_domain.clone()),
            cluster_dns: Some(self.cluster_dns),
            container_runtime_endpoint: self.container_runtime_endpoint.clone(),
            image_dir: self.image_dir.clone(),
            kubelet_dir: Some(self.kubelet_dir.clone()),
            pod_logs_dir: Some(self.pod_logs_dir.clone()),
            cni_conf_dir: Some(self.cni_conf_dir.clone()),
            // What was recorded before there was a choice says nothing of it.
            cni: Some(self.cni).filter(|cni| *cni != Cni::default()),
            non_masquerade_cidrs: Some(self.non_masquerade_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>()).filter(|all| !all.is_empty()),
            bridge: Some(self.bridge.clone()),
            cgroup_parent: Some(self.cgroup_parent.clone()),
            pod_max_pids: Some(self.pod_max_pids.map_or(-1, i64::from)),
            image_gc_high_threshold: Some(self.image_policy.high),
            image_gc_low_threshold: Some(self.image_policy.low),
            minimum_image_ttl_duration: Some(self.image_policy.least_age.as_secs()),
            image_credential_provider_config: providers.map(|files| files.config.clone()),
            image_credential_provider_bin_dir: providers.map(|files| files.bin_dir.clone()),
            allowed_unsafe_sysctls: Some(self.allowed_unsafe_sysctls.clone()).filter(|names| !names.is_empty()),
            manifests_dir: Some(self.manifests_dir.clone()),
            node_heartbeat: self.node_heartbeat.map(|heartbeat| heartbeat.as_secs()),
            kubelet_config: self.kubelet_config.clone(),
            kubelet_config_dir: self.kubelet_config_dir.clone(),
            node_monitor_grace_period: Some(self.node_monitor_grace_period.as_secs()),
            node_labels: Some(self.node_labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()).filter(|all| !all.is_empty()),
            audit_log_path: log.map(|log| log.path.clone()),
            admission_control_config_file: self.admission_control_config_file.clone(),
            scheduler_config: self.scheduler_config.clone(),
            audit_policy_file: self.audit.as_ref().and_then(|audit| audit.policy_file.clone()),
            audit_log_maxsize: log.map(|log| log.max_size).filter(|size| *size > 0),
            audit_log_maxbackup: log.map(|log| log.max_backups).filter(|backups| *backups > 0),
            audit_log_maxage: log.map(|log| log.max_age).filter(|age| *age > 0),
            ..Settings::default()
        };
        self.api.clone().among(self.controllers.clone().among(self.eviction.among(others)))
    }

    /// What must hold besides where the API server is served.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_api_server(&self) -> Result<()> {
        check::dns_service(self.service_cidr, self.cluster_dns)
    }

    fn node_prefix(&self, family: Family) -> Option<u8> {
        self.node_ranges.iter().find(|range| range.network.family() == family).map(|range| range.node_prefix)
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

/// How many processes a pod may have; `None` for as many as it likes.
fn pod_max_pids(given: i64) -> Result<Option<u32>> {
    match given {
        -1 => Ok(None),
        1.. => Ok(Some(u32::try_from(given).context("a pod cannot have so many processes")?)),
        _ => bail!("a pod needs at least one process: --pod-max-pids is {given}, and -1 means as many as it likes"),
    }
}

fn signed(seconds: u64) -> Result<SignedDuration, std::num::TryFromIntError> {
    i64::try_from(seconds).map(SignedDuration::from_secs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_proxys_health_is_told_at_an_address_or_nowhere() {
        let told = |given| {
            told_at("--proxy-healthz-bind-address", given, (Ipv4Addr::UNSPECIFIED, 10256).into())
                .map(|address| address.map(|address| address.to_string()))
                .map_err(|error| error.to_string())
        };
        assert_eq!(told(None), Ok(Some("0.0.0.0:10256".into())));
        assert_eq!((told(Some("")), told(Some("::1"))), (Ok(None), Ok(Some("[::1]:10256".into()))));
        assert_eq!(told(Some("127.0.0.1:9")), Ok(Some("127.0.0.1:9".into())));
        assert!(told(Some("here")).is_err() && told(Some("127.0.0.1:0")).is_err());
    }

    #[test]
    fn a_pods_processes_are_counted_or_not() {
        assert_eq!((pod_max_pids(-1).expect("works"), pod_max_pids(7).expect("works")), (None, Some(7)));
        assert!(pod_max_pids(0).is_err() && pod_max_pids(-2).is_err() && pod_max_pids(1 << 40).is_err());
    }

    #[test]
    fn nodes_that_are_no_machine_need_no_address_of_one() {
        let of_ranges = |ranges: Option<&str>| {
            let service_cidr = ranges.map(|ranges| ranges.parse().expect("ranges"));
            let settings = Settings { node_name: Some("hollow".into()), service_cidr, ..Settings::default() };
            let config = settings.without_machine().and_then(Settings::resolve).expect("resolves");
            config.node_ips.to_string()
        };
        assert_eq!(of_ranges(None), "0.0.0.0");
        assert_eq!(of_ranges(Some("10.96.0.0/16,fd00:96::/112")), "0.0.0.0,::");
        assert_eq!(of_ranges(Some("fd00:96::/112")), "::");
    }

    #[test]
    fn the_settings_of_a_configuration_give_the_same_configuration_again() {
        let flags = Settings {
            node_ip: Some(IpAddr::from([192, 0, 2, 7]).into()),
            node_name: Some("one".into()),
            cgroup_parent: Some("/t2pods/".into()),
            data_dir: Some("/d".into()),
            ..Settings::default()
        };
        let first = flags.resolve().expect("resolves");
        assert_eq!(first.cgroup_parent, "t2pods");
        let again = first.settings().resolve().expect("resolves");
        assert_eq!(format!("{again:?}"), format!("{first:?}"));
    }

    /// Every setting is recorded: a safe start, and what reads the record, would else go by a default.
    #[test]
    fn no_setting_is_left_out_of_what_is_recorded() {
        let all = serde_json::to_value(Settings::default()).expect("encodes");
        let value = |name: &str| match name {
            "etcdServers" => json!(["https://a:2379"]),
            "apiServers" | "certSans" | "allowedUnsafeSysctls" => json!(["https://a:6443"]),
            "enableAdmissionPlugins" | "disableAdmissionPlugins" | "runtimeConfig" | "featureGates" => json!(["a=true"]),
            "oidcRequiredClaim" | "oidcSigningAlgs" => json!(["a=b"]),
            "loadBalancerConflictDetection" => json!(false),
            "encryptionProviderConfigAutomaticReload" | "anonymousAuth" | "serviceAccountExtendTokenExpiration" => json!(true),
            "serviceAccountIssuer" | "apiAudiences" => json!(["https://a"]),
            "serviceAccountKeyFile" => json!(["/p"]),
            "tlsCipherSuites" => json!(["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]),
            "serviceAccountJwksUri" => json!("https://a/keys"),
            "serviceNodePortRange" => json!("30000-30100"),
            "eventTtl" | "defaultNotReadyTolerationSeconds" | "defaultUnreachableTolerationSeconds" => json!(7),
            "terminatedPodGcThreshold" | "horizontalPodAutoscalerDownscaleStabilization" => json!(7),
            "horizontalPodAutoscalerTolerance" => json!("0.2"),
            "tlsMinVersion" => json!("VersionTLS13"),
            "tlsSniCertKey" => json!(["/c,/k"]),
            "nodeLabels" => json!(["example.org/disk=ssd"]),
            "authenticationTokenWebhookCacheTtl" => json!(7),
            "evictionHard" | "evictionSoft" => json!(["nodefs.available<7%"]),
            "evictionSoftGracePeriod" => json!(["nodefs.available=1m"]),
            "evictionMinimumReclaim" => json!(["nodefs.available=1Gi"]),
            "bindAddress" | "advertiseAddress" => json!("192.0.2.7"),
            "nodeIp" => json!("192.0.2.7,2001:db8::7"),
            "clusterDns" => json!("10.96.0.10"),
            "cni" => json!("none"),
            "loadBalancerPool" => json!("192.0.2.0/28"),
            "proxyHealthzBindAddress" => json!("0.0.0.0:10256"),
            "proxyMetricsBindAddress" => json!("127.0.0.1:10249"),
            "serviceCidr" => json!("10.96.0.0/16,fd00:1::/112"),
            "podCidr" => json!("10.244.0.0/16,fd00:2::/56"),
            "nodeCidrMaskSizeIpv4" => json!(25),
            "nodeCidrMaskSizeIpv6" => json!(66),
            "imageGcHighThreshold" => json!(8),
            "auditWebhookBatchThrottleBurst" => json!(7),
            "auditWebhookBatchThrottleQps" => json!("7"),
            "auditWebhookBatchThrottleEnable" => json!(true),
            "auditWebhookBatchMaxWait" => json!(7),
            "auditWebhookBatchMaxSize" => json!(7),
            "auditWebhookBatchBufferSize" => json!(7),
            "auditWebhookMode" => json!("batch"),
            "auditLogFormat" => json!("legacy"),
            "auditLogMode" => json!("batch"),
            "auditLogBatchThrottleBurst" | "auditLogBatchMaxWait" | "auditLogBatchMaxSize" | "auditLogBatchBufferSize" => json!(7),
            "auditLogBatchThrottleQps" => json!("7"),
            "auditLogBatchThrottleEnable" => json!(true),
            "strictTransportSecurityDirectives" => json!(["max-age=1"]),
            "corsAllowedOrigins" => json!(["//a(:|$)"]),
            "shutdownSendRetryAfter" => json!(true),
            "shutdownDelayDuration" => json!(7),
            "goawayChance" => json!("0.01"),
            "leaderElectRetryPeriod" => json!(3),
            "leaderElectRenewDeadline" => json!(7),
            "leaderElectLeaseDuration" => json!(9),
            "serviceAccountMaxTokenExpiration" => json!(7200),
            "unhealthyZoneThreshold" => json!("0.5"),
            "nodeEvictionRate" | "secondaryNodeEvictionRate" => json!("0.5"),
            "controllers" => json!(["*", "-job-controller"]),
            "authorizationWebhookCacheUnauthorizedTtl" => json!(7),
            "authorizationWebhookCacheAuthorizedTtl" => json!(7),
            "authorizationMode" => json!(["ABAC", "Webhook"]),
            name if [
                "Port",
                "Validity",
                "Duration",
                "Heartbeat",
                "Period",
                "size",
                "backup",
                "age",
                "Age",
                "Pids",
                "Threshold",
                "Megabytes",
                "Syncs",
                "Delay",
                "Core",
                "Min",
                "Established",
                "Wait",
                "Inflight",
                "Timeout",
            ]
            .iter()
            .any(|end| name.ends_with(end)) =>
            {
                json!(7)
            }
            name if ["Dir", "file", "File", "Path", "Endpoint", "kubeconfig", "Config"].iter().any(|end| name.ends_with(end)) => json!("/p"),
            _ => json!("name"),
        };
        // What cannot be given together with others of these.
        let apart = [
            "imageDir",
            "storeHistoryMegabytes",
            "authenticationConfig",
            "authorizationConfig",
            "nonMasqueradeCidrs",
            "serviceAccountSigningEndpoint",
        ];
        let names = all.as_object().expect("an object").keys().filter(|name| !apart.contains(&name.as_str()));
        let given: serde_json::Map<String, serde_json::Value> = names.map(|name| (name.clone(), value(name))).collect();
        let settings: Settings = serde_json::from_value(given.clone().into()).expect("settings");
        let recorded = settings.resolve().expect("resolves").settings().entries();
        let left_out: Vec<&String> = given.keys().filter(|name| recorded.get(*name) != given.get(*name)).collect();
        assert!(left_out.is_empty(), "{left_out:?}");
        let history: Settings = serde_json::from_value(json!({"storeHistoryMegabytes": 7})).expect("settings");
        let networks = vec!["192.0.2.0/24".to_owned()];
        let own = Settings { non_masquerade_cidrs: Some(networks.clone()), ..Settings::default() };
        assert_eq!(own.resolve().expect("resolves").settings().non_masquerade_cidrs, Some(networks));
        let structured: Settings = serde_json::from_value(json!({"authenticationConfig": "/p", "authorizationConfig": "/q"})).expect("settings");
        let structured = structured.resolve().expect("resolves").settings();
        assert_eq!((structured.authentication_config, structured.authorization_config), (Some("/p".into()), Some("/q".into())));
        assert_eq!(history.resolve().expect("resolves").settings().store_history_megabytes, Some(7));
        let signed = Settings { service_account_signing_endpoint: Some("/s".into()), ..Settings::default() };
        assert_eq!(signed.resolve().expect("resolves").settings().service_account_signing_endpoint.as_deref(), Some("/s"));
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
}
