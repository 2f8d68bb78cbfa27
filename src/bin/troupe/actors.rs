//! `troupe actors`: the live actor tree.

use anyhow::Result;
use clap::Args;
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
    /// Let the actor at this path panic, to see its supervisor at work
    #[arg(long, value_name = "PATH")]
    kill: Option<String>,
}

/// Prints the tree.
pub async fn run(config: &Config, arguments: &ActorsArgs) -> Result<()> {
    let remote = Remote::open(&config.kubeconfig)?;
    if let Some(path) = &arguments.kill {
        remote.get_json(&format!("{}?path={}", doors::POISON, path.replace('/', "%2F"))).await?;
        println!("{path} panics now");
        return Ok(());
    }
    let actors = remote.get_json(doors::ACTORS).await?;
    let shown: Vec<&Value> = actors.as_array().into_iter().flatten().filter(|actor| text(&actor["path"]).starts_with(&arguments.prefix)).collect();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    println!("{:<58} {:>7} {:>8} {:>9} {:>9} {:>8}  STATE", "ACTOR", "MAILBOX", "HANDLED", "P50", "P99", "RESTARTS");
    for actor in shown {
        let path = text(&actor["path"]);
        let depth = path.matches('/').count();
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
