//! `troupe status`: is a cluster up here, and is it well?

use anyhow::Result;
use serde_json::Value;

use crate::{config::Config, instance, remote::Remote};

/// Prints the state of the daemon, the API server, nodes and pods. An error when something is wrong.
pub async fn run(config: &Config) -> Result<()> {
    let whole = instance::running(&config.pid_file());
    let daemons = ["troupe-control-plane", "troupe-node"].map(|name| (name, instance::running(&config.daemon_pid_file(name))));
    if whole.is_none() && daemons.iter().all(|(_, pid)| pid.is_none()) {
        anyhow::bail!("troupe does not run on this machine; troupe up starts it");
    }
    if let Some(pid) = whole {
        println!("troupe      running (pid {pid})");
    }
    for (name, pid) in daemons.into_iter().filter_map(|(name, pid)| Some((name, pid?))) {
        println!("daemon      {name} running (pid {pid})");
    }
    match config.containerd().running_pid() {
        Some(pid) => println!("containerd  ours (pid {pid}), {}", config.containerd().socket().display()),
        None => println!("containerd  not ours"),
    }
    let remote = Remote::open(&config.kubeconfig)?;
    let (code, _) = remote.get("/readyz").await?;
    println!("API server  {} at {}", if code == 200 { "ready" } else { "not ready" }, remote.server());
    let nodes = remote.get_json("/api/v1/nodes").await?;
    for node in items(&nodes) {
        println!("node        {} {}", text(&node["metadata"]["name"]), if is_ready(node) { "Ready" } else { "NotReady" });
    }
    let pods = remote.get_json("/api/v1/pods").await?;
    let running = items(&pods).filter(|pod| pod["status"]["phase"] == "Running").count();
    println!("pods        {running} of {} running", items(&pods).count());
    println!("kubectl     export KUBECONFIG={}", config.kubeconfig.display());
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Whether a node's Ready condition is True.
pub fn is_ready(node: &Value) -> bool {
    node["status"]["conditions"].as_array().into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
