//! The node: kubelet, service proxy, pod network.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use ipnetwork::IpNetwork;
use k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle;
use troupe_actors::{
    controllers::node_ipam::ClusterRange,
    kubelet::{
        Kubelet,
        certificates::{CertificateKeeper, Holder, KeeperOptions, KubeconfigHolder, Purpose, ServingHolder},
    },
    load_balancer::Announcer,
    network_policy::{EveryGate, FreshGate, NetworkPolicies, OpenGate, PodGate, cluster::ClusterNetworkPolicy},
    overlay::Overlay,
    proxy::{
        Proxy,
        health::{PlainHealth, ProxyHealth},
    },
    reachability::Reachability,
    runtime::{
        cache::Caches,
        events::EventRecorder,
        host::UnitAddr,
        system::{System, TaskHandle},
    },
    serving::{DelegatingGate, Gate, LocalGate, ServerHandle},
};
use troupe_api::{
    auth::{
        bootstrap_tokens::BootstrapToken,
        chain::{AuthenticatorChain, PrivilegedGroups},
        kubeconfig::Kubeconfig,
        pki::{KeyedCertificate, LeafSpec, Pki},
        tls::RenewableCertificate,
        x509::X509Authenticator,
    },
    certificates::Draft,
    meta::ObjectKey,
    resources::optional,
};
use troupe_api_client::{
    Client,
    remote::{Access, RemoteApi, RemoteOptions},
};
use troupe_net::{
    cni::{
        announce::HostPodAddresses,
        links::{NoPodLinks, PodLinks},
    },
    conntrack::HostConntrack,
    netlink::Netlink,
};

use super::{Launch, Running, hollow, lock_file::LockFile, runtime};
use crate::{
    config::{Cni, Config, Part, PerFamily, Settings, refuse_without_effect},
    confinement,
    instance::{
        self,
        claim::{self, Claimant},
        lasting::Lasting,
    },
    join::{self, Invitation, NodeIdentity},
    memory,
    up::{
        configuration, control_plane, network, node,
        preflight::{self, report},
        progress::Progress,
        renewal, spans, sweep,
    },
};

/// `troupe node …`
#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(flatten)]
    settings: Settings,
    /// Configuration file; flags win over it [default: /etc/troupe/config.yaml if it exists]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Use no API server: run the pods of the manifest folder and nothing else
    #[arg(long)]
    standalone: bool,
    /// The API server of the cluster to join, such as https://10.0.0.1:6443; not needed once joined
    #[arg(long, value_name = "URL", requires = "token", conflicts_with = "standalone")]
    join: Option<String>,
    /// The token that invites this machine (troupe token create makes one)
    #[arg(long, value_name = "ID.SECRET", requires = "join")]
    token: Option<BootstrapToken>,
    /// The hash of the cluster's CA, so that no other cluster is taken for it; may be given several times
    #[arg(long = "ca-cert-hash", value_name = "sha256:HEX", requires = "join")]
    ca_cert_hashes: Vec<String>,
    /// Join although no hash of the CA is known: whoever knows the token may then pose as the cluster
    #[arg(long, requires = "join", conflicts_with = "ca_cert_hashes")]
    unsafe_skip_ca_verification: bool,
    /// Be so many nodes that run pods without containers, for tests of scale, named by --node-name and a number; they need an
    /// administrator's kubeconfig
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with_all = ["standalone", "join", "certificate_duration", "lock_file", "exit_on_lock_contention"])]
    hollow: Option<u32>,
    /// How long certificates that this node asks for should last, in seconds [default: as the signer likes]
    #[arg(long, value_name = "SECONDS")]
    certificate_duration: Option<u64>,
    /// A file that one kubelet of this machine holds at a time: this one starts once it has it
    #[arg(long, value_name = "FILE")]
    lock_file: Option<PathBuf>,
    /// End as soon as another process opens the lock file
    #[arg(long)]
    exit_on_lock_contention: bool,
}

impl NodeArgs {
    fn invitation(&self) -> Result<Option<Invitation>> {
        let (Some(server), Some(token)) = (&self.join, &self.token) else { return Ok(None) };
        if self.ca_cert_hashes.is_empty() && !self.unsafe_skip_ca_verification {
            bail!("name the cluster's CA with --ca-cert-hash, as troupe token create --print-join-command prints it");
        }
        Ok(Some(Invitation { server: server.clone(), token: token.clone(), ca_hashes: self.ca_cert_hashes.clone() }))
    }
}

/// Runs `troupe node`.
pub fn run(arguments: NodeArgs) -> Result<()> {
    if let Some(count) = arguments.hollow {
        return hollow::run(count, arguments.settings, arguments.config.as_deref());
    }
    let invitation = arguments.invitation()?;
    crate::command_line::hide("--token");
    let (standalone, lasts) = (arguments.standalone, arguments.certificate_duration.map(Duration::from_secs));
    let parts: BTreeSet<Part> = if standalone { [Part::Node].into() } else { [Part::Node, Part::RemoteNode].into() };
    refuse_without_effect(&arguments.settings, &parts)?;
    if standalone && lasts.is_some() {
        bail!("--certificate-duration would have no effect here: a node without API server makes its own certificate");
    }
    let flags = arguments.settings.absolute()?;
    let kubeconfig = flags.kubeconfig.clone();
    let settings = flags.with_file(arguments.config.as_deref())?;
    let lasting = Lasting::of(&settings, &parts)?;
    let (settings, kubelet) = lasting.with_network(settings)?.with_kubelet_configuration()?;
    let mut config = lasting.with_dns(settings).resolve()?.with_kubelet(kubelet)?;
    let kubeconfig = kubeconfig.unwrap_or_else(|| config.kubeconfig_beside(control_plane::NODE));
    if !standalone && invitation.is_none() && !kubeconfig.exists() {
        bail!(
            "there is no kubeconfig {}: name one with --kubeconfig, join a cluster with --join, or run static pods alone with --standalone",
            kubeconfig.display()
        );
    }
    if !standalone {
        config.kubeconfig.clone_from(&kubeconfig);
    }
    config.of_command.insert("standalone".into(), standalone.to_string());
    configuration::check(&config, &parts)?;
    if !standalone {
        check_credentials(&config, &kubeconfig, invitation.is_some(), lasts)?;
    }
    let _lock = LockFile::of(arguments.lock_file.as_deref(), arguments.exit_on_lock_contention)?;
    if let Some(pid) = crate::instance::running(&config.daemon_pid_file(instance::NODE)) {
        bail!("troupe node already runs on this machine (pid {pid})");
    }
    report(&preflight::check_node(&Claimant { config: &config, daemon: instance::NODE, parts: parts.clone() }))?;
    confinement::confine_node()?;
    memory::forget_startup_soon();
    let process = format!("node@{}", config.node_name);
    let launch = Launch { config, daemon: instance::NODE, parts, safe: false };
    super::run(launch, process, |config, system| async move {
        let mut progress = Progress::new(None);
        let runtime = runtime::start_beside(config.clone());
        if let Some(invitation) = &invitation {
            progress.begin("identity");
            join::ensure_identity(&NodeIdentity { name: config.node_name.clone(), kubeconfig: kubeconfig.clone() }, invitation).await?;
            claim::note(&config, |record| record.made.kubeconfigs.extend([kubeconfig.clone()]))?;
        }
        let seat = if standalone { Seat::alone(&config, &system)? } else { Seat::in_cluster(&config, &kubeconfig, lasts, &system)? };
        // Services need no container runtime: their rules are brought up to date while it starts.
        let proxy = Node::start_proxy(&config, &seat, &system);
        progress.begin("container runtime and images");
        let socket = runtime.await.context("the thread that starts the runtime broke")??;
        progress.begin("node");
        let running = Node::start(&config, &socket, seat, proxy, &system).await?;
        progress.done();
        Ok(running)
    })
}

/// Refuses credentials that cannot be used; those that joining will bring are not there yet.
fn check_credentials(config: &Config, kubeconfig: &Path, joins: bool, lasts: Option<Duration>) -> Result<()> {
    if lasts.is_some() && has_authority(config) {
        bail!(
            "--certificate-duration has no effect here: the authority's key is on this machine, and certificates last as --certificate-validity says"
        );
    }
    if joins {
        return Ok(());
    }
    Access::read(kubeconfig).map(drop).with_context(|| format!("cannot use the kubeconfig {}", kubeconfig.display()))
}

/// Where the authority's key is, certificates are made without asking.
fn has_authority(config: &Config) -> bool {
    config.certificates_dir.join("ca.key").exists()
}

/// What ties a node to its cluster.
pub struct Seat {
    /// The node's client and the caches of services, endpoints and nodes; `None` for a node that runs alone.
    pub api: Option<(Client, Caches)>,
    /// Who may ask the kubelet.
    pub gate: Arc<dyn Gate>,
    /// What the kubelet's server shows, and the authority of those who call it.
    pub serving: Arc<RenewableCertificate>,
    pub ca_pem: String,
    /// Where an API server of this machine listens.
    pub listeners: Vec<SocketAddr>,
}

impl Seat {
    fn in_cluster(config: &Config, kubeconfig: &Path, lasts: Option<Duration>, system: &System) -> Result<Self> {
        let unusable = || format!("cannot use the kubeconfig {}", kubeconfig.display());
        let (access, _) = Access::read(kubeconfig).with_context(unusable)?;
        let mut options = RemoteOptions {
            servers: config.api_servers.clone(),
            user_agent: format!("troupe-node/{}", env!("CARGO_PKG_VERSION")),
            ..RemoteOptions::new(kubeconfig).with::<ClusterNetworkPolicy>().with::<ClusterTrustBundle>()
        };
        options.also.extend(optional(|_| true));
        let listeners = on_this_machine(options.servers.iter().chain(&access.servers), config.node_ips, config.every_address());
        let api = Arc::new(RemoteApi::new(options).with_context(unusable)?);
        let client = node::node_client(config, api);
        let gate = Arc::new(DelegatingGate::new(client.clone()));
        let caches = Caches::new(system.clone(), client.clone());
        let serving = if has_authority(config) {
            let shown = node::shown(&serving_certificate(config)?.0)?;
            renewal::of_node(config, &shown, system, |config| Ok(serving_certificate(config)?.0));
            shown
        } else {
            keep_certificates(config, kubeconfig, &client, lasts, system)
        };
        Ok(Seat { api: Some((client, caches)), gate, serving, ca_pem: access.ca_pem, listeners })
    }

    /// Only who holds a certificate of the node's own authority gets in.
    fn alone(config: &Config, system: &System) -> Result<Self> {
        let (serving, ca_pem) = serving_certificate(config)?;
        let serving = node::shown(&serving)?;
        renewal::of_node(config, &serving, system, |config| Ok(serving_certificate(config)?.0));
        let authenticator = Arc::new(AuthenticatorChain::new(vec![Arc::new(X509Authenticator)], false));
        let gate = Arc::new(LocalGate { authenticator, authorizer: Arc::new(PrivilegedGroups) });
        Ok(Seat { api: None, gate, serving, ca_pem, listeners: Vec::new() })
    }
}

/// Starts what keeps the certificates of a node that got them through the API. The result shows the serving one, as soon as
/// there is one.
fn keep_certificates(config: &Config, kubeconfig: &Path, client: &Client, lasts: Option<Duration>, system: &System) -> Arc<RenewableCertificate> {
    let shown = Arc::new(RenewableCertificate::default());
    let keeper = |purpose, draft, holder: Arc<dyn Holder>| KeeperOptions { purpose, draft, client: client.clone(), holder, lasts };
    if Kubeconfig::read(kubeconfig).is_ok() {
        let identity = Arc::new(KubeconfigHolder { path: kubeconfig.to_owned() });
        CertificateKeeper::start(keeper(Purpose::Client, Draft::node_client(&config.node_name), identity), system);
    } else {
        tracing::warn!(kubeconfig = %kubeconfig.display(), "the credentials are not in the kubeconfig itself: they are not renewed here");
    }
    let serving = Arc::new(ServingHolder::new(config.kubelet_dir.join("pki/kubelet-serving.pem"), shown.clone()));
    // That by which the API server calls it; others nobody could approve unseen.
    let draft = Draft::node_serving(&config.node_name, vec![config.node_ip()]);
    CertificateKeeper::start(keeper(Purpose::Serving, draft, serving), system);
    shown
}

/// The kubelet's certificate and who signed it: the cluster's authority where its key is on this machine, else one of the
/// node's own.
fn serving_certificate(config: &Config) -> Result<(KeyedCertificate, String)> {
    let dir = if has_authority(config) { config.certificates_dir.clone() } else { config.kubelet_dir.join("pki") };
    let pki = Pki::open(&dir).with_context(|| format!("cannot open the certificates in {}", dir.display()))?.lasting(config.certificate_validity);
    let spec = LeafSpec {
        file: "kubelet".into(),
        common_name: format!("system:node:{}", config.node_name),
        organizations: vec!["system:nodes".into()],
        dns_names: vec![config.node_name.clone(), "localhost".into()],
        ips: config.node_ips.iter().chain(config.loopback()).collect(),
        server: true,
        client: true,
    };
    Ok((pki.leaf(&spec).context("cannot make the kubelet's certificate")?, pki.ca_pem().to_owned()))
}

/// The service proxy of a node, and who tells how it is.
type NodeProxy = (Proxy, ProxyHealth);

/// A running node.
pub struct Node {
    server: ServerHandle,
    _health: Option<PlainHealth>,
    _kubelet: Kubelet,
    _proxy: Option<NodeProxy>,
    _network: TaskHandle,
    _links: Option<TaskHandle>,
    _sweep: TaskHandle,
    /// Sends the kubelet's spans.
    _spans: Option<TaskHandle>,
    _overlay: Vec<UnitAddr<Overlay>>,
    _reachability: Option<UnitAddr<Reachability>>,
    _announcer: Option<UnitAddr<Announcer>>,
    /// Nobody else keeps them fed.
    _caches: Option<Caches>,
}

impl Node {
    /// Starts the service proxy of a node that has an API server.
    pub fn start_proxy(config: &Config, seat: &Seat, system: &System) -> Option<NodeProxy> {
        seat.api.as_ref().map(|api| (node::start_proxy(config, api, system), node::start_proxy_health(config, api, system)))
    }

    /// Starts a node on the runtime at `socket`. Whether an API server answers does not matter here.
    pub async fn start(config: &Config, socket: &Path, seat: Seat, proxy: Option<NodeProxy>, system: &System) -> Result<Self> {
        let range = match &seat.api {
            Some((_, caches)) => network::Range::Of(caches.cache(), ObjectKey::cluster(config.node_name.as_str())),
            None => network::Range::Fixed(config.pod_cidr.iter().map(first_range).collect()),
        };
        let events = seat.api.as_ref().map(|(client, _)| EventRecorder::on_host(system, client, "pod-network", &config.node_name));
        let network = network::start(config, range, events, system);
        let is_ours = config.cni == Cni::Own;
        let links = is_ours.then(|| network::pod_links(config));
        let kept_links = links.clone().map(|links| network::start_links(links, system));
        let sweep = sweep::start(config, socket, system);
        let overlay = match &seat.api {
            Some((_, caches)) if is_ours => network::start_overlay(config, &caches.cache(), system)?,
            _ => Vec::new(),
        };
        let reachability = seat.api.as_ref().filter(|_| is_ours).map(|api| network::start_reachability(config, api, system)).transpose()?;
        let announcer = seat.api.as_ref().map(|api| node::start_announcer(config, api, system)).transpose()?;
        let api = seat.api.as_ref().map(|(client, caches)| (client.clone(), caches));
        let policies = seat.api.as_ref().and_then(|(_, caches)| node::start_network_policies(config, socket, caches, system));
        let gates = |policies: Vec<NetworkPolicies>| Arc::new(EveryGate(policies.iter().map(NetworkPolicies::gate).collect())) as Arc<dyn PodGate>;
        let then = policies.map_or_else(|| Arc::new(OpenGate) as Arc<dyn PodGate>, gates);
        let neighbours = Arc::new(Netlink::open().context("cannot talk to the kernel about neighbours")?);
        let pods = Arc::new(HostPodAddresses::new(&config.pod_network(config.pod_cidr.all())));
        let gate = Arc::new(FreshGate::new(neighbours, pods, Arc::new(HostConntrack::new()), then));
        let links = links.map_or_else(|| Arc::new(NoPodLinks) as Arc<dyn PodLinks>, |links| links as Arc<dyn PodLinks>);
        let spans = spans::of_kubelet(config, system)?;
        let kubelet = node::start_kubelet(config, socket, api, seat.listeners.clone(), gate, links, system).await?;
        let server = node::serve_kubelet(config, socket, &seat, &kubelet, system)?;
        let health = node::start_kubelet_health(config)?;
        let caches = seat.api.map(|(_, caches)| caches);
        Ok(Node {
            server,
            _health: health,
            _kubelet: kubelet,
            _proxy: proxy,
            _network: network,
            _links: kept_links,
            _sweep: sweep,
            _spans: spans,
            _overlay: overlay,
            _reachability: reachability,
            _announcer: announcer,
            _caches: caches,
        })
    }
}

impl Running for Node {
    async fn stop(self) {
        self.server.stop();
    }
}

/// Those of the API servers that are beside this node: no pod may take their ports.
fn on_this_machine<'a>(servers: impl Iterator<Item = &'a String>, own: PerFamily<IpAddr>, every: IpAddr) -> Vec<SocketAddr> {
    let port = |server: &String| {
        let authority: http::uri::Authority = server.strip_prefix("https://")?.split('/').next()?.parse().ok()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| own.iter().any(|own| own == ip) || ip.is_loopback());
        is_here.then(|| authority.port_u16().unwrap_or(443))
    };
    servers.filter_map(port).map(|port| SocketAddr::new(every, port)).collect()
}

/// The range of a node that gets none from a cluster: the first of a node's usual size.
fn first_range(cluster: IpNetwork) -> IpNetwork {
    let range = ClusterRange::new(cluster);
    IpNetwork::new(cluster.network(), range.node_prefix).expect("a prefix of the family")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_servers_of_this_machine_keep_their_ports() {
        let servers = ["https://127.0.0.1:6443", "https://192.0.2.1:7443/", "https://192.0.2.9:8443", "https://localhost", "https://[::1]:9443"];
        let found = on_this_machine(servers.map(str::to_owned).iter(), IpAddr::from([192, 0, 2, 1]).into(), [0, 0, 0, 0].into());
        assert_eq!(found.iter().map(SocketAddr::port).collect::<Vec<_>>(), [6443, 7443, 443, 9443]);
    }

    #[test]
    fn a_node_alone_takes_the_first_range_of_a_nodes_size() {
        let range = |text: &str| first_range(text.parse().expect("a network")).to_string();
        assert_eq!(range("10.244.0.0/16"), "10.244.0.0/24");
        assert_eq!(range("10.9.8.128/26"), "10.9.8.128/26");
    }
}
