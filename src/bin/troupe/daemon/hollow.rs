//! `troupe node --hollow N`: nodes without containers, for tests of scale.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use troupe_actors::{
    hollow::{Hollow, HollowOptions},
    runtime::{
        cache::Caches,
        system::{System, SystemOptions},
    },
};
use troupe_api_client::{
    Client,
    remote::{RemoteApi, RemoteOptions},
};

use super::{STOPPING, until_told};
use crate::{
    config::{Settings, flag},
    up::control_plane,
};

/// Between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// What they take of the settings.
const TAKEN: [&str; 4] = ["kubeconfig", "apiServers", "nodeName", "nodeHeartbeat"];

/// Runs until it is told to stop; the nodes stay behind and soon look lost.
///
/// # Errors
/// When a setting has no effect, or the cluster cannot be used.
pub fn run(count: u32, flags: Settings, file: Option<&Path>) -> Result<()> {
    let idle: Vec<String> = flags.entries().into_keys().filter(|setting| !TAKEN.contains(&setting.as_str())).map(|setting| flag(&setting)).collect();
    if !idle.is_empty() {
        bail!("{} would have no effect on hollow nodes: leave it out", idle.join(", "));
    }
    let name = flags.node_name.clone().unwrap_or_else(|| "hollow".into());
    let flags = Settings { node_name: Some(name.clone()), ..flags };
    let config = flags.absolute()?.with_file(file)?.without_machine()?.resolve()?;
    actix::System::new().block_on(async move {
        let process = format!("hollow@{name}");
        let system = System::new(SystemOptions { process, ..SystemOptions::default() }).context("cannot start the actor system")?;
        let remote =
            RemoteOptions { servers: config.api_servers.clone(), user_agent: "troupe-hollow".into(), ..RemoteOptions::new(&config.kubeconfig) };
        let unusable = || format!("cannot use the kubeconfig {}: hollow nodes need the administrator's", config.kubeconfig.display());
        let client = Client::new(Arc::new(RemoteApi::new(remote).with_context(unusable)?), Arc::default(), "troupe-hollow");
        let caches = Caches::new(system.clone(), client.clone());
        let options =
            HollowOptions { name, count, heartbeat: config.node_heartbeat.unwrap_or(HEARTBEAT), version: control_plane::version().git_version };
        let begun = std::time::Instant::now();
        let hollow = Hollow::start(options, &client, &caches, &system);
        let told = until_told(&system);
        let ready = async {
            hollow.registered().await;
            println!("  ✔ {count} hollow nodes are registered after {:.1} s", begun.elapsed().as_secs_f64());
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = told => end,
            () = ready => unreachable!("it waits for ever"),
        };
        system.shutdown(STOPPING.min(Duration::from_secs(5))).await;
        end
    })
}
