//! `troupe actors`: the live actor tree.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::{config::Config, remote::Remote, up::doors};

/// What `troupe actors` shows.
#[derive(Debug, Args)]
pub struct ActorsArgs {
    /// Only actors below this path
    #[arg(default_value = "")]
    prefix: String,
    /// Everything the actors tell, as JSON
    #[arg(long)]
    json: bool,
}

/// What can be done to an actor.
#[derive(Debug, Subcommand)]
pub enum ActorsCommand {
    /// Let an actor panic, to see its supervisor at work
    Kill {
        #[command(flatten)]
        cluster: Box<crate::ClusterArgs>,
        /// Its path, as troupe actors shows it; the start of the path is enough where only one actor lives below
        path: String,
        /// When it panics
        #[arg(long, value_enum, value_name = "WHEN", required = true, num_args = 0..=1, require_equals = true, default_missing_value = "now")]
        panic: When,
    },
}

/// When a killed actor panics.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum When {
    Now,
    NextMessage,
}

/// Carries out a command.
pub async fn command(command: ActorsCommand) -> Result<()> {
    let ActorsCommand::Kill { cluster, path, panic } = command;
    let remote = Remote::open(&cluster.resolve()?.kubeconfig)?;
    let when = match panic {
        When::Now => "now",
        When::NextMessage => "next-message",
    };
    let reply = remote.post_json(&format!("{}?path={}&when={when}", doors::KILL, path.replace('/', "%2F"))).await?;
    println!("{} panics {}", text(&reply["killed"]), if when == "now" { "now" } else { "at its next message" });
    Ok(())
}

/// Prints the tree.
pub async fn run(config: &Config, arguments: &ActorsArgs) -> Result<()> {
    let remote = Remote::open(&config.kubeconfig)?;
    let actors = remote.get_json(doors::ACTORS).await?;
    let shown: Vec<&Value> = actors.as_array().into_iter().flatten().filter(|actor| text(&actor["path"]).starts_with(&arguments.prefix)).collect();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    let paths: std::collections::BTreeSet<String> = shown.iter().map(|actor| text(&actor["path"]).to_owned()).collect();
    let mut groups = std::collections::BTreeSet::new();
    println!("{:<58} {:>7} {:>8} {:>9} {:>9} {:>8}  STATE", "ACTOR", "MAILBOX", "HANDLED", "P50", "P99", "RESTARTS");
    for actor in shown {
        let path = text(&actor["path"]);
        let depth = path.matches('/').count();
        // A folder of actors that is none itself.
        for (level, (end, _)) in path.match_indices('/').enumerate() {
            let group = &path[..end];
            if !paths.contains(group) && groups.insert(group.to_owned()) {
                println!("{}{}", "  ".repeat(level), group.rsplit('/').next().unwrap_or(group));
            }
        }
        let name = format!("{}{}", "  ".repeat(depth), if depth == 0 { path } else { path.rsplit('/').next().unwrap_or(path) });
        println!(
            "{name:<58} {:>7} {:>8} {:>9} {:>9} {:>8}  {}",
            number(&actor["mailbox"]),
            number(&actor["handled"]),
            micros(&actor["p50Us"]),
            micros(&actor["p99Us"]),
            number(&actor["restarts"]),
            text(&actor["state"]),
        );
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn micros(value: &Value) -> String {
    let us = value.as_f64().unwrap_or(0.0);
    if us < 10_000.0 { format!("{us:.1}µs") } else { format!("{:.1}ms", us / 1000.0) }
}
