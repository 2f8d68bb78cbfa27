//! The control plane: API server, controllers, scheduler, or some of them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use troupe_actors::{
    apiserver::ApiServer,
    controllers::{
        leader_election,
        server_identity::{Leave, ServerIdentity, lease_name},
    },
    insight::{Credentials, Insight},
    metrics::Sources,
    runtime::{
        cache::Caches,
        host::UnitAddr,
        leader::{self, Candidacy, Candidate, Release, Start, Terms},
        system::{System, TaskHandle},
    },
    scheduler::DEFAULT_SCHEDULER,
    serving::LocalGate,
};
use troupe_api::{
    ApiService,
    auth::tokens::Issuer,
    certificates::CertificateAuthority,
    features::{COORDINATED_LEADER_ELECTION, FeatureGates},
    meta::Cause,
    resources::optional,
};
use troupe_api_client::{
    Client,
    remote::{Access, RemoteApi, RemoteOptions},
};
use troupe_api_server::{audit::AuditLog, http::HttpServerHandle, reloading};

use super::{Launch, Running, election::Identity, reach::Reach};
use crate::{
    config::{Config, ControllerSettings, Part, Settings, refuse_without_effect},
    confinement,
    instance::{self, lasting::Lasting},
    memory, state,
    up::{
        Doors, audit, cluster_info, configuration,
        control_plane::{self, Certificates, FrontDoorParts, Shown},
        controllers::{self, Authority},
        doors, encryption,
        identity::{self, Outside},
        node,
        progress::Progress,
        renewal, spans, zpages,
    },
};

/// What a control plane consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Component {
    Apiserver,
    Controllers,
    Scheduler,
}

impl Component {
    pub const ALL: [Component; 3] = [Component::Apiserver, Component::Controllers, Component::Scheduler];
}

/// `troupe control-plane …`
#[derive(Debug, Args)]
pub struct ControlPlaneArgs {
    #[command(flatten)]
    settings: Settings,
    /// Configuration file; flags win over it [default: /etc/troupe/config.yaml if it exists]
    #[arg(long)]
    config: Option<PathBuf>,
    /// What to run; without apiserver the others use the one that --kubeconfig names
    #[arg(long, value_delimiter = ',', default_value = "apiserver,controllers,scheduler")]
    components: Vec<Component>,
    /// Run the API server alone, with the settings of the last start, to remove what ends the control plane
    #[arg(long)]
    safe: bool,
}

/// Runs `troupe control-plane`.
pub fn run(arguments: ControlPlaneArgs) -> Result<()> {
    // Without an API server here this names the kubeconfig to use; with one it is where the administrator's is written.
    let kubeconfig = arguments.settings.kubeconfig.clone();
    let (components, safe) = (arguments.components, arguments.safe);
    if safe && !components.contains(&Component::Apiserver) {
        bail!("a safe start runs the API server alone, but --components leaves it out");
    }
    let parts = config_parts(&components);
    let mut config = if safe {
        crate::find(arguments.settings, arguments.config.as_deref(), crate::Otherwise::Nothing)?.config
    } else {
        refuse_without_effect(&arguments.settings, &parts)?;
        let settings = arguments.settings.absolute()?.with_file(arguments.config.as_deref())?;
        let lasting = Lasting::of(&settings, &parts)?;
        lasting.with_dns(lasting.with_network(settings)?).resolve()?
    };
    let running = if safe { vec![Component::Apiserver] } else { components };
    if running.contains(&Component::Apiserver) {
        config.check_api_server()?;
    }
    config.of_command = [("components", names(&running)), ("safe", safe.to_string())].map(|(flag, value)| (flag.to_owned(), value)).into();
    configuration::check(&config, &config_parts(&running))?;
    if !running.contains(&Component::Apiserver) {
        for file in kubeconfigs(&config, kubeconfig.as_deref()) {
            Access::read(&file).map(drop).with_context(|| format!("cannot use the kubeconfig {}", file.display()))?;
        }
    }
    confinement::confine_control_plane(&config)?;
    memory::forget_startup_soon();
    let process = format!("{}@{}{}", process_name(&running), config.node_name, if safe { SAFE_MODE } else { "" });
    let launch = Launch { config, daemon: instance::CONTROL_PLANE, parts, safe };
    super::run(launch, process, |config, system| async move {
        let mut progress = Progress::new(None);
        let parts = Parts { components: &running, kubeconfig, safe };
        let mut control_plane = ControlPlane::start(&config, parts, &system, &mut progress).await?;
        control_plane.become_reachable(&config, &running, &system)?;
        if let Some(local) = &control_plane.local {
            control_plane::write_component_kubeconfigs(&config, &local.certificates)?;
            if !safe {
                node::ensure_storage_class(&local.api).await?;
                node::ensure_dns(&config, &local.api).await?;
            }
        }
        progress.done();
        Ok(control_plane)
    })
}

/// Components as `--components` names them.
fn names(components: &[Component]) -> String {
    let name = |component: &Component| Some(component.to_possible_value()?.get_name().to_owned());
    components.iter().filter_map(name).collect::<Vec<_>>().join(",")
}

/// What the name of a process ends with whose controllers, scheduler and node are paused.
pub const SAFE_MODE: &str = " (safe mode)";

/// The parts that take settings.
fn config_parts(components: &[Component]) -> BTreeSet<Part> {
    let has = |component| components.contains(&component);
    let all = [
        (has(Component::Apiserver), Part::ApiServer),
        (has(Component::Controllers), Part::Controllers),
        (has(Component::Scheduler), Part::Scheduler),
        (!has(Component::Apiserver), Part::WithoutApiServer),
    ];
    all.into_iter().filter(|(there, _)| *there).map(|(_, part)| part).collect()
}

/// What a process with these parts is called.
fn process_name(components: &[Component]) -> String {
    let has = |component: &Component| components.contains(component);
    if Component::ALL.iter().all(has) {
        return "control-plane".into();
    }
    let names = [(Component::Apiserver, "apiserver"), (Component::Controllers, "controllers"), (Component::Scheduler, "scheduler")];
    let names: Vec<&str> = names.iter().filter(|(component, _)| has(component)).map(|(_, name)| *name).collect();
    names.join("+")
}

/// Which parts to run, and with whose credentials where the API server is elsewhere.
pub struct Parts<'a> {
    pub components: &'a [Component],
    pub kubeconfig: Option<PathBuf>,
    /// Nothing works beside the API server.
    pub safe: bool,
}

/// A running control plane.
pub struct ControlPlane {
    pub local: Option<LocalApi>,
    /// Keeps the lease of that API server.
    server: Option<UnitAddr<ServerIdentity>>,
    /// Read by the controllers, and by a node in the same process.
    pub caches: Caches,
    candidates: Vec<UnitAddr<Candidate>>,
    identity: Identity,
    services: Services,
    /// Read by the scheduler, where it runs here.
    scheduling: Option<Caches>,
    reach: Option<Reach>,
}

/// The API server of this process.
pub struct LocalApi {
    pub api: Arc<ApiServer>,
    pub certificates: Certificates,
    pub shown: Shown,
    pub issuer: Arc<Issuer>,
    outside: Arc<Outside>,
    http: HttpServerHandle,
    audit: Option<Arc<AuditLog>>,
    /// Sends spans.
    _spans: Option<TaskHandle>,
    advertised: (IpAddr, u16),
    /// How long it goes on after it said that it will end.
    shutdown_delay: Duration,
}

impl LocalApi {
    async fn start(config: &Config, safe: bool, system: &System, progress: &mut Progress) -> Result<Self> {
        reloading::name_server(&lease_name(&config.node_name));
        progress.begin("certificates");
        let certificates = control_plane::certificates(config)?;
        let (issuer, shown) = (identity::issuer(&config.api, &certificates).await?, Shown::of(&certificates)?);
        let outside = Arc::new(Outside::read(config)?);
        progress.begin("state");
        let store = state::open(config).await?;
        progress.begin("API server");
        let spans = spans::of_api_server(config, system)?;
        let (sealed, encryption) = encryption::over(config, store.clone()).await?;
        let api = control_plane::start_api(config, (&certificates, &shown), (&issuer, &outside), sealed, safe, system).await?;
        let metrics = Sources::new(system, Some(&api), control_plane::version());
        let kubelet_ca_pem = control_plane::kubelet_authority(config)?.unwrap_or_else(|| certificates.ca_pem.clone());
        let credentials = Credentials { ca_pem: kubelet_ca_pem.clone(), identity: shown.kubelet_client.clone() };
        let insight = Insight::new(system.clone(), api.listers(), credentials).context("the API server's client certificate is unusable")?;
        let mut routes = doors::routes(config, &issuer, system, &insight, metrics);
        routes.push(doors::backup(store));
        routes.push(doors::announced(api.clone()));
        routes.extend(zpages::routes(config, system, &routes));
        let audit = audit::open(config)?;
        let connect = node::connect(&shown, &kubelet_ca_pem, &api, &control_plane::features(config)?)?;
        let doors = Doors { routes, connect: Some(connect), audit: audit.clone() };
        let parts = FrontDoorParts {
            shown: &shown,
            ca_pem: &certificates.ca_pem,
            front_proxy_ca_pem: &certificates.front_proxy_ca_pem,
            issuer: &issuer,
            outside: &outside,
            doors,
            encryption,
        };
        let http = control_plane::serve(config, &api, parts, system)?;
        control_plane::write_admin_kubeconfig(config, &certificates)?;
        let server = format!("https://{}", SocketAddr::new(config.advertise_address, config.api_port));
        cluster_info::publish(&node::admin_client(&api), &server, &certificates.ca_pem).await?;
        renewal::of_control_plane(config, &shown, system);
        let advertised = (config.advertise_address, config.api_port);
        let shutdown_delay = Duration::from_secs(config.api.shutdown_delay_duration.unwrap_or(0));
        Ok(LocalApi { api, certificates, shown, issuer, outside, http, audit, _spans: spans, advertised, shutdown_delay })
    }

    /// Sends no client of the cluster here any more.
    async fn withdraw(&self) {
        let (address, port) = self.advertised;
        match tokio::time::timeout(Duration::from_secs(3), self.api.withdraw(address, port)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "this API server is advertised until its lease runs out"),
            Err(_) => tracing::warn!("this API server is advertised until its lease runs out"),
        }
    }

    /// Who may ask a kubelet of this process.
    pub fn gate(&self) -> Arc<LocalGate> {
        Arc::new(LocalGate {
            authenticator: identity::authenticator(&self.issuer, &self.outside, self.api.listers()),
            authorizer: identity::authorizer_of(&self.api),
        })
    }
}

/// What the components act through.
struct Services {
    controllers: Arc<dyn ApiService>,
    scheduler: Arc<dyn ApiService>,
    authority: Authority,
    /// Both are the same one.
    shared: bool,
}

impl Services {
    fn local(local: &LocalApi) -> Result<Self> {
        let ca_pem = local.certificates.ca_pem.clone();
        let signer = CertificateAuthority::new(&ca_pem, &local.certificates.ca_key_pem).context("the CA cannot sign certificates")?;
        let authority = Authority { ca_pem, signer: Some(Arc::new(signer)), issuer: Some(local.issuer.clone()) };
        Ok(Services { controllers: local.api.clone(), scheduler: local.api.clone(), authority, shared: true })
    }

    fn remote(config: &Config, kubeconfig: Option<&Path>) -> Result<Self> {
        let [for_controllers, for_scheduler] = kubeconfigs(config, kubeconfig);
        let remote = |options: RemoteOptions| {
            let path = options.kubeconfig.clone();
            RemoteApi::new(options).with_context(|| format!("cannot use the kubeconfig {}", path.display()))
        };
        let (access, _) = Access::read(&for_controllers).with_context(|| format!("cannot use the kubeconfig {}", for_controllers.display()))?;
        let controllers = remote(RemoteOptions { account_tokens: true, ..elsewhere(config, &for_controllers, "kube-controller-manager") })?;
        // They collect garbage, count quotas and empty namespaces of custom resources too.
        controllers.follow_discovery();
        Ok(Services {
            controllers: Arc::new(controllers),
            scheduler: Arc::new(remote(of_scheduler(config, &for_scheduler, &control_plane::features(config)?))?),
            authority: Authority {
                signer: signer_on_this_machine(config, &access.ca_pem)?,
                ca_pem: access.ca_pem,
                issuer: identity::issuer_on_this_machine(config)?,
            },
            shared: false,
        })
    }
}

/// How a component reaches an API server elsewhere.
fn elsewhere(config: &Config, kubeconfig: &Path, agent: &str) -> RemoteOptions {
    let user_agent = format!("{agent}/{}", env!("CARGO_PKG_VERSION"));
    RemoteOptions { servers: config.api_servers.clone(), user_agent, ..RemoteOptions::new(kubeconfig) }
}

/// How the scheduler does. It follows no discovery, so it is told of the kinds of features that are on.
fn of_scheduler(config: &Config, kubeconfig: &Path, features: &FeatureGates) -> RemoteOptions {
    RemoteOptions { also: optional(|feature| features.is_on(feature)), ..elsewhere(config, kubeconfig, "kube-scheduler") }
}

/// Those of controllers and scheduler that have their API server elsewhere.
fn kubeconfigs(config: &Config, named: Option<&Path>) -> [PathBuf; 2] {
    [control_plane::CONTROLLERS, control_plane::SCHEDULER].map(|usual| named.map_or_else(|| config.kubeconfig_beside(usual), Path::to_path_buf))
}

/// The cluster's CA with its key, where the certificates are on this machine.
fn signer_on_this_machine(config: &Config, ca_pem: &str) -> Result<Option<Arc<CertificateAuthority>>> {
    let key = config.certificates_dir.join("ca.key");
    if !key.exists() {
        return Ok(None);
    }
    let key_pem = std::fs::read_to_string(&key).with_context(|| format!("cannot read {}", key.display()))?;
    let signer = CertificateAuthority::new(ca_pem, &key_pem).context("the CA cannot sign certificates")?;
    Ok(Some(Arc::new(signer)))
}

impl ControlPlane {
    /// Starts the parts; controllers and scheduler begin to work when they are elected.
    pub async fn start(config: &Config, parts: Parts<'_>, system: &System, progress: &mut Progress) -> Result<Self> {
        let has = |component| parts.components.contains(&component);
        // Before anything is started that it would stop.
        let scheduling = has(Component::Scheduler).then(|| controllers::scheduling(config)).transpose()?;
        let local = if has(Component::Apiserver) { Some(LocalApi::start(config, parts.safe, system, progress).await?) } else { None };
        progress.begin("controllers and scheduler");
        let services = match &local {
            Some(local) => Services::local(local)?,
            None => Services::remote(config, parts.kubeconfig.as_deref())?,
        };
        let identity = Identity::claim(&config.data_dir, &config.node_name)?;
        let caches = Caches::new(system.clone(), controllers::manager_client(services.controllers.clone()));
        let beside = local.as_ref().filter(|_| !parts.safe);
        let server = beside.map(|local| controllers::start_beside_server(config, &local.outside, &services.controllers, &caches, system));
        let (terms, mut candidates) = (terms(&config.controllers), Vec::new());
        let features = control_plane::features(config)?;
        let coordinated = features.is_on(COORDINATED_LEADER_ELECTION);
        if coordinated && beside.is_some() {
            let (service, read, running) = (services.controllers.clone(), caches.clone(), system.clone());
            let start: Start = Arc::new(move |service| controllers::start_elections(&service, &read, &running));
            let client = controllers::server_client(service.clone());
            let election =
                Election { lease: leader_election::LEASE, event_source: leader_election::LEASE, terms: Terms::default(), coordinated: false };
            candidates.push(stand(election, &identity, client, service, start, system));
        }
        if has(Component::Controllers) {
            let (config, authority, read, running) = (config.clone(), services.authority.clone(), caches.clone(), system.clone());
            features.publish();
            let start: Start = Arc::new(move |service| controllers::start(&config, &features, &authority, &service, &read, &running));
            let client = controllers::manager_client(services.controllers.clone());
            let election = Election { lease: controllers::MANAGER, event_source: controllers::MANAGER, terms, coordinated };
            candidates.push(stand(election, &identity, client, services.controllers.clone(), start, system));
        }
        let mut read_by_scheduler = None;
        if let Some(make) = scheduling {
            let client = controllers::scheduler_client(services.scheduler.clone());
            let read = if services.shared { caches.clone() } else { Caches::new(system.clone(), client.clone()) };
            read_by_scheduler = Some(read.clone());
            let running = system.clone();
            let start: Start = Arc::new(move |service| controllers::start_scheduler(&service, &read, make.clone(), &running));
            let election = Election { lease: "kube-scheduler", event_source: DEFAULT_SCHEDULER, terms, coordinated };
            candidates.push(stand(election, &identity, client, services.scheduler.clone(), start, system));
        }
        Ok(ControlPlane { local, server, caches, candidates, identity, services, scheduling: read_by_scheduler, reach: None })
    }

    /// Lets the API servers of the cluster look inside this process, where no node in it does that.
    pub fn become_reachable(&mut self, config: &Config, components: &[Component], system: &System) -> Result<()> {
        let identity = self.identity.name();
        self.reach = Some(match &self.local {
            Some(local) => Reach::of_api_server(config, node::admin_client(&local.api), &identity, system),
            None => {
                let controllers = components.contains(&Component::Controllers);
                let client = if controllers {
                    controllers::manager_client(self.services.controllers.clone())
                } else {
                    controllers::scheduler_client(self.services.scheduler.clone())
                };
                let parts = (controllers, self.scheduling.clone());
                Reach::of_components(config, parts, client, &self.services.authority.ca_pem, &identity, system)?
            }
        });
        Ok(())
    }
}

/// The times of elections, which were looked at when the settings were.
fn terms(said: &ControllerSettings) -> Terms {
    let usual = Terms::default();
    let seconds = |given: Option<u64>, usual| given.map_or(usual, Duration::from_secs);
    Terms {
        lease: seconds(said.leader_elect_lease_duration, usual.lease),
        renew: seconds(said.leader_elect_renew_deadline, usual.renew),
        retry: seconds(said.leader_elect_retry_period, usual.retry),
    }
}

/// Who leads, by a lease.
struct Election {
    lease: &'static str,
    event_source: &'static str,
    terms: Terms,
    /// Whether an API server chooses the leader.
    coordinated: bool,
}

/// Stands for a lease. Where an API server chooses who holds it each component has a name of its own.
fn stand(
    Election { lease, event_source, terms, coordinated }: Election,
    identity: &Identity,
    client: Client,
    service: Arc<dyn ApiService>,
    start: Start,
    system: &System,
) -> UnitAddr<Candidate> {
    let identity: Arc<str> = if coordinated { format!("{}-{lease}", identity.name()).into() } else { identity.name() };
    let coordinated = coordinated.then(|| leader::of_version(lease, &control_plane::version()));
    leader::run(system, Candidacy { lease, event_source, identity, terms, coordinated, client, service, start })
}

impl Running for ControlPlane {
    async fn stop(self) {
        for candidate in &self.candidates {
            // One that does not answer keeps its lease until that runs out.
            let _ = tokio::time::timeout(Duration::from_secs(3), candidate.ask(Release, Cause::default())).await;
        }
        if let Some(reach) = &self.reach {
            reach.end().await;
        }
        if let Some(server) = &self.server {
            // One that cannot be removed in time runs out.
            let _ = tokio::time::timeout(Duration::from_secs(3), server.ask(Leave, Cause::default())).await;
        }
        if let Some(local) = &self.local {
            local.withdraw().await;
            // Load balancers see that it is not ready, and clients go elsewhere.
            tokio::time::sleep(local.shutdown_delay).await;
            local.http.stop().await;
            if let Some(audit) = &local.audit {
                audit.close();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_told_as_they_are_chosen() {
        assert_eq!(names(&[Component::Controllers, Component::Apiserver]), "controllers,apiserver");
    }

    #[test]
    fn a_scheduler_elsewhere_knows_the_kinds_of_features_that_are_on() {
        let settings = Settings { node_ip: Some(IpAddr::from([192, 0, 2, 7]).into()), node_name: Some("one".into()), ..Settings::default() };
        let config = settings.resolve().expect("resolves");
        let known = |gates: &[&str]| {
            let gates: Vec<String> = gates.iter().map(|gate| (*gate).to_owned()).collect();
            let options = of_scheduler(&config, Path::new("/k"), &FeatureGates::parse(&gates).expect("there are such features"));
            options.also.iter().map(|row| row.plural.to_string()).collect::<Vec<_>>()
        };
        assert!(known(&[]).is_empty());
        assert_eq!(known(&["CoordinatedLeaderElection=true", "GenericWorkload=true"]), ["podgroups", "workloads", "leasecandidates"]);
    }

    #[test]
    fn elections_have_upstreams_times_unless_others_are_said() {
        let said = ControllerSettings { leader_elect_lease_duration: Some(60), ..ControllerSettings::default() };
        let Terms { lease, renew, retry } = terms(&said);
        assert_eq!([lease, renew, retry].map(|time| time.as_secs()), [60, 10, 2]);
    }
}
