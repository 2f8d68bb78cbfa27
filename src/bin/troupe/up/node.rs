//! Brings up the node: kubelet, pod network, service proxy, and the cluster's DNS.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Node},
};
use troupe_actors::{
    apiserver::ApiServer,
    controllers::local_path::objects as local_path,
    dns::{self, DnsOptions},
    files::{
        Directory,
        mounts::{self, Sharing},
    },
    kubelet::{
        Kubelet, KubeletOptions,
        cgroups::driver::CgroupDriver,
        server::{self, KubeletServerOptions, checkpoint},
    },
    load_balancer::{Announcer, AnnouncerOptions, TOLD_AFTER},
    network_policy::{Followed, NetworkPolicies, NetworkPolicyOptions, PodGate},
    proxy::{
        Proxy, ProxyOptions,
        health::{self, HealthOptions, PlainHealth, ProxyHealth},
    },
    runtime::{cache::Caches, events::EventRecorder, host::UnitAddr, system::System},
    serving::ServerHandle,
};
use troupe_api::{
    ApiService,
    auth::{
        peer,
        pki::KeyedCertificate,
        tls::{self, RenewableCertificate},
    },
    features::{FeatureGates, POD_LOGS_QUERY_SPLIT_STREAMS},
    meta::{FieldSelector, Object},
    service::{Body, Operation, PatchType, Target, UserInfo, WatchOptions, WriteOptions},
    spans,
};
use troupe_api_client::Client;
use troupe_api_server::http::{
    Connect,
    streaming::{KubeletConnect, KubeletDialer},
};
use troupe_cri::{Runtime, grpc::GrpcRuntime};
use troupe_net::{
    announce::HostLinkAddresses,
    cni::{self, links::PodLinks},
    conntrack::HostConntrack,
    dns::domain_names,
    iptables::{Family, HostIptables, Iptables},
    overlay::TUNNELS,
};

use super::{
    control_plane::{self, Shown},
    identity::component,
    kubelet, zpages,
};
use crate::{
    config::{Cni, Config, Part},
    daemon::node::Seat,
    images::{self, DNS_IMAGE, PAUSE_IMAGE},
};

/// Whose flags the daemons of a node have.
const OF_NODE: [Part; 2] = [Part::Node, Part::RemoteNode];

/// The node's own client.
pub fn node_client(config: &Config, service: Arc<dyn ApiService>) -> Client {
    let mut user = UserInfo::clone(&component(&format!("system:node:{}", config.node_name), &["system:nodes"]));
    // Over a connection it is the server that notes who calls, and from where.
    peer::note_in_process(&mut user);
    Client::new(service, user.into(), "kubelet")
}

/// Starts the kubelet on the runtime at `socket`; without a client it runs static pods only. `listeners` are the machine's other
/// daemons.
pub async fn start_kubelet(
    config: &Config,
    socket: &Path,
    api: Option<(Client, &Caches)>,
    listeners: Vec<SocketAddr>,
    gate: Arc<dyn PodGate>,
    links: Arc<dyn PodLinks>,
    system: &System,
) -> Result<Kubelet> {
    let runtime: Arc<dyn Runtime> = Arc::new(GrpcRuntime::tracing(socket, spans::traceparent));
    let mut options = KubeletOptions::new(config.node_name.as_str(), runtime);
    options.caches = api.as_ref().map(|(_, caches)| (*caches).clone());
    options.services = api.as_ref().map(|(_, caches)| caches.cache());
    options.nodes = api.as_ref().map(|(_, caches)| caches.cache());
    options.client = api.map(|(client, _)| client);
    options.gate = gate;
    options.links = links;
    options.root_dir = config.kubelet_dir.clone();
    options.volumes_dir = config.data_dir.join("volumes");
    options.log_dir = config.pod_logs_dir.clone();
    options.node_ips = config.node_ips.all();
    options.port = config.kubelet_port;
    options.listeners = listeners;
    options.static_pod_dir = Some(config.manifests_dir.clone());
    options.cgroup_parent = config.cgroup_parent.clone();
    kubelet::configure(&mut options, config, kept_images(config)).context("the kubelet's configuration")?;
    std::fs::create_dir_all(&config.manifests_dir).with_context(|| format!("cannot make {}", config.manifests_dir.display()))?;
    share_kubelet_dir(&config.kubelet_dir)?;
    Kubelet::start(options, system).await.context("the kubelet cannot start")
}

/// Lets what pods mount in the kubelet's directory reach this process and other pods (`Bidirectional`), on a machine whose `/` is private too:
/// drivers of volumes mount there.
fn share_kubelet_dir(directory: &Path) -> Result<()> {
    Directory::make(directory, 0o700).with_context(|| format!("cannot make {}", directory.display()))?;
    match mounts::share(directory) {
        Ok(Sharing::Shared) => {}
        Ok(Sharing::Private) => tracing::info!(path = %directory.display(), "the kubelet's directory is a shared mount now"),
        // Pods of an older version run here.
        Ok(Sharing::Occupied) => tracing::warn!(
            path = %directory.display(),
            "the kubelet's directory is on no shared mount, and becomes one when this starts after its pods are gone: until then no pod may mount there"
        ),
        Err(error) => tracing::warn!(%error, path = %directory.display(), "the kubelet's directory is on no shared mount: no pod may mount there"),
    }
    Ok(())
}

/// Images that no registry has: what was imported here stays.
fn kept_images(config: &Config) -> Vec<String> {
    let own = [PAUSE_IMAGE, DNS_IMAGE].map(str::to_owned);
    config.image_dir.as_deref().map(images::names).unwrap_or_default().into_iter().chain(own).collect()
}

/// A certificate as the kubelet's server shows it.
pub fn shown(certificate: &KeyedCertificate) -> Result<Arc<RenewableCertificate>> {
    let shown = RenewableCertificate::default();
    shown.show(certificate).context("the kubelet's certificate is unusable")?;
    Ok(Arc::new(shown))
}

/// Tells the kubelet's health without TLS, where its configuration names a port for that.
pub fn start_kubelet_health(config: &Config) -> Result<Option<PlainHealth>> {
    let Some(address) = kubelet::health_address(&config.kubelet)? else { return Ok(None) };
    PlainHealth::start(address).map(Some).with_context(|| format!("cannot tell the kubelet's health at {address}"))
}

/// Serves the kubelet's own API: logs, exec, attach, port-forward.
pub fn serve_kubelet(config: &Config, socket: &Path, seat: &Seat, kubelet: &Kubelet, system: &System) -> Result<ServerHandle> {
    let address = config.kubelet.says("address").and_then(|address| address.as_str()?.parse().ok()).unwrap_or_else(|| config.every_address());
    let listener = TcpListener::bind((address, config.kubelet_port)).with_context(|| format!("cannot listen on port {}", config.kubelet_port))?;
    let mut configuration = config.kubelet.clone();
    configuration.say("containerRuntimeEndpoint", format!("unix://{}", socket.display()));
    configuration.say("address", address.to_string());
    configuration.say("cgroupDriver", CgroupDriver::of(kubelet.handle().cgroup_parent()).name());
    let serving = match kubelet::serving_files(&config.kubelet)? {
        Some(files) => files.follow().context("the kubelet's certificate")?.0,
        None => seat.serving.clone(),
    };
    let policy = kubelet::tls_policy(&config.kubelet)?;
    let tls = match kubelet::client_authorities(&config.kubelet) {
        Some(file) => tls::followed_server_config(serving, file.follow(&policy).context("authentication.x509.clientCAFile")?, &policy),
        None => tls::renewable_server_config(serving, &seat.ca_pem, &policy),
    };
    let tls = tls.context("the kubelet's certificate is unusable")?;
    let options = KubeletServerOptions {
        tls: Arc::new(tls),
        node_name: config.node_name.as_str().into(),
        runtime: kubelet.handle().runtime().clone(),
        pods: Arc::new(kubelet.handle().clone()),
        cgroup_parent: kubelet.handle().cgroup_parent().into(),
        checkpoints: config.kubelet_dir.join(checkpoint::DIRECTORY).into(),
        gate: seat.gate.clone(),
        configuration: Arc::new(configuration.document()),
        zpages: zpages::of("kubelet", config, &OF_NODE, &server::PATHS, system),
        version: control_plane::version(),
        insight: Some(system.clone()),
    };
    server::serve(listener, options).context("the kubelet cannot serve")
}

/// How the API server reaches kubelets, whose certificates this authority signed.
pub fn connect(shown: &Shown, ca_pem: &str, api: &Arc<ApiServer>, features: &FeatureGates) -> Result<Arc<dyn Connect>> {
    let splits = features.is_on(POD_LOGS_QUERY_SPLIT_STREAMS);
    Ok(Arc::new(KubeletConnect::new(api.listers(), dialer(shown, ca_pem)?).splitting_logs(splits)))
}

/// Opens the API server's connections to kubelets.
pub fn dialer(shown: &Shown, ca_pem: &str) -> Result<KubeletDialer> {
    let tls = tls::renewable_client_config(ca_pem, shown.kubelet_client.clone()).context("the API server's client certificate is unusable")?;
    Ok(KubeletDialer::new(Arc::new(tls)))
}

/// Starts the service proxy.
pub fn start_proxy(config: &Config, (client, caches): &(Client, Caches), system: &System) -> Proxy {
    let options = ProxyOptions {
        node_name: config.node_name.clone(),
        node_ips: config.node_ips.all(),
        cluster_cidrs: config.pod_cidr.all(),
        daemons: Arc::new(config.daemon_ports()),
        localhost_node_ports: true,
        iptables: Arc::new(|family| Arc::new(HostIptables::new().of(family)) as Arc<dyn Iptables>),
        conntrack: Arc::new(HostConntrack::new()),
        conntrack_settings: Some(config.conntrack),
        services: caches.cache(),
        slices: caches.cache(),
        nodes: caches.cache(),
        ranges: caches.cache(),
        events: Some(EventRecorder::on_host(system, client, "kube-proxy", &config.node_name)),
    };
    Proxy::start(options, system)
}

/// Starts enforcing network policies; `None` where the pod network is somebody else's, who does that too.
pub fn start_network_policies(config: &Config, socket: &Path, caches: &Caches, system: &System) -> Option<Vec<NetworkPolicies>> {
    if config.cni == Cni::Others {
        tracing::info!("the pod network is left to others, and so is enforcing network policies");
        return None;
    }
    if let Ok(Some(foreign)) = cni::foreign(&config.cni_conf_dir) {
        tracing::warn!(path = %foreign.display(), "another pod network is configured: enforcing network policies is left to it");
        return None;
    }
    let (policies, cluster_policies, caches, node) = (caches.cache(), caches.cache(), caches.clone(), config.node_name.clone());
    let follow = move || {
        let fields = FieldSelector::parse(&format!("spec.nodeName={node}")).expect("a node's name is a valid field value");
        let own = WatchOptions { fields, ..WatchOptions::default() };
        Followed {
            pods: caches.selected("-of-node", own),
            namespaces: caches.cache(),
            slices: caches.cache(),
            nodes: caches.cache(),
            services: caches.cache(),
            ranges: caches.cache(),
        }
    };
    let runtime: Arc<dyn Runtime> = Arc::new(GrpcRuntime::new(socket));
    let (follow, running): (Arc<dyn Fn() -> Followed + Send + Sync>, _) = (Arc::new(follow), Arc::new(runtime));
    let inside: Arc<[_]> = config.pod_cidr.all().into();
    let start = |family: Family| {
        let host = Arc::new(HostIptables::new().of(family).urgent());
        let options = NetworkPolicyOptions {
            policies: policies.clone(),
            cluster_policies: cluster_policies.clone(),
            follow: follow.clone(),
            running: running.clone(),
            iptables: host.clone(),
            sets: host,
            family,
            inside: inside.clone(),
            unable: cni::unable_to_police(family).map(Into::into),
        };
        NetworkPolicies::start(options, system)
    };
    Some(config.families().into_iter().map(start).collect())
}

/// Starts telling health to load balancers.
pub fn start_proxy_health(config: &Config, (client, caches): &(Client, Caches), system: &System) -> ProxyHealth {
    let options = HealthOptions {
        node_name: config.node_name.clone(),
        bind_address: config.proxy_healthz_bind_address,
        metrics_bind_address: config.proxy_metrics_bind_address,
        zpages: zpages::of("kube-proxy", config, &OF_NODE, &health::PATHS, system),
        listen: config.every_address(),
        services: caches.cache(),
        slices: caches.cache(),
        nodes: caches.cache(),
        events: Some(EventRecorder::on_host(system, client, "kube-proxy", &config.node_name)),
    };
    ProxyHealth::start(options, system)
}

/// Starts announcing addresses of Services on this node's links.
pub fn start_announcer(config: &Config, (client, caches): &(Client, Caches), system: &System) -> Result<UnitAddr<Announcer>> {
    let links = HostLinkAddresses::open([config.bridge.clone()].into_iter().chain(TUNNELS.map(str::to_owned)).collect())
        .context("cannot talk to the kernel about addresses")?;
    let options = AnnouncerOptions {
        node_name: config.node_name.clone(),
        node_ips: config.node_ips.all(),
        services: caches.cache(),
        slices: caches.cache(),
        nodes: caches.cache(),
        links: Arc::new(links),
        client: client.clone(),
        events: EventRecorder::on_host(system, client, "load-balancer", &config.node_name),
        told_after: TOLD_AFTER,
        asks: config.load_balancer_conflict_detection,
    };
    Ok(Announcer::start(options, system))
}

/// A client that may do everything, for what this binary keeps itself.
pub fn admin_client(api: &Arc<ApiServer>) -> Client {
    Client::new(api.clone(), component("system:troupe", &["system:masters"]), "troupe")
}

/// Tells that this node runs the control plane, by the label that upstream's tools set. A node may not say so of itself.
pub async fn label_control_plane(config: &Config, api: &Arc<ApiServer>) -> Result<()> {
    let patch = serde_json::json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    let nodes = admin_client(api).all::<Node>();
    nodes.patch(&config.node_name, "", PatchType::Merge, &patch).await.context("cannot label the node of the control plane")?;
    Ok(())
}

/// Makes the objects of the cluster's DNS where they are missing.
pub async fn ensure_dns(config: &Config, api: &Arc<ApiServer>) -> Result<()> {
    let client = admin_client(api);
    let options = DnsOptions {
        image: DNS_IMAGE.into(),
        cluster_ip: config.cluster_dns,
        domain: config.cluster_domain.clone(),
        ipv6: config.families().contains(&Family::V6),
    };
    for object in dns::manifests(&options) {
        // Names are answered without: somebody may just have deleted this namespace.
        let is_dispensable = object.namespace() == domain_names::NAMESPACE;
        match ensure(&client, object).await {
            Err(error) if is_dispensable => tracing::warn!(%error, "the cluster's DNS cannot tell domain names of policies until the next start"),
            made => made.context("cannot set up the cluster's DNS")?,
        }
    }
    confine_dns(&client).await.context("cannot take root from the cluster's DNS")
}

/// Brings the DNS pods of a cluster that an older version made to what is made today.
async fn confine_dns(client: &Client) -> Result<()> {
    let daemons = client.namespaced::<DaemonSet>(dns::NAMESPACE);
    let Some(known) = daemons.get_opt(dns::NAME).await? else { return Ok(()) };
    if let Some(patch) = dns::confinement(&known) {
        daemons.patch(dns::NAME, "", PatchType::StrategicMerge, &patch).await?;
    }
    Ok(())
}

/// Makes the default storage class at the first start. Later what people made of it stays, be it that there is none.
pub async fn ensure_storage_class(api: &Arc<ApiServer>) -> Result<()> {
    let client = admin_client(api);
    let notes = client.namespaced::<ConfigMap>(local_path::NAMESPACE);
    if notes.get_opt(local_path::NOTE).await?.is_some() {
        return Ok(());
    }
    for object in [local_path::storage_class(), local_path::note()] {
        ensure(&client, object).await.context("cannot make the default storage class")?;
    }
    Ok(())
}

async fn ensure(client: &Client, object: Object) -> Result<()> {
    let gv = troupe_api::meta::GroupVersion::parse(object.api_version());
    let resource = client.service().registry().by_kind(&gv.group, object.kind()).with_context(|| format!("{} is no known kind", object.kind()))?;
    let target = |name: &str| Target {
        resource: resource.clone(),
        version: gv.version.clone(),
        namespace: object.namespace().into(),
        name: name.into(),
        subresource: "".into(),
    };
    if client.call(target(object.name()), Operation::Get { resource_version: None }).await.is_ok() {
        return Ok(());
    }
    let options = WriteOptions { field_manager: "troupe".into(), ..WriteOptions::default() };
    match client.call(target(""), Operation::Create { body: Body::Tree(object.clone()), options }).await {
        Err(status) if !status.is_already_exists() => Err(status.into()),
        _ => Ok(()),
    }
}
