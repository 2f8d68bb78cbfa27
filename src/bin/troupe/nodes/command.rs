//! `troupe node stop|start|partition|heal NAME`: drills on nodes that live in namespaces of this machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use super::down;
use crate::{
    ClusterArgs, Otherwise,
    config::Config,
    instance::{
        Record, claim,
        nodes::{Member, Nodes},
    },
};

/// A daemon claims its place within so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// `troupe node …`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Stop a node of this machine with its pods and its containerd, as if it were switched off
    Stop(DrillArgs),
    /// Start a node that was stopped
    Start(DrillArgs),
    /// Cut a node off from all others, as if its cable were pulled; its pods run on
    Partition(DrillArgs),
    /// Join a node again that was cut off
    Heal(DrillArgs),
}

#[derive(Debug, clap::Args)]
pub struct DrillArgs {
    #[command(flatten)]
    cluster: Box<ClusterArgs>,
    /// The node's name
    node: String,
}

/// Runs a drill.
///
/// # Errors
/// When there is no such node, or it resists.
pub fn run(command: NodeCommand) -> Result<()> {
    match command {
        NodeCommand::Stop(arguments) => {
            let (_, _, member) = change(&arguments, |member| member.stopped = true)?;
            down(&member, false)
        }
        NodeCommand::Start(arguments) => start(&arguments),
        NodeCommand::Partition(arguments) => connect(&arguments, false),
        NodeCommand::Heal(arguments) => connect(&arguments, true),
    }
}

fn start(arguments: &DrillArgs) -> Result<()> {
    let (config, _, member) = change(arguments, |member| member.stopped = false)?;
    if config.serving_pid().is_none() {
        bail!("the cluster does not run: {} starts with it (troupe up)", member.name);
    }
    let asked = Instant::now();
    while member.running().is_none() {
        if asked.elapsed() > PATIENCE {
            bail!("{} does not start; see {}", member.name, member.data_dir().join("troupe.log").display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("  ✔ {} starts", member.name);
    Ok(())
}

fn connect(arguments: &DrillArgs, connected: bool) -> Result<()> {
    let (config, nodes, member) = change(arguments, |member| member.cut = !connected)?;
    let number = *nodes.members.iter().find(|(_, known)| known.name == member.name).context("the node was there")?.0;
    let links = nodes.links(&config.instance);
    let work = || crate::block_on(async { Ok(links.connect(number, connected).await?) });
    let network = Record::read(&config.data_dir)?.and_then(|record| record.made.network).context("the cluster was never started")?;
    network
        .run(work)?
        .context("the network namespace of the cluster is gone")?
        .with_context(|| format!("cannot reach the link of {}", member.name))?;
    println!("  ✔ {} is {}", member.name, if connected { "joined again" } else { "cut off" });
    Ok(())
}

/// Writes down what is wanted of a node.
fn change(arguments: &DrillArgs, change: impl FnOnce(&mut Member)) -> Result<(Config, Nodes, Member)> {
    let found = arguments.cluster.clone().find(Otherwise::Nothing)?;
    let record = found.record.context("there is no cluster here: name its --data-dir")?;
    let mut nodes = record.nodes.context("all of this cluster's nodes are machines of their own: drills are for those of troupe up --nodes")?;
    let names = nodes.members.values().map(|member| member.name.clone()).collect::<Vec<_>>().join(", ");
    let (_, member) = nodes.find(&arguments.node).with_context(|| format!("{} is none of the nodes that live here: {names}", arguments.node))?;
    change(member);
    let member = member.clone();
    claim::note(&found.config, |record| record.nodes = Some(nodes.clone()))?;
    Ok((found.config, nodes, member))
}
