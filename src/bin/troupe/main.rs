//! `troupe`: control plane and node of one machine in one process, and the commands to run and look at it.

mod config;
mod containerd;
mod images;
mod instance;
mod remote;
mod status;
mod up;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A container orchestrator that speaks the Kubernetes API, built as a troupe of supervised actors
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster on this machine
    Up(Box<up::UpArgs>),
    /// Show whether a cluster is up here and how it is
    Status(ClusterArgs),
    /// Build and import the container images that Troupe and its samples use
    #[command(subcommand)]
    Images(images::ImagesCommand),
}

/// Which cluster of this machine a command is about.
#[derive(Debug, Args)]
struct ClusterArgs {
    #[command(flatten)]
    settings: config::Settings,
    /// Configuration file; flags win over it [default: /etc/troupe/config.yaml if it exists]
    #[arg(long)]
    config: Option<PathBuf>,
}

impl ClusterArgs {
    fn resolve(self) -> Result<config::Config> {
        self.settings.resolve(self.config.as_deref())
    }
}

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("TROUPE_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Up(arguments) => up::run(*arguments),
        Command::Status(arguments) => block_on(status::run(&arguments.resolve()?)),
        Command::Images(command) => images::run(command),
    }
}

/// Runs a command that talks to a cluster.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
