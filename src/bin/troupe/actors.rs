//! `troupe actors`: the live actor trees of all processes of the cluster, and their caches with how far they are behind.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use troupe_api_server::http::streaming::escaped;

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
        /// The process that it lives in, where several have one at this path
        #[arg(long)]
        process: Option<String>,
        /// When it panics
        #[arg(long, value_enum, value_name = "WHEN", required = true, num_args = 0..=1, require_equals = true, default_missing_value = "now")]
        panic: When,
    },
    /// Let an actor panic whenever it works on one object, to see that the others go on
    Poison {
        #[command(flatten)]
        cluster: Box<crate::ClusterArgs>,
        /// Its path, as troupe actors shows it
        path: String,
        /// The object, as NAMESPACE/NAME; none for an actor that has but one
        #[arg(default_value = "")]
        key: String,
        /// The process that it lives in, where several have one at this path
        #[arg(long)]
        process: Option<String>,
        /// No more
        #[arg(long)]
        end: bool,
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
    match command {
        ActorsCommand::Kill { cluster, path, process, panic } => kill(*cluster, &path, process, panic).await,
        ActorsCommand::Poison { cluster, path, key, process, end } => poison(*cluster, &path, &key, process, end).await,
    }
}

async fn poison(cluster: crate::ClusterArgs, path: &str, key: &str, process: Option<String>, end: bool) -> Result<()> {
    let when = if end { "cure" } else { "poison" };
    let reply = told(cluster, path, when, key, process).await?;
    let works = if key.is_empty() { "at all it does".to_owned() } else { format!("whenever it works on {key}") };
    println!("{} of {} panics {}{works}", text(&reply["killed"]), text(&reply["process"]), if end { "no more " } else { "" });
    Ok(())
}

async fn kill(cluster: crate::ClusterArgs, path: &str, process: Option<String>, panic: When) -> Result<()> {
    let (when, at) = match panic {
        When::Now => ("now", "now"),
        When::NextMessage => ("next-message", "at its next message"),
    };
    let reply = told(cluster, path, when, "", process).await?;
    println!("{} of {} panics {at}", text(&reply["killed"]), text(&reply["process"]));
    Ok(())
}

/// What the chaos switch answers.
async fn told(cluster: crate::ClusterArgs, path: &str, when: &str, key: &str, process: Option<String>) -> Result<Value> {
    let remote = Remote::open(&cluster.resolve()?.kubeconfig)?;
    let process = process.unwrap_or_default();
    let query = format!("path={}&when={when}&key={}&process={}", escaped(path), escaped(key), escaped(&process));
    remote.post_json(&format!("{}?{query}", doors::KILL)).await
}

/// The live actors of all processes, each with the name of its `process`.
pub async fn all(remote: &Remote) -> Result<Vec<Value>> {
    let answer = remote.get_json(doors::ACTORS).await?;
    let listed = items(&answer["processes"]).flat_map(|listed| items(&listed["actors"]).map(|actor| with_process(actor, &listed["process"])));
    Ok(listed.collect())
}

/// Prints the trees of all processes.
pub async fn run(config: &Config, arguments: &ActorsArgs) -> Result<()> {
    let remote = Remote::open(&config.kubeconfig)?;
    let answer = remote.get_json(doors::ACTORS).await?;
    for silent in items(&answer["silent"]) {
        eprintln!("{} does not answer: {}", text(&silent["process"]), text(&silent["why"]));
    }
    let starts = |actor: &&Value| text(&actor["path"]).starts_with(&arguments.prefix);
    let found = items(&answer["processes"]).map(|listed| (&listed["process"], items(&listed["actors"]).filter(starts).collect::<Vec<_>>()));
    let found: Vec<(&Value, Vec<&Value>)> = found.filter(|(_, actors)| !actors.is_empty()).collect();
    if arguments.json {
        let named = found.iter().flat_map(|(process, actors)| actors.iter().map(|actor| with_process(actor, process)));
        println!("{}", serde_json::to_string_pretty(&named.collect::<Vec<_>>())?);
        return Ok(());
    }
    println!("{:<60} {:>7} {:>8} {:>9} {:>9} {:>8}  STATE", "ACTOR", "MAILBOX", "HANDLED", "P50", "P99", "RESTARTS");
    for (process, actors) in found {
        println!("{} (pid {})", text(&process["name"]), number(&process["pid"]));
        print_tree(&actors);
    }
    Ok(())
}

fn with_process(actor: &Value, process: &Value) -> Value {
    let mut actor = actor.clone();
    actor["process"] = process["name"].clone();
    actor
}

/// The actors of one process.
fn print_tree(actors: &[&Value]) {
    let paths: BTreeSet<&str> = actors.iter().map(|actor| text(&actor["path"])).collect();
    let mut groups = BTreeSet::new();
    for actor in actors {
        let path = text(&actor["path"]);
        let depth = path.matches('/').count() + 1;
        // A folder of actors that is none itself.
        for (level, (end, _)) in path.match_indices('/').enumerate() {
            let group = &path[..end];
            if !paths.contains(group) && groups.insert(group.to_owned()) {
                println!("{}{}", "  ".repeat(level + 1), group.rsplit('/').next().unwrap_or(group));
            }
        }
        let name = format!("{}{}", "  ".repeat(depth), path.rsplit('/').next().unwrap_or(path));
        println!(
            "{name:<60} {:>7} {:>8} {:>9} {:>9} {:>8}  {}",
            number(&actor["mailbox"]),
            number(&actor["handled"]),
            micros(&actor["p50Us"]),
            micros(&actor["p99Us"]),
            number(&actor["restarts"]),
            state(actor),
        );
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// So many objects that are set aside are named; the others are counted.
const NAMED: usize = 10;

/// Its state, how far it is behind where it is a cache, and the objects that it has set aside.
fn state(actor: &Value) -> String {
    let aside: Vec<&str> = actor["status"]["quarantined"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    let named = aside[..aside.len().min(NAMED)].join(" ");
    let shown = match aside.len().saturating_sub(NAMED) {
        _ if aside.is_empty() => String::new(),
        0 => format!(", quarantined: {named}"),
        more => format!(", quarantined: {named} and {more} more"),
    };
    let behind = actor["status"]["lagSeconds"].as_f64().map(|lag| format!(", {lag:.1}s behind")).unwrap_or_default();
    format!("{}{behind}{shown}", text(&actor["state"]))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cache_shows_how_far_it_is_behind_and_a_unit_what_it_has_set_aside() {
        let cache = json!({"state": "running", "status": {"lagSeconds": 1.26}});
        assert_eq!(state(&cache), "running, 1.3s behind");
        let unit = json!({"state": "running", "status": {"quarantined": {"default/bad": {}}}});
        assert_eq!(state(&unit), "running, quarantined: default/bad");
        let many: Value = (0..NAMED + 2).map(|at| (format!("n{at:02}"), json!({}))).collect::<serde_json::Map<_, _>>().into();
        let all = state(&json!({"state": "running", "status": {"quarantined": many}}));
        assert!(all.ends_with("n08 n09 and 2 more"), "{all}");
        assert_eq!(state(&json!({"state": "starting", "status": null})), "starting");
    }
}
