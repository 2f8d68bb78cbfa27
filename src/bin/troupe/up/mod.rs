//! `troupe up`: a cluster on this machine, in this process.

mod control_plane;
mod controllers;
mod detach;
pub mod doors;
mod identity;
mod network;
mod node;
mod preflight;
mod progress;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use troupe_actors::{
    metrics::Sources,
    runtime::system::{System, SystemOptions},
};
use troupe_api::http::{Connect, ExtraRoute};
use troupe_net::iptables::{HostIptables, Iptables};

use self::progress::Progress;
use crate::{
    config::{Config, Settings},
    images,
    instance::PidFile,
    state,
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
    /// Mirror progress to this file, for the process that waits
    #[arg(long, hide = true)]
    progress_file: Option<PathBuf>,
}

/// What the binary adds to the API server's front door.
#[derive(Default)]
pub struct Doors {
    pub routes: Vec<ExtraRoute>,
    pub connect: Option<Arc<dyn Connect>>,
}

/// Runs `troupe up`.
pub fn run(arguments: UpArgs) -> Result<()> {
    let config = arguments.settings.resolve(arguments.config.as_deref())?;
    if let Some(pid) = crate::instance::running(&config.pid_file()) {
        bail!("troupe already runs on this machine (pid {pid}); troupe status tells more, troupe down stops it");
    }
    if arguments.progress_file.is_none() {
        report(&preflight::check(&config))?;
    }
    if arguments.detach {
        detach::run(&config)?;
        print_hint(&config);
        return Ok(());
    }
    let progress = Progress::new(arguments.progress_file);
    let system = actix::System::new();
    system.block_on(serve(config, progress))
}

fn report(findings: &[preflight::Finding]) -> Result<()> {
    for finding in findings {
        eprintln!("{} {finding}", if finding.fatal { "✘" } else { "!" });
    }
    if findings.iter().any(|finding| finding.fatal) {
        bail!("this machine is not ready for a cluster yet");
    }
    Ok(())
}

fn print_hint(config: &Config) {
    println!("\nThe cluster is up. Point kubectl at it:\n\n    export KUBECONFIG={}\n    kubectl get nodes\n", config.kubeconfig.display());
}

/// Starts everything, waits for a signal, stops everything.
async fn serve(config: Config, mut progress: Progress) -> Result<()> {
    let pid_file = config.pid_file();
    let _pid_file = PidFile::claim(&pid_file)?;
    let runtime = start_runtime_beside(config.clone());
    let system = System::new(SystemOptions::default()).context("cannot start the actor system")?;
    progress.begin("certificates");
    let certificates = control_plane::certificates(&config)?;
    let issuer = identity::issuer(&certificates)?;
    progress.begin("state");
    let store = state::open(&config).await?;
    progress.begin("API server");
    let api = control_plane::start_api(&config, &certificates, &issuer, store.clone(), &system).await?;
    let mut routes = doors::routes(&config, &issuer, &system, Sources::new(&system, Some(&api), control_plane::version()));
    routes.push(doors::backup(store));
    let doors = Doors { routes, connect: Some(node::connect(&certificates, &api)?) };
    let http = control_plane::serve(&config, &certificates, &issuer, &api, doors)?;
    control_plane::write_kubeconfig(&config, &certificates)?;
    progress.begin("controllers and scheduler");
    let caches = controllers::start(&config, &certificates.ca_pem, &api, &system);
    progress.begin("container runtime and images");
    let socket = runtime.await.context("the thread that starts the runtime broke")??;
    progress.begin("node");
    let iptables: Arc<dyn Iptables> = Arc::new(HostIptables::new());
    let _proxy = node::start_proxy(&config, &caches, iptables.clone(), &system)?;
    let _network = network::start(&config, caches.cache(), iptables.clone(), &system);
    let kubelet = node::start_kubelet(&config, &socket, &api, &caches, &system).await?;
    let _kubelet_server = node::serve_kubelet(&config, &certificates, &issuer, &api, &kubelet)?;
    node::ensure_dns(&config, &api).await?;
    node::wait_ready(&config, &caches, Duration::from_secs(60)).await?;
    let took = progress.done();
    progress.note(&format!("  node {} is Ready after {:.1} s", config.node_name, took.as_secs_f64()));
    progress.note(detach::READY_LINE);
    let end = tokio::select! {
        signal = wait_for_signal() => signal,
        why = system.broken() => Err(anyhow::anyhow!("{why}; a supervisor should start troupe again")),
    };
    http.stop().await;
    system.shutdown(Duration::from_secs(5)).await;
    end
}

/// Starts the container runtime on a thread of its own, beside the control plane.
fn start_runtime_beside(config: Config) -> tokio::task::JoinHandle<Result<PathBuf>> {
    tokio::task::spawn_blocking(move || start_runtime(&config))
}

/// The runtime's socket: the one named, a running containerd's, or our own's.
fn start_runtime(config: &Config) -> Result<PathBuf> {
    if let Some(socket) = &config.container_runtime_endpoint {
        if !crate::containerd::answers(socket) {
            bail!("no runtime answers on {}; start it, or leave the choice to troupe", socket.display());
        }
        return Ok(socket.clone());
    }
    let layout = config.containerd();
    let system = PathBuf::from(crate::containerd::SYSTEM_SOCKET);
    let socket = if layout.running_pid().is_none() && crate::containerd::answers(&system) {
        system
    } else {
        layout.ensure()?;
        layout.socket()
    };
    if let Some(dir) = &config.image_dir {
        images::import_missing(&socket, dir).context("cannot import images")?;
    }
    Ok(socket)
}

async fn wait_for_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
