//! `troupe`: control plane and node of one machine in one process, and the commands to run and look at it.

mod actors;
mod backup;
mod config;
mod containerd;
mod down;
mod images;
mod instance;
mod memory;
mod remote;
mod restore;
mod state;
mod status;
mod trace;
mod up;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand};
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
    Status(Box<ClusterArgs>),
    /// Stop the cluster of this machine, pods included
    Down {
        #[command(flatten)]
        cluster: Box<ClusterArgs>,
        /// Remove the cluster's data as well
        #[arg(long)]
        purge: bool,
    },
    /// Show the live actor tree
    Actors {
        #[command(flatten)]
        cluster: Box<ClusterArgs>,
        #[command(flatten)]
        arguments: actors::ActorsArgs,
    },
    /// Show what led to an object and what came of it
    Trace {
        #[command(flatten)]
        cluster: Box<ClusterArgs>,
        #[command(flatten)]
        arguments: trace::TraceArgs,
    },
    /// Write the cluster's whole state into a file, also while it runs
    Backup {
        #[command(flatten)]
        cluster: Box<ClusterArgs>,
        /// The file to write
        file: PathBuf,
    },
    /// Put a backup in the place of the cluster's state, while it is down
    Restore {
        #[command(flatten)]
        cluster: Box<ClusterArgs>,
        #[command(flatten)]
        arguments: restore::RestoreArgs,
    },
    /// Print a completion script
    Completion { shell: clap_complete::Shell },
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

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("TROUPE_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    memory::refuse_huge_pages();
    match Cli::parse().command {
        Command::Up(arguments) => up::run(*arguments),
        Command::Status(arguments) => block_on(status::run(&arguments.resolve()?)),
        Command::Down { cluster, purge } => block_on(down::run(&cluster.resolve()?, purge)),
        Command::Actors { cluster, arguments } => block_on(actors::run(&cluster.resolve()?, &arguments)),
        Command::Trace { cluster, arguments } => block_on(trace::run(&cluster.resolve()?, &arguments)),
        Command::Backup { cluster, file } => block_on(backup::run(&cluster.resolve()?, &file)),
        Command::Restore { cluster, arguments } => block_on(restore::run(&cluster.resolve()?, &arguments)),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "troupe", &mut std::io::stdout());
            Ok(())
        }
        Command::Images(command) => images::run(command),
    }
}

/// Runs a command that talks to a cluster.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
