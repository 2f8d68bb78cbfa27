//! `troupe up`: a cluster on this machine, in this process.

pub mod audit;
mod authorizers;
pub mod cluster_info;
pub mod configuration;
pub mod control_plane;
pub mod controllers;
mod detach;
pub mod doors;
pub mod encryption;
pub mod identity;
mod kubelet;
pub mod network;
pub mod node;
pub mod preflight;
pub mod progress;
mod ready;
pub mod renewal;
mod serving;
pub mod spans;
pub mod sweep;
pub mod zpages;

use std::{cell::RefCell, collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use troupe_actors::{
    apiserver::ApiServer,
    runtime::system::{System, SystemOptions},
};
use troupe_api_server::{
    audit::AuditLog,
    http::{Connect, ExtraRoute},
};

use self::{preflight::report, progress::Progress, ready::Awaited};
use crate::{
    config::{Cni, Config, Part, Settings, refuse_without_effect},
    confinement,
    daemon::{
        Launch, Running,
        control_plane::{Component, ControlPlane, Parts, SAFE_MODE},
        node::{Node, Seat},
        runtime, until_told, work_record,
    },
    instance::{self, claim::Claimant, lasting::Lasting},
    memory, nodes,
    nodes::{NodesArgs, Wanted},
};

/// `troupe up …`
#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    settings: Settings,
    /// Configuration file; flags win over it [default: /etc/troupe/config.yaml if it exists]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Return when the node is Ready; the cluster goes on in the background
    #[arg(long, short)]
    detach: bool,
    /// Start the API server alone, with the settings of the last start, to remove what ends the cluster: controllers, scheduler and
    /// node are paused, containers run on untouched
    #[arg(long)]
    safe: bool,
    #[command(flatten)]
    nodes: NodesArgs,
    /// Mirror progress to this file, for the process that waits
    #[arg(long, hide = true)]
    progress_file: Option<PathBuf>,
}

/// What the binary adds to the API server's front door.
#[derive(Default)]
pub struct Doors {
    pub routes: Vec<ExtraRoute>,
    pub connect: Option<Arc<dyn Connect>>,
    pub audit: Option<Arc<AuditLog>>,
}

impl UpArgs {
    /// The configuration, and the nodes beside this one.
    fn configure(&self) -> Result<(Config, Option<Wanted>)> {
        let (flags, file) = (self.settings.clone(), self.config.as_deref());
        let mut wanted = None;
        let config = if self.safe {
            crate::find(flags, file, crate::Otherwise::Nothing)?.config
        } else {
            // The file is about this machine, and all that runs there is this process.
            let mut settings = flags.absolute()?.with_file(file)?;
            let parts = Part::WHOLE.into();
            refuse_without_effect(&settings, &parts)?;
            let lasting = Lasting::of(&settings, &parts)?;
            settings = lasting.with_network(settings)?;
            wanted = Wanted::of(&self.nodes, &mut settings)?;
            let (settings, kubelet) = settings.with_kubelet_configuration()?;
            lasting.with_dns(settings).resolve()?.with_kubelet(kubelet)?
        };
        config.check_api_server()?;
        Ok((config, wanted))
    }
}

/// Runs `troupe up`.
pub fn run(arguments: UpArgs) -> Result<()> {
    let ((config, nodes), safe) = (arguments.configure()?, arguments.safe);
    if let Some(pid) = instance::running(&config.pid_file()) {
        bail!("troupe already runs on this machine (pid {pid}); troupe status tells more, troupe down stops it");
    }
    let parts: BTreeSet<Part> = if safe { [Part::ApiServer].into() } else { Part::WHOLE.into() };
    configuration::check(&config, &parts)?;
    if arguments.progress_file.is_none() {
        let claimant = Claimant { config: &config, daemon: instance::UP, parts: parts.clone() };
        report(&if safe { preflight::check_safe(&config) } else { preflight::check(&claimant) })?;
    }
    if arguments.detach {
        detach::run(&config, safe)?;
        print_hint(&config, safe);
        return Ok(());
    }
    confinement::confine_node()?;
    memory::forget_startup_soon();
    let progress = RefCell::new(Progress::new(arguments.progress_file));
    let launch = Launch { config, daemon: instance::UP, parts, safe };
    launch.run(
        |line| progress.borrow_mut().note(line),
        |config| {
            let start = Start { safe, nodes: nodes.as_ref() };
            actix::System::new().block_on(serve(config, start, &mut progress.borrow_mut()))
        },
    )
}

fn print_hint(config: &Config, safe: bool) {
    let kubeconfig = config.kubeconfig.display();
    if safe {
        println!(
            "\nThe API server runs in safe mode: nothing is scheduled, controlled or started. Remove what ended the cluster:\n\n    export KUBECONFIG={kubeconfig}\n    kubectl delete ... --force --grace-period=0\n\nThen stop it (kill {}) and start the cluster as usual.\n",
            instance::running(&config.pid_file()).map_or_else(|| "its process".into(), |pid| pid.to_string())
        );
        return;
    }
    println!("\nThe cluster is up. Point kubectl at it:\n\n    export KUBECONFIG={kubeconfig}\n    kubectl get nodes\n");
}

/// What is to be started.
#[derive(Clone, Copy)]
struct Start<'a> {
    safe: bool,
    nodes: Option<&'a Wanted>,
}

/// What runs in the process.
struct Whole {
    control_plane: ControlPlane,
    /// None in safe mode.
    node: Option<Node>,
    /// The nodes in processes of their own.
    others: Option<nodes::Running>,
}

/// Starts everything, waits for a signal, stops everything.
async fn serve(config: Config, Start { safe, nodes }: Start<'_>, progress: &mut Progress) -> Result<()> {
    let process = format!("up@{}{}", config.node_name, if safe { SAFE_MODE } else { "" });
    let options = SystemOptions { process, work: work_record::open(&config.pid_file()), ..SystemOptions::default() };
    let system = System::new(options).context("cannot start the actor system")?;
    // Listening begins before the start and has no gap, so that no signal is lost.
    let mut told = std::pin::pin!(until_told(&system));
    let start = async { if safe { start_safe(&config, &system, progress).await } else { start(&config, nodes, &system, progress).await } };
    let whole = tokio::select! {
        started = start => Some(started?),
        end = &mut told => {
            end?;
            None
        }
    };
    let Some(Whole { control_plane, node, others }) = whole else {
        progress.note("  ✔ stopped before everything was up");
        system.shutdown(Duration::from_secs(5)).await;
        return Ok(());
    };
    progress.note(detach::READY_LINE);
    let end = told.await;
    if let Some(others) = others {
        others.stop().await;
    }
    if let Some(node) = node {
        node.stop().await;
    }
    control_plane.stop().await;
    system.shutdown(Duration::from_secs(5)).await;
    progress.note("  ✔ stopped; the pods run on until troupe down");
    end
}

/// Starts the API server and nothing else.
async fn start_safe(config: &Config, system: &System, progress: &mut Progress) -> Result<Whole> {
    let parts = Parts { components: &[Component::Apiserver], kubeconfig: None, safe: true };
    let mut control_plane = ControlPlane::start(config, parts, system, progress).await?;
    control_plane.become_reachable(config, &[Component::Apiserver], system)?;
    progress.done();
    progress.note("  the API server runs in safe mode: controllers, scheduler and node are paused");
    Ok(Whole { control_plane, node: None, others: None })
}

/// Starts everything and waits until the node is Ready.
async fn start(config: &Config, nodes: Option<&Wanted>, system: &System, progress: &mut Progress) -> Result<Whole> {
    if let Some(wanted) = nodes {
        progress.begin("links of the nodes");
        nodes::prepare(config, wanted).await?;
    }
    let runtime = runtime::start_beside(config.clone());
    let parts = Parts { components: &Component::ALL, kubeconfig: None, safe: false };
    let control_plane = ControlPlane::start(config, parts, system, progress).await?;
    let local = control_plane.local.as_ref().context("an API server was started")?;
    if nodes.is_some() {
        nodes::remove_departed(config, &node::admin_client(&local.api)).await?;
    }
    let (own, neighbours) = awaited(config, nodes.is_some(), &local.api, system).await?;
    let others = if nodes.is_some() { Some(nodes::start(config, system)?) } else { None };
    progress.begin("container runtime and images");
    let socket = runtime.await.context("the thread that starts the runtime broke")??;
    progress.begin("node");
    let seat = Seat {
        api: Some((node::node_client(config, local.api.clone()), control_plane.caches.clone())),
        gate: local.gate(),
        serving: local.shown.kubelet_serving.clone(),
        ca_pem: local.certificates.ca_pem.clone(),
        listeners: vec![SocketAddr::new(config.bind_address, config.api_port)],
    };
    let proxy = Node::start_proxy(config, &seat, system);
    let node = Node::start(config, &socket, seat, proxy, system).await?;
    node::ensure_storage_class(&local.api).await?;
    node::ensure_dns(config, &local.api).await?;
    let mut found = vec![(&own, own.ready(&control_plane.caches, Duration::from_secs(60)).await?)];
    node::label_control_plane(config, &local.api).await?;
    for neighbour in &neighbours {
        progress.begin(format!("node {}", neighbour.name));
        found.push((neighbour, neighbour.ready(&control_plane.caches, Duration::from_secs(120)).await?));
    }
    let took = progress.done();
    for (Awaited { name, .. }, lacks) in found {
        progress.note(&match lacks {
            None => format!("  node {name} is Ready after {:.1} s", took.as_secs_f64()),
            Some(why) => format!("  node {name} is not Ready yet: {why}"),
        });
    }
    Ok(Whole { control_plane, node: Some(node), others })
}

/// The node of this process and those beside it, before any of them starts.
async fn awaited(config: &Config, several: bool, api: &Arc<ApiServer>, system: &System) -> Result<(Awaited, Vec<Awaited>)> {
    let (client, now) = (node::admin_client(api), system.clock().now());
    let of_others = config.cni == Cni::Others;
    let own = Awaited::of(&client, &config.node_name, Some(now)).await?.with_network_of_others(of_others);
    let beside = if several { nodes::expected(config)? } else { Vec::new() };
    let mut neighbours = Vec::new();
    for (name, runs) in beside {
        neighbours.push(Awaited::of(&client, &name, (!runs).then_some(now)).await?.with_network_of_others(of_others));
    }
    Ok((own, neighbours))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;
    use crate::{
        config::takes,
        durable,
        instance::{Daemon, NAME, Record},
    };

    fn configured(words: &[&str]) -> Result<Config> {
        let given = UpArgs::augment_args(clap::Command::new("up")).try_get_matches_from([&["up"], words].concat())?;
        Ok(UpArgs::from_arg_matches(&given)?.configure()?.0)
    }

    #[test]
    fn a_cluster_of_both_families_starts_again_with_both_and_no_flag() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (data, run) = (at("data"), at("run"));
        let place = ["--data-dir", &data, "--run-dir", &run, "--node-name", "one", "--node-ip", "192.0.2.1,2001:db8::1"];
        let first = configured(&[&place[..], &["--service-cidr", "10.90.0.0/16,fd00:90::/112", "--cluster-domain", "example.org"]].concat());
        let first = first.expect("works");
        let parts: BTreeSet<Part> = Part::WHOLE.into();
        let mut record = Record::new(first.data_dir.clone(), first.run_dir.clone()).expect("makes");
        let settings = first.settings().only(|setting| takes(&parts, setting));
        record.daemons.insert(instance::UP.into(), Daemon { parts, settings });
        durable::write(&first.data_dir.join(NAME), &serde_json::to_vec(&record).expect("encodes")).expect("writes");
        std::fs::create_dir(crate::state::embedded_dir(&first)).expect("makes");

        let again = configured(&place).expect("works");
        assert_eq!((again.service_cidr, again.pod_cidr, again.cluster_dns), (first.service_cidr, first.pod_cidr, first.cluster_dns));
        assert_eq!((again.cluster_domain.as_str(), again.kubelet.text("clusterDomain")), ("example.org", "example.org"));
        let less = configured(&[&place[..], &["--service-cidr", "10.90.0.0/16"]].concat()).expect_err("refused").to_string();
        assert!(less.starts_with("--service-cidr is 10.90.0.0/16, but this cluster was made with 10.90.0.0/16,fd00:90::/112"), "{less}");
    }
}
