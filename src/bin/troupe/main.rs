//! `troupe`: control plane and node of one machine in one process, and the commands to run and look at it.
//!
//! The same executable is both daemons: `troupe control-plane` and `troupe node`, also when it is called by a link named
//! `troupe-control-plane` or `troupe-node`.

mod actors;
mod backup;
mod command_line;
mod config;
mod confinement;
mod containerd;
mod daemon;
mod descriptors;
mod down;
mod durable;
mod fatal;
mod help;
mod history;
mod images;
mod instance;
mod join;
mod log_files;
mod log_lines;
mod lookup;
mod memory;
mod net;
mod nodes;
mod remote;
mod restore;
mod state;
mod status;
mod token;
mod trace;
mod up;
mod upstream;
mod why;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

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
    /// Run a control plane, or parts of one
    ControlPlane(Box<daemon::control_plane::ControlPlaneArgs>),
    /// Run a node: kubelet, service proxy and pod network
    #[command(args_conflicts_with_subcommands = true)]
    Node {
        #[command(subcommand)]
        command: Option<nodes::command::NodeCommand>,
        #[command(flatten)]
        arguments: Box<daemon::node::NodeArgs>,
    },
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
    /// Show the live actors of all processes
    #[command(args_conflicts_with_subcommands = true)]
    Actors {
        #[command(subcommand)]
        command: Option<actors::ActorsCommand>,
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
    /// Tell why an object is not what it should be
    Why {
        #[command(flatten)]
        cluster: Box<ClusterArgs>,
        #[command(flatten)]
        arguments: why::WhyArgs,
    },
    /// Tell what becomes of packets in the cluster
    #[command(subcommand)]
    Net(net::NetCommand),
    /// Make, show and remove the tokens with which machines join the cluster
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Print a completion script
    Completion { shell: clap_complete::Shell },
    /// Build and import the container images that Troupe and its samples use
    #[command(subcommand)]
    Images(images::ImagesCommand),
}

/// Which cluster of this machine a command is about.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    settings: config::Settings,
    /// Configuration file; flags win over it [default: /etc/troupe/config.yaml if it exists]
    #[arg(long)]
    config: Option<PathBuf>,
}

/// What a command may be told otherwise than the record of the cluster has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    Nothing,
    /// Which credentials to look with.
    Credentials,
    /// Where the state is to be.
    State,
}

impl Otherwise {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Otherwise::Nothing => &[],
            Otherwise::Credentials => &["kubeconfig"],
            Otherwise::State => &["etcdServers", "etcdCafile", "etcdCertfile", "etcdKeyfile"],
        }
    }
}

impl ClusterArgs {
    /// The cluster's configuration, with the credentials that are named.
    fn resolve(self) -> Result<config::Config> {
        Ok(self.find(Otherwise::Credentials)?.config)
    }

    fn find(self, otherwise: Otherwise) -> Result<Found> {
        find(self.settings, self.config.as_deref(), otherwise)
    }
}

/// A cluster of this machine as a command finds it.
pub(crate) struct Found {
    pub config: config::Config,
    /// `None` where none was started since there are records.
    pub record: Option<instance::Record>,
}

/// Finds the cluster that flags are about: what is recorded is what counts, for the configuration file may have changed since.
/// Without a record flags, file and defaults do.
pub(crate) fn find(flags: config::Settings, file: Option<&Path>, otherwise: Otherwise) -> Result<Found> {
    let flags = flags.absolute()?;
    let with_file = flags.clone().with_file(file)?;
    let Some(record) = instance::find::of_command(&flags, &with_file)? else {
        return Ok(Found { config: with_file.resolve()?, record: None });
    };
    let told = otherwise.settings();
    instance::find::refuse_contradiction(&flags, &record, told)?;
    let (told, recorded) = match otherwise {
        // Also when it says that there is no etcd.
        Otherwise::State => (with_file.only(|setting| told.contains(&setting)), record.settings().only(|setting| !told.contains(&setting))),
        _ => (flags.only(|setting| told.contains(&setting)), record.settings()),
    };
    let mut config = told.or(recorded).or(flags).resolve()?;
    config.instance.clone_from(&record.id);
    Ok(Found { config, record: Some(record) })
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
    log_to_stderr()?;
    memory::refuse_huge_pages();
    descriptors::take_all();
    troupe_actors::runtime::panics::log_panics();
    fatal::remember_panics();
    let mut given = help::command().get_matches_from(upstream::take(arguments(std::env::args_os()))?);
    let command = Cli::from_arg_matches_mut(&mut given).unwrap_or_else(|error| error.format(&mut help::command()).exit()).command;
    if matches!(
        command,
        Command::Status(_) | Command::Actors { .. } | Command::Trace { .. } | Command::Why { .. } | Command::Net(_) | Command::Completion { .. }
    ) {
        end_with_the_reader();
    }
    if matches!(
        command,
        Command::Up(_) | Command::ControlPlane(_) | Command::Node { command: None, .. } | Command::Backup { .. } | Command::Restore { .. }
    ) {
        confinement::keep_private();
    }
    if matches!(command, Command::Up(_) | Command::ControlPlane(_) | Command::Node { command: None, .. }) {
        memory::be_killed_last();
    }
    match command {
        Command::Up(arguments) => up::run(*arguments),
        Command::ControlPlane(arguments) => daemon::control_plane::run(*arguments),
        Command::Node { command: Some(command), .. } => nodes::command::run(command),
        Command::Node { command: None, arguments } => daemon::node::run(*arguments),
        Command::Status(arguments) => block_on(status::run(&arguments.find(Otherwise::Credentials)?)),
        Command::Down { cluster, purge } => down::run(cluster.find(Otherwise::Nothing)?, purge),
        Command::Actors { command: Some(command), .. } => block_on(actors::command(command)),
        Command::Actors { command: None, cluster, arguments } => block_on(actors::run(&cluster.resolve()?, &arguments)),
        Command::Trace { cluster, arguments } => block_on(trace::run(&cluster.resolve()?, &arguments)),
        Command::Backup { cluster, file } => block_on(backup::run(&cluster.resolve()?, &file)),
        Command::Restore { cluster, arguments } => block_on(restore::run(&cluster.find(Otherwise::State)?.config, &arguments)),
        Command::Why { cluster, arguments } => block_on(why::run(&cluster.resolve()?, &arguments)),
        Command::Net(command) => block_on(net::run(command)),
        Command::Token(command) => block_on(token::run(command)),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut help::command(), "troupe", &mut std::io::stdout());
            Ok(())
        }
        Command::Images(command) => images::run(command),
    }
}

/// Logs as `$TROUPE_LOG` says.
fn log_to_stderr() -> Result<()> {
    const USUAL: &str = "info,actix_http::h1=off";
    let wanted = std::env::var("TROUPE_LOG").ok().filter(|wanted| !wanted.is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(USUAL)).context("TROUPE_LOG says nothing usable")?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| log_lines::Lines(std::io::stderr()))
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        // It would panic where the log is a file on a full disk.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(filter).with(lines).with(fatal::LastError).init();
    Ok(())
}

/// The command line, with the command that the name of the executable stands for.
fn arguments(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut given: Vec<OsString> = given.into_iter().collect();
    let called = given.first().and_then(|path| Path::new(path).file_name()).and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(command @ ("control-plane" | "node")) = called.strip_prefix("troupe-") {
        let command = command.into();
        given.insert(1, command);
    }
    given
}

/// Lets `troupe actors | head` end without a word when `head` has seen enough.
fn end_with_the_reader() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default action runs no code of this program.
    if let Err(error) = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) } {
        tracing::debug!(%error, "a closed pipe will be an error");
    }
}

/// Runs a command that talks to a cluster.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_executable_stands_for_a_command() {
        let seen =
            |given: &[&str]| arguments(given.iter().map(OsString::from)).into_iter().map(|a| a.into_string().expect("text")).collect::<Vec<_>>();
        assert_eq!(seen(&["/usr/bin/troupe-node", "--standalone"]), ["/usr/bin/troupe-node", "node", "--standalone"]);
        assert_eq!(seen(&["troupe-control-plane"]), ["troupe-control-plane", "control-plane"]);
        assert_eq!(seen(&["/x/daemons-troupe", "up"]), ["/x/daemons-troupe", "up"]);
    }
}
