//! Brings up the control plane: store, API server, HTTPS.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Error, Result, bail};
use troupe_actors::{
    apiserver::{ApiServer, ApiServerOptions, Bootstrap, Listening, Trust},
    insight::FrontDoor,
    runtime::system::System,
};
use troupe_api::{
    auth::{
        kubeconfig::Kubeconfig,
        named_certificates::at_address,
        pki::{KeyedCertificate, LeafSpec, Pki},
        request_header::{CLIENT_NAME, RequestHeaders},
        tls::{self, RenewableCertificate},
        tls_policy::TlsPolicy,
        tokens::Issuer,
    },
    features::{COORDINATED_LEADER_ELECTION, FeatureGates, REMOTE_REQUEST_HEADER_UID, WORKLOAD_WITH_JOB},
    memory::ProcessMemory,
    resources::{Resource, builtin, enablement::RuntimeConfig, flow_bootstrap, optional},
    version::VersionInfo,
};
use troupe_api_server::{
    admission::{DefaultTolerationSeconds, Pipeline, Selection},
    encryption::EncryptionHealth,
    flow::{Classifier, Sampler},
    http::{self, AllowedOrigins, HealthCheck, HealthGroups, HttpOptions, HttpServerHandle},
    store::Store,
};

use super::{
    Doors, doors,
    identity::{self, Outside},
    serving,
};
use crate::config::{Config, machine_addresses, port_range};

/// The certificates of the control plane.
pub struct Certificates {
    pub ca_pem: String,
    /// Signs what the CSR API is asked for.
    pub ca_key_pem: String,
    pub serving: KeyedCertificate,
    pub admin: KeyedCertificate,
    /// Shown by the API server to kubelets.
    pub kubelet_client: KeyedCertificate,
    pub kubelet_serving: KeyedCertificate,
    /// Vouches for front proxies, which say in headers who calls.
    pub front_proxy_ca_pem: String,
    /// Shown by the API server, as one of them, to the servers of API services.
    pub front_proxy_client: KeyedCertificate,
    /// What the components outside of the API server's process call with.
    pub controllers: KeyedCertificate,
    pub scheduler: KeyedCertificate,
    pub node: KeyedCertificate,
    /// PKCS#8 PEM that signs service-account tokens.
    pub service_account_key: String,
}

/// Those that are shown to others: always the newest.
#[derive(Clone)]
pub struct Shown {
    pub serving: Arc<RenewableCertificate>,
    pub kubelet_client: Arc<RenewableCertificate>,
    pub kubelet_serving: Arc<RenewableCertificate>,
    pub front_proxy_client: Arc<RenewableCertificate>,
}

impl Shown {
    pub fn of(certificates: &Certificates) -> Result<Self> {
        let shown =
            Shown { serving: Arc::default(), kubelet_client: Arc::default(), kubelet_serving: Arc::default(), front_proxy_client: Arc::default() };
        shown.update(certificates)?;
        Ok(shown)
    }

    /// Shows these from now on.
    pub fn update(&self, certificates: &Certificates) -> Result<()> {
        self.serving.show(&certificates.serving).context("the API server's certificate is unusable")?;
        self.front_proxy_client.show(&certificates.front_proxy_client).context("the API server's certificate as a front proxy is unusable")?;
        self.kubelet_client.show(&certificates.kubelet_client).context("the API server's client certificate is unusable")?;
        self.kubelet_serving.show(&certificates.kubelet_serving).context("the kubelet's certificate is unusable")
    }
}

/// Reads or makes the certificates.
pub fn certificates(config: &Config) -> Result<Certificates> {
    let pki = Pki::open(&config.certificates_dir).context("cannot open the cluster's certificates")?.lasting(config.certificate_validity);
    let proxies = Pki::open_front_proxy(&config.certificates_dir).context("cannot open the certificates of front proxies")?;
    let proxies = proxies.lasting(config.certificate_validity);
    let leaf = |spec: LeafSpec| pki.leaf(&spec).context("cannot make a certificate");
    let mut dns_names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(str::to_owned).to_vec();
    dns_names.extend([format!("kubernetes.default.svc.{}", config.cluster_domain), config.node_name.clone()]);
    let mut ips: Vec<IpAddr> = vec![config.kubernetes_service_ip(), config.advertise_address];
    ips.extend(config.node_ips.iter().chain(config.loopback()));
    for name in &config.cert_sans {
        match name.parse() {
            Ok(ip) => ips.push(ip),
            Err(_) => dns_names.push(name.clone()),
        }
    }
    let node_user = format!("system:node:{}", config.node_name);
    let client = |file: &str, name: &str, group: &str| LeafSpec {
        file: file.into(),
        common_name: name.into(),
        organizations: Some(group.to_owned()).filter(|group| !group.is_empty()).into_iter().collect(),
        client: true,
        ..LeafSpec::default()
    };
    Ok(Certificates {
        ca_pem: pki.ca_pem().to_owned(),
        ca_key_pem: pki.ca_key_pem().context("cannot read the CA's key")?,
        serving: leaf(LeafSpec {
            file: "apiserver".into(),
            common_name: "kube-apiserver".into(),
            dns_names,
            ips,
            server: true,
            ..LeafSpec::default()
        })?,
        admin: leaf(client("admin", "kubernetes-admin", "system:masters"))?,
        front_proxy_ca_pem: proxies.ca_pem().to_owned(),
        front_proxy_client: proxies.leaf(&client(CLIENT_NAME, CLIENT_NAME, "")).context("cannot make a certificate")?,
        kubelet_client: leaf(client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"))?,
        controllers: leaf(client("controller-manager", "system:kube-controller-manager", ""))?,
        scheduler: leaf(client("scheduler", "system:kube-scheduler", ""))?,
        node: leaf(client("node", &node_user, "system:nodes"))?,
        kubelet_serving: leaf(LeafSpec {
            file: "kubelet".into(),
            common_name: node_user.clone(),
            organizations: vec!["system:nodes".into()],
            dns_names: vec![config.node_name.clone(), "localhost".into()],
            ips: config.node_ips.iter().chain(config.loopback()).collect(),
            server: true,
            client: true,
        })?,
        service_account_key: pki.service_account_key().context("cannot make the token key")?,
    })
}

/// The kubeconfigs of the components, written beside the administrator's.
pub const CONTROLLERS: &str = "controller-manager.kubeconfig";
pub const SCHEDULER: &str = "scheduler.kubeconfig";
pub const NODE: &str = "node.kubeconfig";

/// Writes the administrator's kubeconfig.
pub fn write_admin_kubeconfig(config: &Config, certificates: &Certificates) -> Result<()> {
    write_kubeconfig(config, certificates, &config.kubeconfig, "troupe", &certificates.admin)
}

/// Writes those of the components that may run outside of this process.
pub fn write_component_kubeconfigs(config: &Config, certificates: &Certificates) -> Result<()> {
    for (file, identity) in [(CONTROLLERS, &certificates.controllers), (SCHEDULER, &certificates.scheduler), (NODE, &certificates.node)] {
        write_kubeconfig(config, certificates, &config.kubeconfig_beside(file), "troupe", identity)?;
    }
    Ok(())
}

fn write_kubeconfig(config: &Config, certificates: &Certificates, path: &Path, name: &str, identity: &KeyedCertificate) -> Result<()> {
    let host = if config.bind_address.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { config.bind_address };
    let kubeconfig = Kubeconfig {
        server: format!("https://{}", SocketAddr::new(host, config.api_port)),
        ca_pem: certificates.ca_pem.clone(),
        identity: identity.clone(),
    };
    // Whoever reads it looks at it anew when it changes.
    if Kubeconfig::read(path).is_ok_and(|known| known == kubeconfig) {
        return Ok(());
    }
    kubeconfig.write(path, name).with_context(|| format!("cannot write {}", path.display()))
}

/// Starts the API server on a store, waits until its caches are filled, and makes what every cluster has.
pub async fn start_api(
    config: &Config,
    (certificates, shown): (&Certificates, &Shown),
    (issuer, outside): (&Arc<Issuer>, &Arc<Outside>),
    store: Arc<dyn Store>,
    safe: bool,
    system: &System,
) -> Result<Arc<ApiServer>> {
    let mut options = ApiServerOptions::new(store);
    options.system = system.clone();
    options.memory = Arc::new(ProcessMemory::find());
    options.front_proxy = shown.front_proxy_client.clone();
    options.extensions_paused = safe;
    options.kubelets = Some(super::node::dialer(shown, &certificates.ca_pem)?);
    options.service_cidrs = config.service_cidr.all();
    if let Some(range) = &config.api.service_node_port_range {
        options.node_ports = port_range(range)?;
    }
    if let Some(seconds) = config.api.event_ttl {
        options.event_ttl = Duration::from_secs(seconds);
    }
    let ports = [config.api_port].into_iter().chain(config.component_port).collect();
    options.listening = Listening { ports, addresses: Arc::new(machine_addresses) };
    options.features = features(config)?;
    options.features.publish();
    for gate in options.features.without_effect() {
        tracing::warn!(gate, "this feature gate makes no difference here");
    }
    options.admission = admission(config)?;
    options.resources = resources(config)?;
    identity::configure(&mut options, issuer.clone(), outside.clone());
    let api = ApiServer::start(options).await.context("the API server cannot read its store")?;
    let advertise = Some((config.advertise_address, config.api_port));
    let mut objects = flow_bootstrap::objects();
    objects.extend(identity::objects(&features(config)?));
    let trust = Trust { client_ca: Some(certificates.ca_pem.clone()), proxy_ca: Some(certificates.front_proxy_ca_pem.clone()) };
    let bootstrap = Bootstrap { advertise, trust, objects };
    api.bootstrap(&bootstrap).await.context("the API server cannot make what every cluster has")?;
    Ok(api)
}

/// Whether all that is chosen by flags is there, and the files that configure it are usable.
///
/// # Errors
/// When something is not.
pub(super) fn check(config: &Config) -> Result<()> {
    resources(config)?;
    kubelet_authority(config)?;
    tls_policy(config)?;
    serving::check(config)?;
    admission(config).map(drop)
}

/// The authorities of kubelets' certificates where others than the cluster's own are named.
///
/// # Errors
/// When the file cannot be read.
pub fn kubelet_authority(config: &Config) -> Result<Option<String>> {
    let read =
        |file: &Path| std::fs::read_to_string(file).with_context(|| format!("--kubelet-certificate-authority {} is not readable", file.display()));
    config.kubelet_certificate_authority.as_deref().map(read).transpose()
}

/// The admission plugins that are chosen, as they are configured.
fn admission(config: &Config) -> Result<Pipeline> {
    let features = features(config)?;
    let chosen = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    let selection = Selection::new(&chosen(&config.api.enable_admission_plugins), &chosen(&config.api.disable_admission_plugins))?;
    let file = config.admission_control_config_file.as_deref();
    let usual = DefaultTolerationSeconds::default();
    let stay = DefaultTolerationSeconds {
        not_ready: config.api.default_not_ready_toleration_seconds.map_or(usual.not_ready, i64::from),
        unreachable: config.api.default_unreachable_toleration_seconds.map_or(usual.unreachable, i64::from),
    };
    Pipeline::from_file(selection.without(features.idle_plugins()), stay, file).with_context(|| match file {
        Some(file) => format!("the admission configuration {} is unusable", file.display()),
        None => "the admission plugins cannot run".to_owned(),
    })
}

/// Features that go by kinds which are off by default: feature, group, version, plural name.
const NEEDED: [(&str, &str, &str, &str); 2] = [
    (COORDINATED_LEADER_ELECTION, "coordination.k8s.io", "v1beta1", "leasecandidates"),
    (WORKLOAD_WITH_JOB, "scheduling.k8s.io", "v1alpha2", "workloads"),
];

/// The built-in resources, with the versions that are served.
fn resources(config: &Config) -> Result<Vec<Arc<Resource>>> {
    let said = RuntimeConfig::parse(&config.api.runtime_config.clone().unwrap_or_default());
    let features = features(config)?;
    let applied = said.and_then(|said| said.apply(builtin(), optional(|feature| features.is_on(feature))));
    let resources = applied.map_err(Error::msg).context("--runtime-config")?;
    for (feature, group, version, plural) in NEEDED {
        let is_served = resources.iter().any(|row| *row.group == *group && *row.plural == *plural && row.serves(version));
        if features.is_on(feature) && !is_served {
            bail!("--feature-gates={feature}=true needs --runtime-config={group}/{version}=true: controllers would wait for {plural} for ever");
        }
    }
    Ok(resources)
}

/// The features that are on.
///
/// # Errors
/// When there is no such feature.
pub fn features(config: &Config) -> Result<FeatureGates> {
    FeatureGates::parse(&config.api.feature_gates.clone().unwrap_or_default()).map_err(Error::msg).context("--feature-gates")
}

/// Which versions of TLS and which cipher suites the API server takes.
///
/// # Errors
/// When there is no such version or suite.
pub fn tls_policy(config: &Config) -> Result<TlsPolicy> {
    let (version, suites) = (config.api.tls_min_version.as_deref().unwrap_or_default(), config.api.tls_cipher_suites.clone().unwrap_or_default());
    TlsPolicy::of(version, &suites).map_err(Error::msg).context("--tls-min-version and --tls-cipher-suites")
}

/// Requests at once: what upstream's two limits are together.
fn most_in_flight(config: &Config) -> usize {
    let said = [(config.api.max_requests_inflight, 400), (config.api.max_mutating_requests_inflight, 200)];
    said.into_iter().map(|(said, usual)| usize::try_from(said.unwrap_or(usual)).unwrap_or(usize::MAX)).fold(0, usize::saturating_add)
}

/// What this build calls itself.
pub fn version() -> VersionInfo {
    let commit = option_env!("TROUPE_COMMIT").unwrap_or("unknown");
    VersionInfo::of_build(env!("CARGO_PKG_VERSION"), commit, option_env!("TROUPE_DATE").unwrap_or("1970-01-01T00:00:00Z"))
}

/// What the front door is made of.
pub struct FrontDoorParts<'a> {
    pub shown: &'a Shown,
    pub ca_pem: &'a str,
    pub front_proxy_ca_pem: &'a str,
    pub issuer: &'a Issuer,
    pub outside: &'a Outside,
    pub doors: Doors,
    /// Where services keep the keys of what lies in the store.
    pub encryption: Option<EncryptionHealth>,
}

/// Serves the API over HTTPS.
pub fn serve(config: &Config, api: &Arc<ApiServer>, parts: FrontDoorParts<'_>, system: &System) -> Result<HttpServerHandle> {
    let FrontDoorParts { shown, ca_pem, front_proxy_ca_pem, issuer, outside, doors, encryption } = parts;
    let address = SocketAddr::new(config.bind_address, config.api_port);
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let authorities = format!("{ca_pem}{front_proxy_ca_pem}");
    let (certificates, by_address) = serving::certificates(config, shown.serving.clone())?;
    let certificates = Arc::new(certificates);
    let tls = tls::renewable_server_config(certificates.clone(), &authorities, &tls_policy(config)?);
    let tls = tls.context("the API server's certificate is unusable")?;
    let tls_by_address = by_address.into_iter().map(|(address, shown)| (address, Arc::new(at_address(&tls, &certificates, shown)))).collect();
    let request_headers = RequestHeaders::new(front_proxy_ca_pem, ca_pem, vec![CLIENT_NAME.to_owned()]);
    let authenticator = identity::authenticator(issuer, outside, api.listers());
    let service = Arc::new(FrontDoor::new(api.clone(), system.clone()));
    let mut options = HttpOptions::new(Arc::new(tls), service, authenticator, identity::authorizer_of(api), version());
    options.tls_by_address = tls_by_address;
    (options.anonymous, options.anonymous_paths) = outside.anonymous();
    options.features = features(config)?;
    options.advertise = SocketAddr::new(config.advertise_address, config.api_port).to_string();
    let request_headers = request_headers.context("the authority of front proxies is unusable")?;
    options.request_headers = Some(Arc::new(request_headers.taking_uids(options.features.is_on(REMOTE_REQUEST_HEADER_UID))));
    options.aggregator = Some(api.aggregator());
    options.health = api.health_checks();
    options.health.extend(encryption.map(|health| {
        HealthCheck::new("kms-providers", HealthGroups::ALL, move || {
            let health = health.clone();
            async move { health.check().await }
        })
    }));
    options.openapi_ahead = true;
    options.routes = doors.routes;
    options.connect = doors.connect;
    options.audit = doors.audit;
    options.tracer = system.recorder().tracer().cloned();
    options.memory = api.memory();
    options.max_in_flight = most_in_flight(config);
    if let Some(seconds) = config.api.request_timeout {
        options.request_timeout = Duration::from_secs(seconds);
    }
    if let Some(seconds) = config.api.min_request_timeout {
        options.min_watch_timeout = Duration::from_secs(seconds);
    }
    options.goaway_chance = config.api.goaway_chance.as_ref().and_then(|chance| chance.parse().ok()).unwrap_or(0.0);
    options.retry_after_while_stopping = config.api.shutdown_send_retry_after.unwrap_or(false);
    options.strict_transport_security = config.api.strict_transport_security_directives.as_ref().map(|directives| directives.join("; "));
    let origins = config.api.cors_allowed_origins.as_deref().map(AllowedOrigins::new).transpose();
    options.cors = origins.map_err(Error::msg)?.map(Arc::new);
    let flow = Arc::new(Classifier::new(api.listers(), options.max_in_flight));
    options.routes.push(doors::flow_control(flow.clone(), options.clock.clone()));
    // It ends with the process.
    tokio::spawn(Sampler::new(flow.clone()).run());
    options.flow = Some(flow);
    http::serve(listener, options).context("the API server cannot serve")
}
