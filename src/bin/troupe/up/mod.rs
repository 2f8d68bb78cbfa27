//! `troupe up`: a cluster on this machine, in this process.

pub mod audit;
pub mod cluster_info;
pub mod control_plane;
pub mod controllers;
mod detach;
pub mod doors;
pub mod identity;
pub mod network;
pub mod node;
pub mod preflight;
pub mod progress;
pub mod renewal;
pub mod sweep;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use troupe_actors::runtime::system::{System, SystemOptions};
use troupe_api::{
    audit::AuditLog,
    http::{Connect, ExtraRoute},
};

use self::{preflight::report, progress::Progress};
use crate::{
    config::{Config, Settings},
    daemon::{
        Running,
        control_plane::{Component, ControlPlane, Parts},
        node::{Node, Seat},
        runtime, until_told,
    },
    instance::PidFile,
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
    pub audit: Option<Arc<AuditLog>>,
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

fn print_hint(config: &Config) {
    println!("\nThe cluster is up. Point kubectl at it:\n\n    export KUBECONFIG={}\n    kubectl get nodes\n", config.kubeconfig.display());
}

/// Starts everything, waits for a signal, stops everything.
async fn serve(config: Config, mut progress: Progress) -> Result<()> {
    let pid_file = config.pid_file();
    let _pid_file = PidFile::claim(&pid_file)?;
    let system = System::new(SystemOptions { process: format!("up@{}", config.node_name), ..SystemOptions::default() })
        .context("cannot start the actor system")?;
    // Listening begins before the start and has no gap, so that no signal is lost.
    let mut told = std::pin::pin!(until_told(&system));
    let (node, control_plane) = tokio::select! {
        started = start(&config, &system, &mut progress) => started?,
        end = &mut told => {
            progress.note("  ✔ stopped before everything was up");
            system.shutdown(Duration::from_secs(5)).await;
            return end;
        }
    };
    progress.note(detach::READY_LINE);
    let end = told.await;
    node.stop().await;
    control_plane.stop().await;
    system.shutdown(Duration::from_secs(5)).await;
    progress.note("  ✔ stopped; the pods run on until troupe down");
    end
}

/// Starts everything and waits until the node is Ready.
async fn start(config: &Config, system: &System, progress: &mut Progress) -> Result<(Node, ControlPlane)> {
    let runtime = runtime::start_beside(config.clone());
    let parts = Parts { components: &Component::ALL, kubeconfig: None };
    let control_plane = ControlPlane::start(config, parts, system, progress).await?;
    let local = control_plane.local.as_ref().context("an API server was started")?;
    progress.begin("container runtime and images");
    let socket = runtime.await.context("the thread that starts the runtime broke")??;
    progress.begin("node");
    let seat = Seat {
        api: Some((node::node_client(config, local.api.clone()), control_plane.caches.clone())),
        gate: local.gate(),
        serving: local.shown.kubelet_serving.clone(),
        ca_pem: local.certificates.ca_pem.clone(),
    };
    let node = Node::start(config, &socket, seat, system).await?;
    node::ensure_dns(config, &local.api).await?;
    node::wait_ready(config, &control_plane.caches, Duration::from_secs(60)).await?;
    let took = progress.done();
    progress.note(&format!("  node {} is Ready after {:.1} s", config.node_name, took.as_secs_f64()));
    Ok((node, control_plane))
}
