//! What the kubelet is started with beside its places and addresses: its own configuration.

use std::{
    env,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use anyhow::{Context, Error, Result, bail};
use jiff::SignedDuration;
use serde_json::Value;
use troupe_actors::{
    kubelet::{
        KubeletOptions,
        cgroups::driver::CgroupDriver,
        configuration::KubeletConfiguration,
        credentials::{clients::ClientFiles, provider::config::check_files},
        image_collection::plan::ImagePolicy,
        node::{NodeStatusOptions, Registration},
        pull_records::Verification,
        pulls::PullPolicy,
        rotation::plan::LogPolicy,
        user_namespaces::ids,
        worker::backoff::BackoffPolicy,
    },
    runtime::token_bucket::Rate,
};
use troupe_api::{
    auth::tls_policy::TlsPolicy,
    features::{CONTAINER_STOP_SIGNALS, FeatureGates, POD_CERTIFICATE_REQUEST, TOLERATION_COMPARISONS},
    meta::Quantity,
};
use troupe_cri::resources::CpuTime;

use super::serving::{AuthoritiesFile, CertificateFiles};
use crate::{
    config::Config,
    images::{DNS_IMAGE, PAUSE_IMAGE},
};

/// Takes the configuration in.
///
/// # Errors
/// When it reserves what cannot be.
pub(super) fn configure(options: &mut KubeletOptions, config: &Config, kept_images: Vec<String>) -> Result<()> {
    let kubelet = &config.kubelet;
    for word in kubelet.idle() {
        tracing::warn!("kubelet configuration: {word}");
    }
    for signal in config.eviction.overridden() {
        tracing::warn!(signal, "this threshold has no effect: containers' file system has those of the one that it is, as upstream");
    }
    options.cluster_dns = kubelet.texts("clusterDNS").iter().filter_map(|server| server.parse().ok()).collect();
    kubelet.text("clusterDomain").clone_into(&mut options.cluster_domain);
    options.resolv_conf = kubelet.text("resolvConf").into();
    options.cgroup_driver = CgroupDriver::parse(kubelet.text("cgroupDriver")).unwrap_or_default();
    options.cgroups_per_qos = kubelet.flag("cgroupsPerQOS");
    options.enforces_pods = kubelet.enforces_pods();
    options.reserved = kubelet.reserved().map_err(Error::msg)?;
    options.container_manager = kubelet.container_manager().map_err(Error::msg)?;
    options.labels.extend(config.node_labels.clone());
    options.max_pods = most_pods(kubelet, std::thread::available_parallelism().map_or(1, |count| count.get()));
    options.pod_max_pids = config.pod_max_pids;
    options.user_ids_per_pod = kubelet.says("userNamespaces.idsPerPod").and_then(Value::as_u64).map_or(Ok(ids::USUAL), u32::try_from)?;
    options.heartbeat = config.heartbeat();
    options.node_status = NodeStatusOptions {
        update: kubelet.duration("nodeStatusUpdateFrequency"),
        report: kubelet.duration("nodeStatusReportFrequency"),
        most_images: usize::try_from(kubelet.number("nodeStatusMaxImages")).ok(),
    };
    options.registration =
        Registration { by_itself: kubelet.flag("registerNode"), taints: kubelet.taints(), provider_id: kubelet.text("providerID").to_owned() };
    options.eviction_thresholds = config.eviction.thresholds.clone();
    options.eviction_pressure_transition_period = config.eviction.pressure_transition_period;
    options.eviction_grace_periods = config.eviction.grace_periods;
    let most_age = Some(kubelet.duration("imageMaximumGCAge")).filter(|age| !age.is_zero());
    options.image_policy = ImagePolicy { kept: kept_images, most_age, ..config.image_policy.clone() };
    options.pull_policy = pull_policy(kubelet);
    options.pull_verification =
        Verification { policy: kubelet.pull_verification().map_err(Error::msg)?, own: [PAUSE_IMAGE, DNS_IMAGE].map(str::to_owned).to_vec() };
    options.registry_clients = registry_clients(&options.root_dir);
    options.credential_providers.clone_from(&config.image_credential_providers);
    options.event_rate = rate(kubelet, "eventRecordQPS", "eventBurst");
    options.pod_certificates = features(config)?.is_on(POD_CERTIFICATE_REQUEST);
    options.log_policy = log_policy(kubelet)?;
    let longest = SignedDuration::try_from(kubelet.duration("crashLoopBackOff.maxContainerRestartPeriod")).unwrap_or(SignedDuration::MAX);
    options.backoff = BackoffPolicy::at_most(longest);
    options.seccomp_default = kubelet.flag("seccompDefault");
    options.stop_signals = features(config)?.is_on(CONTAINER_STOP_SIGNALS);
    options.compares_tolerations = features(config)?.is_on(TOLERATION_COMPARISONS);
    options.cpu_time = cpu_time(kubelet);
    options.shutdown.periods = kubelet.shutdown_periods();
    options.limited_swap = kubelet.text("memorySwap.swapBehavior") == "LimitedSwap";
    options.kills_group = !kubelet.flag("singleProcessOOMKill");
    options.static_pod_url = kubelet.pod_url();
    options.allowed_unsafe_sysctls.clone_from(&config.allowed_unsafe_sysctls);
    Ok(())
}

/// Whether the kubelet can be started so.
///
/// # Errors
/// As [`configure`].
pub(super) fn check(config: &Config) -> Result<()> {
    let kubelet = &config.kubelet;
    kubelet.reserved().map(drop).map_err(Error::msg)?;
    kubelet.container_manager().map(drop).map_err(Error::msg)?;
    features(config)?;
    tls_policy(kubelet)?;
    health_address(kubelet)?;
    if let Some(file) = client_authorities(kubelet) {
        file.believe(&tls_policy(kubelet)?).context("authentication.x509.clientCAFile")?;
    }
    if let Some(files) = serving_files(kubelet)? {
        files.show().context("the kubelet's certificate")?;
    }
    if let Some(files) = &config.image_credential_providers {
        check_files(files).context("image credential providers")?;
    }
    log_policy(kubelet).map(drop)
}

/// The features that are on for a node: what its kubelet's configuration says of them, and over that what flags say.
///
/// # Errors
/// When there is no such feature.
fn features(config: &Config) -> Result<FeatureGates> {
    let own = config.kubelet.says("featureGates").and_then(Value::as_object).into_iter().flatten();
    let mut said: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
    said.extend(config.api.feature_gates.iter().flatten().cloned());
    FeatureGates::parse(&said).map_err(Error::msg).context("--feature-gates")
}

/// Where health is told without TLS, if it is.
///
/// # Errors
/// When that is no address.
pub(super) fn health_address(kubelet: &KubeletConfiguration) -> Result<Option<SocketAddr>> {
    let Some(port) = u16::try_from(kubelet.number("healthzPort")).ok().filter(|port| *port > 0) else { return Ok(None) };
    let address = kubelet.text("healthzBindAddress");
    let ip: IpAddr = address.parse().with_context(|| format!("healthzBindAddress {address:?} is no address"))?;
    Ok(Some(SocketAddr::new(ip, port)))
}

/// The files of the certificate that the kubelet's server shows, and of its key, where they are named.
///
/// # Errors
/// When one is named alone.
pub(super) fn serving_files(kubelet: &KubeletConfiguration) -> Result<Option<CertificateFiles>> {
    match (kubelet.text("tlsCertFile"), kubelet.text("tlsPrivateKeyFile")) {
        ("", "") => Ok(None),
        ("", _) | (_, "") => bail!("tlsCertFile and tlsPrivateKeyFile have no effect without each other"),
        (certificate, key) => Ok(Some(CertificateFiles { certificate: certificate.into(), key: key.into() })),
    }
}

/// The file of the authorities of the certificates that clients of the kubelet's server show, where one is named.
pub(super) fn client_authorities(kubelet: &KubeletConfiguration) -> Option<AuthoritiesFile> {
    let file = kubelet.text("authentication.x509.clientCAFile");
    (!file.is_empty()).then(|| AuthoritiesFile(file.into()))
}

/// Which versions of TLS and which cipher suites the kubelet's server takes.
///
/// # Errors
/// When there is no such version or suite.
pub(super) fn tls_policy(kubelet: &KubeletConfiguration) -> Result<TlsPolicy> {
    TlsPolicy::of(kubelet.text("tlsMinVersion"), &kubelet.texts("tlsCipherSuites")).map_err(Error::msg).context("tlsMinVersion and tlsCipherSuites")
}

/// The configurations of registry clients that this process finds.
fn registry_clients(root: &Path) -> ClientFiles {
    let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    ClientFiles::of_node(root, env::current_dir().ok().as_deref(), home.as_deref())
}

/// How many pods a node with so many CPUs runs.
fn most_pods(kubelet: &KubeletConfiguration, cpus: usize) -> u32 {
    let number = |path: &str| u32::try_from(kubelet.number(path)).unwrap_or(0);
    let (most, per_core) = (number("maxPods"), number("podsPerCore"));
    if per_core == 0 { most } else { most.min(per_core.saturating_mul(u32::try_from(cpus).unwrap_or(u32::MAX))) }
}

fn pull_policy(kubelet: &KubeletConfiguration) -> PullPolicy {
    let number = |path: &str| u32::try_from(kubelet.number(path)).ok().and_then(NonZeroU32::new);
    PullPolicy {
        parallel: if kubelet.flag("serializeImagePulls") { NonZeroU32::new(1) } else { number("maxParallelImagePulls") },
        rate: rate(kubelet, "registryPullQPS", "registryBurst"),
    }
}

/// How often something may be done; `None` for any number.
fn rate(kubelet: &KubeletConfiguration, per_second: &str, burst: &str) -> Option<Rate> {
    let number = |path: &str| u32::try_from(kubelet.number(path)).ok();
    Some(Rate { per_second: NonZeroU32::new(number(per_second)?)?, burst: number(burst)? })
}

/// How limits of CPU time bind.
fn cpu_time(kubelet: &KubeletConfiguration) -> CpuTime {
    let period = i64::try_from(kubelet.duration("cpuCFSQuotaPeriod").as_micros()).unwrap_or(i64::MAX);
    CpuTime { is_limited: kubelet.flag("cpuCFSQuota"), period }
}

fn log_policy(kubelet: &KubeletConfiguration) -> Result<LogPolicy> {
    let size = Quantity::parse(kubelet.text("containerLogMaxSize")).context("containerLogMaxSize")?;
    Ok(LogPolicy {
        max_size: size.value().max(1).unsigned_abs(),
        max_files: usize::try_from(kubelet.number("containerLogMaxFiles")).unwrap_or(2),
        period: kubelet.duration("containerLogMonitorInterval"),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    fn said(text: &str) -> KubeletConfiguration {
        KubeletConfiguration::parse(&format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{text}")).expect("parses")
    }

    #[test]
    fn a_node_runs_as_many_pods_as_it_may_and_its_cpus_do() {
        assert_eq!((most_pods(&said(""), 2), most_pods(&said("maxPods: 30\n"), 2)), (110, 30));
        assert_eq!((most_pods(&said("podsPerCore: 10\n"), 2), most_pods(&said("podsPerCore: 10\nmaxPods: 15\n"), 2)), (20, 15));
    }

    #[test]
    fn images_are_pulled_as_many_at_once_as_may_be() {
        let parallel = |text: &str| pull_policy(&said(text)).parallel.map(NonZeroU32::get);
        assert_eq!((parallel(""), parallel("serializeImagePulls: true\n"), parallel("maxParallelImagePulls: 3\n")), (None, Some(1), Some(3)));
        let rate = |text: &str| pull_policy(&said(text)).rate.map(|rate| (rate.per_second.get(), rate.burst));
        assert_eq!((rate("registryPullQPS: 5\n"), rate("registryPullQPS: 5\nregistryBurst: 7\n"), rate("")), (Some((5, 10)), Some((5, 7)), None));
    }

    #[test]
    fn certificates_and_authorities_are_those_of_files_where_some_are_named() {
        let place = tempfile::tempdir().expect("a directory");
        let file = |name: &str| place.path().join(name).display().to_string();
        fs::write(file("ca"), "CA").expect("writes");
        assert_eq!((serving_files(&said("")).expect("works"), client_authorities(&said(""))), (None, None));
        let named = said(&format!(
            "tlsCertFile: {}\ntlsPrivateKeyFile: {}\nauthentication: {{x509: {{clientCAFile: {}}}}}\n",
            file("crt"),
            file("key"),
            file("ca")
        ));
        let files = CertificateFiles { certificate: file("crt").into(), key: file("key").into() };
        assert_eq!(serving_files(&named).expect("works"), Some(files));
        let authorities = client_authorities(&named).expect("is named");
        assert_eq!(authorities.read().expect("is there"), "CA");
        assert!(authorities.believe(&TlsPolicy::default()).is_err(), "it is no certificate");
        assert!(serving_files(&said("tlsCertFile: /c\n")).is_err());
        let nowhere = client_authorities(&said("authentication: {x509: {clientCAFile: /nowhere/ca}}\n")).expect("is named");
        assert!(nowhere.read().is_err());
    }

    #[test]
    fn health_is_told_without_tls_where_a_port_is_named() {
        let address = |text: &str| health_address(&said(text)).map(|address| address.map(|address| address.to_string()));
        assert_eq!(address("").expect("works"), None);
        assert_eq!(address("healthzPort: 10248\n").expect("works"), Some("127.0.0.1:10248".into()));
        assert_eq!(address("healthzPort: 1\nhealthzBindAddress: '::'\n").expect("works"), Some("[::]:1".into()));
        assert!(address("healthzPort: 1\nhealthzBindAddress: here\n").is_err());
    }

    #[test]
    fn the_server_takes_no_older_tls_than_is_said() {
        assert_eq!(tls_policy(&said("")).expect("works"), TlsPolicy::default());
        assert_ne!(tls_policy(&said("tlsMinVersion: VersionTLS13\n")).expect("works"), TlsPolicy::default());
        let odd = tls_policy(&said("tlsCipherSuites: [TLS_NOPE]\n")).expect_err("no such suite");
        assert!(format!("{odd:#}").ends_with("Cipher suite TLS_NOPE not supported or doesn't exist"), "{odd:#}");
    }

    #[test]
    fn limits_of_cpu_time_bind_in_the_nodes_period() {
        assert_eq!(cpu_time(&said("")), CpuTime::default());
        assert_eq!(cpu_time(&said("cpuCFSQuotaPeriod: 5ms\n")), CpuTime { is_limited: true, period: 5000 });
        assert!(!cpu_time(&said("cpuCFSQuota: false\n")).is_limited);
    }

    #[test]
    fn logs_are_as_large_as_they_may_be() {
        assert_eq!(log_policy(&said("")).expect("works"), LogPolicy::default());
        let small = log_policy(&said("containerLogMaxSize: 1Mi\ncontainerLogMaxFiles: 2\ncontainerLogMonitorInterval: 3s\n")).expect("works");
        assert_eq!(small, LogPolicy { max_size: 1 << 20, max_files: 2, period: Duration::from_secs(3) });
    }
}
